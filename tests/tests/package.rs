//! The Debian package: what is in it, that the unit and its settings are true of the agent, and that it can be installed,
//! upgraded and removed, in a root of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bulkhead::cli::Cli;
use bulkhead_tests::case::Way::Tcp;
use bulkhead_tests::case::{is_dropped, reaches, tried};
use bulkhead_tests::document::group;
use bulkhead_tests::lab::{Agent, Lab, Site, UPLINK, Workload, binaries};
use clap::{ArgAction, CommandFactory, Parser};
use tempfile::TempDir;

const UNIT: &str = include_str!("../../deploy/bulkhead.service");
const SETTINGS: &str = include_str!("../../deploy/bulkhead.default");
const VERSION: &str = env!("CARGO_PKG_VERSION");
const NEWER: &str = "99.0.0";

/// A package of the agent that was built already.
fn package(version: &str, directory: &Path) -> PathBuf {
    let mut command = Command::new(binaries::xtask());
    command.args(["package", "--fast", "--version", version, "--binary"]).arg(binaries::bulkhead());
    let output = command.arg("--output").arg(directory).output().expect("the workshop can be started");
    PathBuf::from(succeeds(&output).trim())
}

fn succeeds(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

fn temporary() -> TempDir {
    TempDir::with_prefix("bulkhead-package-").expect("the temporary directory is writable")
}

/// Each setting of the environment file, with its value.
fn settings() -> BTreeMap<&'static str, &'static str> {
    SETTINGS.lines().filter_map(|line| line.strip_prefix("#BULKHEAD_")?.split_once('=')).collect()
}

/// The settings that have an example in place of a default.
fn examples() -> Vec<&'static str> {
    let blocks = SETTINGS.split("\n\n").filter(|block| block.contains("; not set: "));
    blocks
        .filter_map(|block| block.lines().find_map(|line| Some(line.strip_prefix("#BULKHEAD_")?.split_once('=')?.0)))
        .collect()
}

/// The values of a key of the unit.
fn unit(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_environment_file_has_every_setting_of_the_agent_and_no_other_with_its_default() {
    let mut cli = Cli::command();
    cli.build();
    let run = cli.find_subcommand("run").expect("there is `bulkhead run`");
    let mut expected = BTreeMap::new();
    for option in run.get_arguments() {
        let Some(variable) = option.get_env() else { continue };
        let variable = variable.to_str().expect("it is ASCII").to_owned();
        let defaults = option.get_default_values().iter().map(|value| value.to_string_lossy());
        let defaults = match option.get_action() {
            ArgAction::SetTrue => "false".to_owned(),
            _ => defaults.collect::<Vec<_>>().join(","),
        };
        expected.insert(variable.strip_prefix("BULKHEAD_").expect("all begin so").to_owned(), defaults);
    }
    let mut settings: BTreeMap<_, _> = settings().into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    for example in examples() {
        settings.insert(example.to_owned(), String::new());
    }
    assert_eq!(settings, expected);
    for line in SETTINGS.lines() {
        let is_known = line.is_empty() || line.starts_with("# ") || line.starts_with("#BULKHEAD_");
        assert!(is_known, "neither a comment nor a setting that is its default: {line}");
    }
}

#[test]
fn the_agent_takes_every_value_of_the_environment_file() {
    for (name, value) in settings() {
        let mut command = Command::new(binaries::bulkhead());
        // Without a policy it ends, but only after it has understood what it was told.
        command.arg("run").arg("--bpffs=/nonexistent").arg("--policies=/nonexistent").env_clear();
        if !matches!(name, "BPFFS" | "POLICIES") {
            command.env(format!("BULKHEAD_{name}"), value);
        }
        if name == "KUBECONFIG" {
            // It says something together with this alone.
            command.env("BULKHEAD_KUBERNETES", "true");
        }
        let output = command.output().expect("the agent's binary can be started");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "BULKHEAD_{name}={value}: {message}");
        // This host's cgroup2 may be elsewhere.
        let is_understood = message.contains("/nonexistent") || name == "CGROUP_ROOT" && message.contains("cgroup2");
        assert!(is_understood, "BULKHEAD_{name}={value}: {message}");
    }
}

