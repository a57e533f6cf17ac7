//! cargo-deny: licences, banned and foreign crates, and advisories against what is in Cargo.lock, as deny.toml says.
//!
//! Advisories need their database from the network. Where it can't be had they are skipped, and that is said: a lint that fails
//! without a network would be left out there altogether.

use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::toolchain;
use crate::workspace;

/// The version whose configuration deny.toml is.
pub const VERSION: &str = "0.20.2";

/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong with the installed cargo-deny, if anything is.
pub fn unfit() -> Option<String> {
    let Some(path) = toolchain::find("cargo-deny") else { return Some("it is not installed".into()) };
    let output = Command::new(&path).arg("--version").output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    (said != format!("cargo-deny {VERSION}")).then(|| format!("{} says that it is `{said}`", path.display()))
}

/// Checks all that needs no network.
pub fn check() -> Result<()> {
    succeed(command()?.args(["--locked", "check", "bans", "licenses", "sources"]))
}

/// Checks the advisories, if they can be had.
pub fn advisories() -> Result<()> {
    let child = command()?.args(["--locked", "fetch", "db"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let why = match within(child, PATIENCE)? {
        Some(output) if output.status.success() => {
            return succeed(command()?.args(["--locked", "check", "--disable-fetch", "advisories"]));
        }
        Some(output) => reason(&String::from_utf8_lossy(&output.stderr)),
        None => format!("it took longer than {} seconds", PATIENCE.as_secs()),
    };
    eprintln!("lint: advisories: SKIPPED, their database can't be fetched: {why}");
    Ok(())
}

/// The last line that git or cargo-deny said.
fn reason(stderr: &str) -> String {
    stderr.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason is given").to_owned()
}

/// What a command that ends in time leaves; one that does not is killed.
fn within(mut child: Child, patience: Duration) -> Result<Option<Output>> {
    let deadline = Instant::now() + patience;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Some(child.wait_with_output()?))
}

fn command() -> Result<Command> {
    let path = toolchain::find("cargo-deny").context("cargo-deny is not installed: run `cargo xtask setup`")?;
    let mut command = Command::new(path);
    // It asks git, which is not to ask anybody.
    command.current_dir(workspace::root()).env("GIT_TERMINAL_PROMPT", "0");
    Ok(command)
}

fn succeed(command: &mut Command) -> Result<()> {
    if !command.args(["--hide-inclusion-graph"]).status()?.success() {
        bail!("choose another crate or version, or change deny.toml and say why there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_check_says_what_went_wrong_last() {
        let said = "[ERROR] failed to fetch database\nfatal: unable to access: Could not resolve host\n\n";
        assert_eq!(reason(said), "fatal: unable to access: Could not resolve host");
        assert_eq!(reason(" \n"), "no reason is given");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let start = |seconds: &str| Command::new("sleep").arg(seconds).stderr(Stdio::piped()).spawn().expect("sleep");
        let begun = Instant::now();
        assert!(within(start("600"), Duration::from_millis(100)).expect("it can be ended").is_none());
        assert!(within(start("0"), Duration::from_secs(60)).expect("it ends").is_some());
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
