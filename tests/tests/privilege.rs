//! What a running agent may do: what the manual says, and no more.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use bulkhead_tests::document::group;
use bulkhead_tests::lab::agent::command;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, cgroup};

/// The capabilities as people are told of them.
const MANUAL: &str = include_str!("../../docs/security.md");

const NOBODY: u32 = 65_534;

/// The numbers of include/uapi/linux/capability.h.
const NUMBERS: [(&str, u32); 4] =
    [("CAP_DAC_READ_SEARCH", 2), ("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

fn lab() -> Lab {
    let lab = Lab::new();
    lab.policy("groups.yaml", &group("web", 100, "web", &["ingress: []"]));
    lab
}

/// The set of capabilities that the manual lists, as the kernel prints sets.
fn documented() -> String {
    let listed = MANUAL.lines().filter_map(|line| line.strip_prefix("| `CAP_")?.split('`').next());
    let bit = |name: &str| {
        let number = NUMBERS.iter().find(|(known, _)| known.strip_prefix("CAP_") == Some(name));
        1_u64 << number.unwrap_or_else(|| panic!("CAP_{name} is listed in docs/security.md and not known here")).1
    };
    let set = listed.map(bit).fold(0, |set, bit| set | bit);
    assert_ne!(set, 0, "the table of docs/security.md is read");
    format!("{set:016x}")
}

/// What the kernel says of each thread, by the name of the line.
fn threads(agent: &Agent) -> Vec<Vec<(String, String)>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it runs");
    // A thread may end meanwhile.
    let texts = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let split = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
    texts.map(|text| text.lines().filter_map(split).collect()).collect()
}

#[test]
fn every_thread_has_the_documented_privileges_and_no_other() {
    let lab = lab();
    let agent = lab.agent();
    // So that there are threads that were started late.
    lab.policy("more.yaml", &group("db", 200, "db", &["ingress: []"]));
    agent.eventually("the edit is in force", || (agent.groups().len() == 2).then_some(()));
    assert!(!agent.metrics().is_empty());
    let threads = threads(&agent);
    assert!(threads.len() > 1, "only one thread is seen");
    let (kept, nothing) = (documented(), "0".repeat(16));
    for (name, expected) in [
        ("CapEff", kept.as_str()),
        ("CapPrm", &kept),
        ("CapBnd", &kept),
        ("CapInh", &nothing),
        ("CapAmb", &nothing),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        for thread in &threads {
            let value = thread.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            assert_eq!(value, Some(expected), "{name} of {thread:?}");
        }
    }
}

#[test]
fn nothing_but_what_it_keeps_is_needed_once_there_is_a_bpffs() {
    let lab = lab();
    let kept: Vec<u32> = NUMBERS.iter().map(|(_, number)| *number).collect();
    let mut command = command(lab.site(), &["--detach-on-exit"]);
    without(&mut command, move |capability| !kept.contains(&capability));
    let agent = lab.agent_by(command);
    assert!(agent.status().enforcing, "{}", agent.dump());
    assert_eq!(agent.stop().code(), Some(0));
}

#[test]
fn an_agent_that_lacks_a_capability_names_it() {
    let lab = lab();
    for (name, number) in NUMBERS {
        let mut command = command(lab.site(), &[]);
        without(&mut command, move |capability| capability == number);
        let output = command.output().expect("the agent's binary can be started");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{message}");
        assert!(message.contains(name) && message.contains("CapabilityBoundingSet="), "{message}");
        assert!(!lab.site().bpffs().join("bulkhead").exists(), "nothing is left behind");
    }
}

#[test]
fn a_cgroup_that_its_owner_hides_is_identified() {
    let mut lab = lab();
    let hidden = lab.site().cgroup_root.join("shop");
    cgroup::make(&hidden).expect("a cgroup");
    // As a rootless container engine with a strict umask leaves it.
    chown(&hidden, Some(NOBODY), Some(NOBODY)).expect("we are root");
    fs::set_permissions(&hidden, Permissions::from_mode(0o700)).expect("we are root");
    let server = lab.process("server", "app=web");
    let client = lab.outsider("client", "");
    server.serve(&[8000]);
    lab.declare(&server);
    let agent = lab.agent();
    assert_eq!(agent.groups_of("server"), Some(vec!["web".to_owned()]), "{}", agent.dump());
    assert_eq!(client.tcp(server.at(Version::V4, 8000)), Outcome::Silent, "{}", agent.dump());
    lab.policy("groups.yaml", &group("web", 100, "web", &["ingress: [{from: [{cidr: 0.0.0.0/0}]}]"]));
    agent.eventually("what is allowed reaches it", || {
        (client.tcp(server.at(Version::V4, 8000)) == Outcome::Reached).then_some(())
    });
}

#[test]
fn a_policy_that_others_can_write_is_refused_and_the_one_in_force_stays() {
    let mut lab = lab();
    let server = lab.container("server", "app=web");
    let client = lab.outsider("client", "");
    server.serve(&[8000]);
    lab.declare(&server);
    let file = lab.site().policies().join("groups.yaml");
    let allow = |mode| fs::set_permissions(&file, Permissions::from_mode(mode)).expect("it is ours");
    let cure = format!("chmod go-w {}", file.display());

    allow(0o666);
    let output = command(lab.site(), &[]).output().expect("the agent's binary can be started");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{message}");
    assert!(message.contains("can be written by everybody") && message.contains(&cure), "{message}");

    allow(0o644);
    let agent = lab.agent();
    assert_eq!(agent.groups_of("server"), Some(vec!["web".to_owned()]), "{}", agent.dump());
    let problem = || agent.status().problems.join("\n");
    for mode in [0o666, 0o664] {
        allow(mode);
        agent.eventually("it is refused", || problem().contains(&cure).then_some(()));
        assert_eq!(client.tcp(server.at(Version::V4, 8000)), Outcome::Silent, "{}", agent.dump());
        allow(0o644);
        agent.eventually("it is taken again, without an edit", || problem().is_empty().then_some(()));
    }
    // The same for whose it is, and for its directory.
    chown(&file, Some(NOBODY), None).expect("we are root");
    agent.eventually("it is refused", || problem().contains("chown root").then_some(()));
    chown(&file, Some(0), None).expect("we are root");
    agent.eventually("it is taken again", || problem().is_empty().then_some(()));
    fs::set_permissions(lab.site().policies(), Permissions::from_mode(0o777)).expect("it is ours");
    agent.eventually("it is refused", || problem().contains("the directory").then_some(()));
    fs::set_permissions(lab.site().policies(), Permissions::from_mode(0o1777)).expect("it is ours");
    agent.eventually("it is taken again", || problem().is_empty().then_some(()));
    assert_eq!(client.tcp(server.at(Version::V4, 8000)), Outcome::Silent, "{}", agent.dump());
}

/// Has a command start without these capabilities, as a unit or a container runtime would.
fn without(command: &mut Command, is_taken: impl Fn(u32) -> bool + Send + Sync + 'static) {
    // SAFETY: prctl is a plain system call, which may be made between fork and exec; the closure only compares numbers.
    unsafe {
        command.pre_exec(move || {
            for capability in (0..64).filter(|capability| is_taken(*capability)) {
                // One that this kernel does not know is not there.
                libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
            }
            Ok(())
        });
    }
}
