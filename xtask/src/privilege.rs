//! Root's part: apt, and programs that attach to the kernel.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow, bail};

use crate::toolchain;

/// Whether this process runs as root.
pub fn is_root() -> bool {
    // The kernel gives /proc/self to the effective user.
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A command as root: as it is if we are root, else by sudo with our environment and PATH.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    let path = toolchain::joined_search_path();
    if is_root() {
        let mut command = Command::new(program);
        command.env("PATH", path);
        return Ok(command);
    }
    let Some(sudo) = toolchain::find("sudo") else {
        bail!("{} needs root, and there is no sudo: run this as root", program.as_ref().display());
    };
    let mut command = Command::new(sudo);
    // sudo puts its own PATH in the place of ours.
    let mut assignment = OsString::from("PATH=");
    assignment.push(path);
    command.arg("-E").arg("env").arg(assignment).arg(program);
    Ok(command)
}

/// Runs a program as root in our place, so that signals and the exit code are its own. Returns only if it can't start.
pub fn become_root<'a>(program: impl AsRef<OsStr>, arguments: impl Iterator<Item = &'a str>) -> Result<ExitCode> {
    let problem = as_root(&program)?.args(arguments).exec();
    Err(anyhow!(problem).context(format!("{} does not start", program.as_ref().display())))
}
