//! The workspace, and cargo's builds of it.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The workspace's directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// The cargo that started us, in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    command
}

/// debug or release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// cargo's `dev`.
    Debug,
    /// cargo's `release`.
    Release,
}

/// Something that a build left, as cargo reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// The target's name.
    pub name: String,
    /// cargo's kinds: `bin`, `lib`, `test`.
    pub kinds: Vec<String>,
    /// Whether it is a test harness.
    pub test: bool,
    /// The file.
    pub path: PathBuf,
    /// The package's directory.
    pub package: PathBuf,
}

impl Executable {
    /// What to call it when it runs as a harness: `tests: test load`.
    pub fn title(&self) -> String {
        let package = self.package.file_name().unwrap_or_default().to_string_lossy();
        format!("{package}: {} {}", self.kinds.join(" "), self.name)
    }
}

/// Builds the whole workspace. Always the whole, so that each command builds dependencies with the same features and
/// none makes another compile them again.
pub fn build(profile: Profile) -> Result<Vec<Executable>> {
    let mut command = cargo();
    command.args(["build", "--workspace"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    executables(command)
}

/// Builds the agent of another layout, which the tests upgrade to. Apart from [`build`], as a feature makes it what it is.
pub fn build_successor(profile: Profile) -> Result<Vec<Executable>> {
    let mut command = cargo();
    command.args(["build", "--package", "bulkhead", "--bin", "successor", "--features", "successor"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    executables(command)
}

/// Builds every test harness of the workspace.
pub fn build_tests() -> Result<Vec<Executable>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run"]);
    let built = executables(command)?;
    Ok(built.into_iter().filter(|executable| executable.test).collect())
}

/// The binary of that name.
pub fn binary<'a>(built: &'a [Executable], name: &str) -> Result<&'a Path> {
    let found = built.iter().find(|it| it.name == name && !it.test && it.kinds.iter().any(|kind| kind == "bin"));
    Ok(&found.with_context(|| format!("the workspace has no binary {name}"))?.path)
}

/// Runs a build; what people read goes to standard error.
pub fn executables(mut command: Command) -> Result<Vec<Executable>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().context("cargo does not start")?;
    let messages = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut built = Vec::new();
    for line in messages.lines() {
        built.extend(executable(&line.context("cargo's messages can't be read")?));
    }
    if !child.wait()?.success() {
        bail!("the build failed; the compiler's messages are above");
    }
    Ok(built)
}

/// The executable that one of cargo's messages tells of, if it does.
fn executable(message: &str) -> Option<Executable> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: PathBuf,
        profile: Harness,
        target: Target,
    }
    #[derive(Deserialize)]
    struct Harness {
        test: bool,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let Message { executable, mut manifest_path, profile, target } = serde_json::from_str(message).ok()?;
    manifest_path.pop();
    Some(Executable {
        name: target.name,
        kinds: target.kind,
        test: profile.test,
        path: executable?,
        package: manifest_path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINARY: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///tree/agent#bulkhead@0.1.0",
        "manifest_path":"/tree/agent/Cargo.toml","target":{"kind":["bin"],"crate_types":["bin"],"name":"bulkhead"},
        "profile":{"opt_level":"0","test":false},"features":[],"filenames":["/tree/target/debug/bulkhead"],
        "executable":"/tree/target/debug/bulkhead","fresh":true}"#;

    #[test]
    fn a_binary_is_found_by_its_name_but_its_test_harness_is_not() {
        let harness = BINARY.replace("\"test\":false", "\"test\":true");
        let built: Vec<_> = [harness.as_str(), BINARY].into_iter().filter_map(executable).collect();
        assert_eq!(built.len(), 2);
        assert_eq!(binary(&built, "bulkhead").expect("it is there"), Path::new("/tree/target/debug/bulkhead"));
        assert!(binary(&built[..1], "bulkhead").is_err());
        assert_eq!(built[1].package, Path::new("/tree/agent"));
    }

    #[test]
    fn messages_without_an_executable_are_passed_over() {
        let library = BINARY.replace("\"executable\":\"/tree/target/debug/bulkhead\"", "\"executable\":null");
        for message in [library.as_str(), r#"{"reason":"build-finished","success":true}"#, "not JSON"] {
            assert_eq!(executable(message), None);
        }
    }
}