#[test]
fn what_the_unit_names_is_in_the_package_and_understood() {
    let directory = temporary();
    let contents = Contents::of(&package(VERSION, directory.path()));
    let [start] = unit("ExecStart")[..] else { panic!("the unit starts one program") };
    let arguments: Vec<&str> = start.split(' ').collect();
    assert_eq!(contents.mode(arguments[0]), "-rwxr-xr-x", "the unit starts it");
    Cli::try_parse_from(&arguments).expect("the agent knows these arguments");
    for file in unit("EnvironmentFile") {
        assert_eq!(contents.mode(file.trim_start_matches('-')), "-rw-r--r--");
    }
    assert_eq!(unit("RequiresMountsFor"), ["/etc/bulkhead /sys/fs/bpf"]);
    assert_eq!(contents.mode("/etc/bulkhead/policies"), "drwxr-xr-x");
    assert!(settings()["POLICIES"].starts_with("/etc/bulkhead"));
    assert_eq!(settings()["BPFFS"], "/sys/fs/bpf");
    let runtime = format!("/run/{}/", unit("RuntimeDirectory")[0]);
    assert!(settings()["ADMIN"].starts_with(&runtime), "the socket's directory is another than the unit makes");
}

/// What `dpkg-deb --contents` lists: mode and owner of each path.
struct Contents(BTreeMap<String, (String, String)>);

impl Contents {
    fn of(package: &Path) -> Self {
        let output = Command::new("dpkg-deb").arg("--contents").arg(package).output().expect("dpkg is there");
        let listed = succeeds(&output);
        let entries = listed.lines().map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let path = fields[5].trim_start_matches('.').trim_end_matches('/');
            (path.to_owned(), (fields[0].to_owned(), fields[1].to_owned()))
        });
        Self(entries.collect())
    }

    fn mode(&self, path: &str) -> &str {
        &self.0.get(path).unwrap_or_else(|| panic!("{path} is not among {:?}", self.0.keys())).0
    }
}

#[test]
fn the_package_holds_what_it_should_for_root_and_says_what_it_needs() {
    let directory = temporary();
    let package = package(VERSION, directory.path());
    let field = |name: &str| {
        let output = Command::new("dpkg-deb").arg("--field").arg(&package).arg(name).output().expect("dpkg is there");
        succeeds(&output).trim().to_owned()
    };
    let architecture = Command::new("dpkg").arg("--print-architecture").output().expect("dpkg is there");
    assert_eq!(field("Package"), "bulkhead");
    assert_eq!(field("Version"), VERSION);
    assert_eq!(field("Architecture"), succeeds(&architecture).trim());
    assert!(field("Depends").contains("libc6 (>= 2."), "{}", field("Depends"));
    let kib = fs::metadata(binaries::bulkhead()).expect("it is built").len() / 1024;
    let size: u64 = field("Installed-Size").parse().expect("a number of KiB");
    assert!((kib..kib + 512).contains(&size), "{size} KiB, and the binary alone {kib}");

    let contents = Contents::of(&package);
    let mut files = BTreeSet::new();
    for (path, (mode, owner)) in &contents.0 {
        assert_eq!(owner, "root/root", "{path}");
        let expected = match mode.chars().next() {
            Some('d') => "drwxr-xr-x",
            _ if path == "/usr/bin/bulkhead" => "-rwxr-xr-x",
            _ => "-rw-r--r--",
        };
        assert_eq!(mode, expected, "{path}");
        if !mode.starts_with('d') {
            files.insert(path.as_str());
        }
    }
    let examples = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies")).expect("there are examples");
    let examples: Vec<String> = examples
        .map(|entry| {
            let name = entry.expect("it can be listed").file_name();
            format!("/usr/share/doc/bulkhead/examples/{}", name.to_string_lossy())
        })
        .collect();
    let mut expected = BTreeSet::from([
        "/etc/default/bulkhead",
        "/usr/bin/bulkhead",
        "/usr/lib/systemd/system/bulkhead.service",
        "/usr/share/bash-completion/completions/bulkhead",
        "/usr/share/doc/bulkhead/copyright",
        "/usr/share/fish/vendor_completions.d/bulkhead.fish",
        "/usr/share/zsh/vendor-completions/_bulkhead",
    ]);
    expected.extend(examples.iter().map(String::as_str));
    let pages = pages(Cli::command(), "/usr/share/man/man8/");
    expected.extend(pages.iter().map(String::as_str));
    assert_eq!(files, expected);
}

