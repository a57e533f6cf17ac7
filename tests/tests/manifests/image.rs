//! The image. No test builds it, which takes a container engine: what it is told to copy is there, what it runs is known, and
//! the versions are the workspace's.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::documents::{base, detach, parsed, repository};
use super::{agent, container};
use bulkhead::cli::Cli;
use bulkhead_tests::lab::binaries;
use clap::Parser;

/// The Dockerfile's instructions with their arguments; lines that go on are one.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository("deploy/Dockerfile")).expect("there is one").replace("\\\n", "");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (instruction, arguments) = line.split_once(' ').expect("an instruction has arguments");
            (instruction.to_owned(), arguments.to_owned())
        })
        .collect()
}

fn arguments(instruction: &str) -> Vec<String> {
    let found = instructions().into_iter().filter(|(name, _)| name == instruction);
    found.map(|(_, arguments)| arguments).collect()
}

/// What is copied from the repository.
fn copied() -> Vec<String> {
    let copies = arguments("COPY").into_iter().filter(|it| !it.starts_with("--from"));
    copies
        .flat_map(|copy| {
            let mut words: Vec<String> = copy.split_whitespace().map(str::to_owned).collect();
            words.pop();
            words
        })
        .collect()
}

#[test]
fn what_the_image_copies_is_there_and_let_through() {
    let ignore = fs::read_to_string(repository(".dockerignore")).expect("there is one");
    let rules: Vec<&str> = ignore.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "what is not named is not sent");
    for source in copied() {
        assert!(repository(&source).exists(), "{source}");
        let is_let_through =
            rules.iter().filter_map(|rule| rule.strip_prefix('!')).any(|rule| match rule.strip_suffix('*') {
                Some(start) => source.starts_with(start),
                None => source == rule,
            });
        assert!(is_let_through, ".dockerignore keeps {source} away");
    }
}

#[test]
fn the_copied_workspace_is_whole_and_its_lock_fits() {
    let directory = tempfile::TempDir::with_prefix("bulkhead-image-").expect("a temporary directory");
    for source in copied() {
        let copy = Command::new("cp").arg("-r").arg(repository(&source)).arg(directory.path()).status();
        assert!(copy.expect("cp is everywhere").success(), "{source}");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--workspace", "--depth=0", "--locked", "--offline"])
        .current_dir(directory.path())
        .output()
        .expect("cargo starts");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    assert!(String::from_utf8_lossy(&tree.stdout).contains("bulkhead v"), "{tree:?}");
}

#[test]
fn what_the_image_runs_is_known_and_of_the_workspaces_versions() {
    let workspace = fs::read_to_string(repository("Cargo.toml")).expect("there is one");
    let rust = workspace.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
    let rust = rust.expect("the workspace says its Rust");
    let from = arguments("FROM");
    assert!(from[0].starts_with(&format!("rust:{rust}.")) && from[0].contains("-bookworm "), "{from:?}");
    assert!(from[1].contains("debian12"), "another C library than the one that it is built with: {from:?}");

    let [run] = &arguments("RUN")[..] else { panic!("one command builds the agent") };
    let xtask = run.strip_prefix("cargo xtask ").expect("by the command that people use");
    let help = Command::new(binaries::xtask()).args(xtask.split(' ')).arg("--help").output().expect("it starts");
    assert!(help.status.success(), "{}", String::from_utf8_lossy(&help.stderr));

    let entry: Vec<String> = serde_json::from_str(&arguments("ENTRYPOINT")[0]).expect("a list");
    let command: Vec<String> = serde_json::from_str(&arguments("CMD")[0]).expect("a list");
    assert!(arguments("COPY").iter().any(|it| it.ends_with(&format!("release/bulkhead {}", entry[0]))), "{entry:?}");
    Cli::try_parse_from([entry, command].concat()).expect("the agent knows these arguments");
    assert_eq!(arguments("USER"), ["0:0"]);
}

#[test]
fn image_and_manifests_are_of_one_version() {
    let version = env!("CARGO_PKG_VERSION");
    let labels = arguments("LABEL").concat();
    assert!(labels.contains(&format!("image.version=\"{version}\"")), "{labels}");
    let image = format!("bulkhead:{version}");
    assert_eq!(agent()["image"], image.as_str());
    assert_eq!(container(&detach(), "DaemonSet/bulkhead-detach", "initContainers")["image"], image.as_str());
    // Both meet the same nodes.
    for (manifests, name) in [(base(), "bulkhead"), (detach(), "bulkhead-detach")] {
        let pod = &manifests[&format!("DaemonSet/{name}")]["spec"]["template"]["spec"];
        let anywhere = &parsed(Path::new("deploy/kubernetes/base/daemonset.yaml"))[0]["spec"]["template"]["spec"];
        assert_eq!((&pod["tolerations"], &pod["nodeSelector"]), (&anywhere["tolerations"], &anywhere["nodeSelector"]));
    }
}
