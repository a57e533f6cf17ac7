//! Installs what is missing, in as few steps as can be.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt::{Apt, succeed};
use super::linker;
use super::machine::Machine;
use super::need::{DEBIAN_RUST, Missing};
use crate::deny;
use crate::toolchain::{self, Arrangement};
use crate::workspace;

/// Installs what can be at this point: a linker waits for the compiler that it has to fit.
pub fn install(missing: &[Missing], machine: &Machine, apt: &mut Apt) -> Result<()> {
    let packages = packages(missing);
    if !packages.is_empty() {
        apt.install(&packages)?;
    }
    for it in missing {
        match it {
            Missing::Compiler(Some(name)) => {
                rustup(&["toolchain", "install", name, "--profile=minimal", "-c=rust-src"])?
            }
            Missing::Deny(_) => install_deny()?,
            Missing::Component(name) => rustup(&["component", "add", name])?,
            Missing::Program(it) if it.alone => apt.unpack(it.package, it.name, &tools()?)?,
            Missing::Linker(_) => {
                if let Some(arrangement) = &machine.arrangement {
                    install_linker(arrangement, apt)?;
                }
            }
            Missing::Compiler(None) | Missing::Program(_) => {}
        }
    }
    Ok(())
}

/// What one call of apt-get installs.
fn packages(missing: &[Missing]) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for it in missing {
        match it {
            Missing::Compiler(None) => packages.extend(DEBIAN_RUST),
            Missing::Program(it) if !it.alone => packages.push(it.package),
            _ => {}
        }
    }
    packages
}

/// Builds bpf-linker from crates.io against the LLVM that the arrangement's compiler has, in place of one that has
/// another.
fn install_linker(arrangement: &Arrangement, apt: &mut Apt) -> Result<()> {
    let llvm = linker::llvm(arrangement)?;
    if !linker::LLVMS.contains(&llvm) {
        bail!(
            "{} has LLVM {llvm}, for which bpf-linker {} can't be built (it knows {:?}): on Debian 12 enable \
             bookworm-security, whose rustc-web has LLVM 22, and run `apt-get upgrade`",
            arrangement.describe(),
            linker::VERSION,
            linker::LLVMS
        );
    }
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let (dev, polly) = (format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"));
    apt.install(&[&dev, &polly, "g++", "zlib1g-dev", "libzstd-dev"])?;
    if !Path::new(&prefix).join("bin/llvm-config").exists() {
        bail!("{dev} brought no {prefix}/bin/llvm-config: install bpf-linker by hand for LLVM {llvm}");
    }
    eprintln!("setup: cargo install bpf-linker {} for LLVM {llvm}, about a minute", linker::VERSION);
    let mut command = workspace::cargo();
    command.args(["install", "--quiet", "--locked", "--force", "bpf-linker", "--version", linker::VERSION]);
    command.args(["--no-default-features", "--features", &format!("llvm-{llvm}")]).env("LLVM_PREFIX", prefix);
    if let Some(root) = tools()?.parent() {
        command.arg("--root").arg(root);
    }
    succeed(&mut command).context("bpf-linker does not build")
}

/// Builds cargo-deny from crates.io, in place of another version.
fn install_deny() -> Result<()> {
    eprintln!("setup: cargo install cargo-deny {}, about two minutes", deny::VERSION);
    let mut command = workspace::cargo();
    command.args(["install", "--quiet", "--locked", "--force", "cargo-deny", "--version", deny::VERSION]);
    if let Some(root) = tools()?.parent() {
        command.arg("--root").arg(root);
    }
    succeed(&mut command).context("cargo-deny does not build")
}

/// Where programs go that no package installs: where cargo's are.
fn tools() -> Result<std::path::PathBuf> {
    toolchain::cargo_bin().context("neither CARGO_HOME nor HOME is set: set one, tools are installed below it")
}

fn rustup(arguments: &[&str]) -> Result<()> {
    let rustup = toolchain::find("rustup").context("rustup is not installed (https://rustup.rs)")?;
    eprintln!("setup: rustup {}", arguments.join(" "));
    succeed(Command::new(rustup).args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::need::PROGRAMS;

    #[test]
    fn one_call_of_apt_brings_the_compiler_and_the_programs_but_no_service() {
        let programs = PROGRAMS.iter().map(Missing::Program);
        let missing: Vec<_> =
            [Missing::Compiler(None), Missing::Linker(String::new())].into_iter().chain(programs).collect();
        let packages = packages(&missing);
        assert!(packages.starts_with(&DEBIAN_RUST), "{packages:?}");
        assert!(packages.contains(&"iproute2") && !packages.contains(&"prometheus"), "{packages:?}");
    }

    #[test]
    fn a_toolchain_from_rustup_takes_no_package() {
        assert!(packages(&[Missing::Compiler(Some("nightly".into())), Missing::Component("clippy")]).is_empty());
    }
}