/// The file of each manual page: of a command, and of those below it.
fn pages(command: clap::Command, prefix: &str) -> Vec<String> {
    let name = format!("{prefix}{}", command.get_name());
    let below = command.get_subcommands().flat_map(|sub| pages(sub.clone(), &format!("{name}-")));
    [format!("{name}.8.gz")].into_iter().chain(below).collect()
}

/// A system as small as it can be, with the libraries that the agent is linked with, and dpkg's knowledge of them.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(temporary());
        for directory in ["bin", "dev", "proc", "tmp", "run", "sys/fs/bpf", "var/lib/dpkg/info", "var/lib/dpkg/updates"]
        {
            fs::create_dir_all(root.path(directory)).expect("it is ours");
        }
        let busybox = find("busybox");
        fs::copy(busybox, root.path("bin/busybox")).expect("room for a copy");
        for applet in ["sh", "sed", "tail", "grep"] {
            symlink("busybox", root.path("bin").join(applet)).expect("it is ours");
        }
        let linked = Command::new("ldd").arg(binaries::bulkhead()).output().expect("the C library brings ldd");
        for library in succeeds(&linked).split_whitespace().filter(|word| word.starts_with('/')) {
            let place = root.path(&library[1..]);
            fs::create_dir_all(place.parent().expect("it is a file")).expect("it is ours");
            fs::copy(library, place).expect("room for a copy");
        }
        // These are there, in the versions of this system: so what the package depends on is seen to be fulfilled.
        let query = Command::new("dpkg-query").args(["--status", "libc6", "libgcc-s1", "gcc-12-base"]).output();
        let known = query.expect("dpkg is there").stdout;
        fs::write(root.path("var/lib/dpkg/status"), known).expect("it is ours");
        root
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    /// Runs dpkg on this root, with the lab's directory at its own path inside, in the lab's network namespace.
    fn dpkg(&self, site: Option<&Site>, arguments: &[&str]) -> Output {
        let script = "set -e
            root=$1; lab=$2; shift 2
            mount --rbind /dev \"$root/dev\"
            mount --rbind /proc \"$root/proc\"
            if [ -n \"$lab\" ]; then mkdir -p \"$root$lab\"; mount --rbind \"$lab\" \"$root$lab\"; fi
            exec dpkg --root=\"$root\" --force-confold \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(self.0.path());
        command.arg(site.map_or(Path::new(""), |site| &site.directory)).args(arguments);
        if let Some(site) = site {
            site.host.place(&mut command);
        }
        command.output().expect("util-linux is essential")
    }

    fn install(&self, site: Option<&Site>, package: &Path) -> String {
        succeeds(&self.dpkg(site, &["--install", package.to_str().expect("the name is ASCII")]))
    }

    /// Every file that is not dpkg's own.
    fn files(&self) -> BTreeSet<PathBuf> {
        fn walk(directory: &Path, files: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(directory).expect("it can be listed").flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("var/lib/dpkg") {
                    walk(&path, files);
                }
                files.insert(path);
            }
        }
        let mut files = BTreeSet::new();
        walk(self.0.path(), &mut files);
        files
    }
}

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH is set");
    let found = std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{program} is missing: run `cargo xtask setup`"))
}

