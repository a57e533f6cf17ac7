//! What can be wrong when the agent starts: each time a message that says what and what to do, the exit code of the manual, and
//! nothing half-attached.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::{METRICS, command, run};
use bulkhead_tests::lab::{Lab, binaries};

const NOBODY: u32 = 65_534;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.policy("groups.yaml", &group("web", 100, "web", &["ingress: []"]));
    lab
}

/// Starts the agent, which is to fail with this code and say all of these.
fn fails(lab: &Lab, arguments: &[&str], code: i32, says: &[&str]) {
    let output = command(lab.site(), arguments).output().expect("the agent's binary can be started");
    is_told(&output, code, says);
    let pins = lab.site().bpffs().join("bulkhead");
    assert!(!pins.exists(), "{} is left behind: {output:?}", pins.display());
    assert!(!lab.site().admin().exists(), "the admin socket is left behind: {output:?}");
}

fn is_told(output: &Output, code: i32, says: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for part in says {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn whoever_is_not_root_is_told_to_use_sudo() {
    let lab = lab();
    // A copy, because the workspace may lie where nobody else may look.
    let binary = lab.site().directory.join("bulkhead");
    fs::copy(binaries::bulkhead(), &binary).expect("room for a copy");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("it is ours");
    for subcommand in [["run", "--metrics=none"].as_slice(), &["detach"]] {
        let mut command = Command::new(&binary);
        command.args(subcommand).arg("--bpffs").arg(lab.site().bpffs()).arg("--admin").arg(lab.site().admin());
        command.env("BULKHEAD_POLICIES", lab.site().policies()).uid(NOBODY).gid(NOBODY);
        is_told(&command.output().expect("it can be started"), 77, &["only root", "sudo"]);
    }
    let agent = lab.agent();
    let mut status = Command::new(&binary);
    status.arg("status").arg("--admin").arg(lab.site().admin()).uid(NOBODY).gid(NOBODY);
    is_told(&status.output().expect("it can be started"), 77, &["only root", "sudo"]);
    drop(agent);
}

#[test]
fn an_uplink_that_does_not_exist_is_named() {
    let lab = lab();
    fails(&lab, &["--uplink", "nosuch0"], 78, &["nosuch0", "--uplink"]);
    fails(&lab, &["--uplink", "none"], 2, &["none"]);
}

#[test]
fn a_cgroup_root_that_is_none_is_refused() {
    let lab = lab();
    let mut command = command(lab.site(), &[]);
    command.env_clear();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let position = arguments.iter().position(|argument| argument == "--cgroup-root").expect("the lab gives one");
    let mut arguments = arguments;
    arguments[position + 1] = lab.site().directory.clone().into();
    let mut command = Command::new(binaries::bulkhead());
    command.args(arguments);
    lab.site().host.place(&mut command);
    is_told(&command.output().expect("it can be started"), 78, &["cgroup", "--cgroup-root"]);
    assert!(!lab.site().bpffs().join("bulkhead").exists());
}

#[test]
fn a_metrics_port_in_use_is_named() {
    let lab = lab();
    let _held = lab.site().host.enter(|| Ok(TcpListener::bind(METRICS)?)).expect("the port is free");
    fails(&lab, &[], 75, &["127.0.0.1:9469", "--metrics"]);
}

#[test]
fn an_admin_path_that_is_no_socket_is_left_alone() {
    let lab = lab();
    let path = lab.site().directory.join("precious");
    fs::write(&path, "contents").expect("a file");
    let output = run_at(&lab, &["--admin"], &path);
    is_told(&output, 78, &["precious", "no socket", "--admin"]);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "contents");
}

/// The agent with another admin socket.
fn run_at(lab: &Lab, flag: &[&str], path: &std::path::Path) -> Output {
    let site = lab.site();
    let mut command = Command::new(binaries::bulkhead());
    command.args(["run", "--metrics", "none", "--uplink", "none", "--policies"]).arg(site.policies());
    command.arg("--cgroup-root").arg(&site.cgroup_root).arg("--bpffs").arg(site.bpffs()).args(flag).arg(path);
    site.host.place(&mut command);
    command.output().expect("it can be started")
}

#[test]
fn an_empty_directory_of_policies_is_no_policy() {
    let lab = Lab::new();
    let policies = lab.site().policies();
    fails(&lab, &[], 78, &[&policies.display().to_string()]);
    fs::remove_dir(&policies).expect("it is empty");
    fails(&lab, &[], 78, &[&policies.display().to_string()]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let lab = lab();
    // Root may read any file, but not one that is not there.
    symlink("gone.yaml", lab.site().policies().join("dangling.yaml")).expect("a link");
    fails(&lab, &[], 78, &["dangling.yaml"]);
}

#[test]
fn a_broken_policy_is_refused_with_every_problem_and_its_place() {
    let lab = lab();
    let broken = group("db", 200, "db", &["ingress: [{from: [{group: nosuch}, {cidr: 10.0.0.1/8}]}]", "nonsense: yes"]);
    lab.policy("broken.yaml", &broken);
    fails(&lab, &[], 78, &["broken.yaml:", "nosuch", "10.0.0.1/8", "10.0.0.0/8", "nonsense", "check"]);
    lab.policy("broken.yaml", "apiVersion: [");
    fails(&lab, &[], 78, &["broken.yaml:"]);
}

#[test]
fn a_failed_start_leaves_what_an_earlier_agent_enforces() {
    let lab = lab();
    lab.agent().kill();
    let pins = lab.site().bpffs().join("bulkhead");
    assert!(pins.exists());
    lab.policy("groups.yaml", "nonsense: yes");
    let output = command(lab.site(), &[]).output().expect("it can be started");
    is_told(&output, 78, &["groups.yaml:"]);
    lab.policy("groups.yaml", &group("web", 100, "web", &[]));
    let output = command(lab.site(), &["--uplink", "nosuch0"]).output().expect("it can be started");
    is_told(&output, 78, &["nosuch0"]);
    assert!(pins.exists(), "what was enforced stays enforced");
}

#[test]
fn without_an_agent_the_commands_say_so() {
    let lab = lab();
    for question in ["status", "workloads", "groups", "flows"] {
        let output = run(lab.site(), &[question]).expect("it can be started");
        is_told(&output, 69, &["no agent", "bulkhead run"]);
    }
}

#[test]
fn a_wrong_option_is_a_matter_of_usage() {
    let lab = lab();
    fails(&lab, &["--nonsense"], 2, &["--nonsense"]);
    fails(&lab, &["--managed-scope", "a=maybe"], 2, &["maybe"]);
    let output = run(lab.site(), &["flows", "--verdict", "drop"]).expect("it can be started");
    is_told(&output, 2, &["drop"]);
}