/// Both versions, for as long as their directory is held.
fn packages() -> (TempDir, [PathBuf; 2]) {
    let directory = temporary();
    let packages = [VERSION, NEWER].map(|version| package(version, directory.path()));
    (directory, packages)
}

#[test]
fn it_is_installed_upgraded_and_removed_and_leaves_nothing() {
    let root = Root::new();
    let before = root.files();
    let (_directory, [old, new]) = packages();
    let said = root.install(None, &old);
    assert!(said.contains("there is no policy yet") && said.contains("bulkhead check"), "{said}");
    let bulkhead = root.path("usr/bin/bulkhead");
    let version = Command::new(&bulkhead).arg("--version").output().expect("it can be started");
    assert_eq!(succeeds(&version).trim(), format!("bulkhead {VERSION}"));
    let examples = root.path("usr/share/doc/bulkhead/examples");
    let checked = succeeds(&Command::new(&bulkhead).arg("check").arg(examples).output().expect("it can be started"));
    assert!(checked.starts_with("ok: "), "{checked}");

    let settings = root.path("etc/default/bulkhead");
    let edited = format!("{SETTINGS}BULKHEAD_LOG_FORMAT=json\n");
    fs::write(&settings, &edited).expect("it is ours");
    let policy = root.path("etc/bulkhead/policies/mine.yaml");
    fs::write(&policy, group("web", 100, "web", &["ingress: []"])).expect("it is ours");
    let said = root.install(None, &new);
    assert!(said.contains("what is enforced stays enforced"), "{said}");
    assert_eq!(fs::read_to_string(&settings).expect("it is there"), edited, "an edited file was replaced");

    let said = succeeds(&root.dpkg(None, &["--remove", "bulkhead"]));
    assert!(said.contains("nothing was attached"), "{said}");
    assert!(!bulkhead.exists() && settings.exists() && policy.exists(), "settings and policies are the owner's");
    fs::remove_file(&policy).expect("it was left");
    succeeds(&root.dpkg(None, &["--purge", "bulkhead"]));
    let after = root.files();
    let left: Vec<_> = after.difference(&before).filter(|path| !path.starts_with(root.path("var"))).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// Has the root look like one that systemd runs, with a systemctl that only notes what it is asked.
fn with_systemd(root: &Root) {
    fs::create_dir_all(root.path("run/systemd/system")).expect("it is ours");
    let systemctl = root.path("bin/systemctl");
    fs::write(&systemctl, "#!/bin/sh\necho \"$*\" >> /tmp/asked\n").expect("it is ours");
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// What systemd was asked since the last look.
fn asked(root: &Root) -> Vec<String> {
    let text = fs::read_to_string(root.path("tmp/asked")).unwrap_or_default();
    fs::write(root.path("tmp/asked"), "").expect("it is ours");
    text.lines().map(|line| line.replace(".service", "")).collect()
}

#[test]
fn systemd_starts_it_only_with_a_policy_restarts_it_at_an_upgrade_and_stops_it_at_a_removal() {
    let root = Root::new();
    with_systemd(&root);
    let (_directory, [old, new]) = packages();
    root.install(None, &old);
    assert_eq!(asked(&root), ["daemon-reload"], "without a policy");
    succeeds(&root.dpkg(None, &["--purge", "bulkhead"]));
    assert_eq!(asked(&root), ["stop bulkhead", "disable bulkhead", "daemon-reload"]);

    fs::create_dir_all(root.path("etc/bulkhead/policies")).expect("it is ours");
    fs::write(root.path("etc/bulkhead/policies/mine.yml"), group("web", 100, "web", &[])).expect("it is ours");
    root.install(None, &old);
    assert_eq!(asked(&root), ["daemon-reload", "enable bulkhead", "start bulkhead"], "with a policy");
    root.install(None, &new);
    assert_eq!(asked(&root), ["daemon-reload", "try-restart bulkhead"], "upgraded");

    // A stop would open the host until the next start.
    let settings = root.path("etc/default/bulkhead");
    for yes in ["true", "\"1\"", "yes"] {
        fs::write(&settings, format!("BULKHEAD_DETACH_ON_EXIT={yes}\n")).expect("it is ours");
        let said = root.install(None, &new);
        assert!(said.contains("not restarted"), "{said}");
        assert_eq!(asked(&root), ["daemon-reload", "--quiet is-active bulkhead"], "{yes}");
    }
    fs::write(&settings, "BULKHEAD_DETACH_ON_EXIT=false\n").expect("it is ours");
    root.install(None, &new);
    assert_eq!(asked(&root), ["daemon-reload", "try-restart bulkhead"], "detached on exit: no");
}

struct Scene {
    server: Workload,
    client: Workload,
    root: Root,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let (server, client) = (lab.container("server", "app=server"), lab.device("client", "app=client"));
        server.serve(&[8000, 9000]);
        lab.declare(&server);
        lab.declare(&client);
        let rule = "ingress: [{from: [{group: client}], ports: [{protocol: tcp, port: 8000}]}]";
        lab.policy(
            "groups.yaml",
            &[group("server", 100, "server", &[rule]), group("client", 200, "client", &[])].concat(),
        );
        Self { server, client, root: Root::new(), lab }
    }

    /// Starts what is installed, as the unit does: with what is in the environment file.
    fn agent(&self) -> Agent {
        let text = fs::read_to_string(self.root.path("etc/default/bulkhead")).expect("it is installed");
        let settings = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let mut command = Command::new(self.root.path("usr/bin/bulkhead"));
        command.arg("run").env_clear().envs(settings);
        self.lab.site().host.place(&mut command);
        self.lab.agent_by(command)
    }

    fn is_enforced(&self, when: &str) {
        let Self { server, client, .. } = self;
        tried(&[reaches(client, Tcp(8000), server), is_dropped(client, Tcp(9000), server)]).end(|| when.to_owned());
    }
}

#[test]
fn an_upgrade_keeps_what_is_enforced_and_a_removal_takes_it_away_or_does_not_happen() {
    let scene = Scene::new();
    let site = scene.lab.site();
    let (_directory, [old, new]) = packages();
    scene.root.install(Some(site), &old);
    let values = [
        ("POLICIES", site.policies()),
        ("CGROUP_ROOT", site.cgroup_root.clone()),
        ("BPFFS", site.bpffs()),
        ("ADMIN", site.admin()),
        ("UPLINK", UPLINK.into()),
    ];
    let lines: String = values.iter().map(|(name, value)| format!("BULKHEAD_{name}={}\n", value.display())).collect();
    fs::write(scene.root.path("etc/default/bulkhead"), format!("{SETTINGS}{lines}")).expect("it is ours");

    let agent = scene.agent();
    scene.is_enforced("by the installed agent");
    scene.root.install(Some(site), &new);
    scene.is_enforced("while it is upgraded");
    assert!(agent.is_ready(), "the old one was stopped");
    agent.stop();
    scene.is_enforced("between the old one and the new one");
    let agent = scene.agent();
    scene.is_enforced("by the new one");

    let refused = scene.root.dpkg(Some(site), &["--remove", "bulkhead"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && message.contains("not removed"), "while an agent runs: {refused:?}");
    assert!(scene.root.path("usr/bin/bulkhead").exists(), "with it goes the way to manage what is enforced");
    scene.is_enforced("after a removal that was refused");
    agent.stop();

    let said = succeeds(&scene.root.dpkg(Some(site), &["--purge", "bulkhead"]));
    assert!(said.contains("removed link"), "{said}");
    assert!(!site.bpffs().join("bulkhead").exists(), "pins are left behind");
    let Scene { server, client, .. } = &scene;
    tried(&[reaches(client, Tcp(9000), server)]).end(|| "after the removal".to_owned());
    assert!(!scene.root.path("etc/default/bulkhead").exists() && !scene.root.path("usr/bin/bulkhead").exists());
}
