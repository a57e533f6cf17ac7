//! What this machine has.

use std::path::Path;
use std::process::Stdio;

use super::linker::{self, Fit};
use super::need::{BPF_CLIPPY, COMPONENTS, PROGRAMS, Program, Purpose};
use crate::deny;
use crate::toolchain::{self, Arrangement, Found};
use crate::workspace;

/// What was found.
#[derive(Debug)]
pub struct Machine {
    /// Whether packages come from apt.
    pub debian: bool,
    /// The arrangement that the user asked for.
    pub forced: Option<Arrangement>,
    /// The arrangement to build with, if one is complete.
    pub arrangement: Option<Arrangement>,
    /// Whether bpf-linker links what that arrangement compiles.
    pub linker: Fit,
    /// What is wrong with cargo-deny, where it is needed.
    pub deny: Option<String>,
    /// Programs that are not there.
    pub absent: Vec<&'static Program>,
    /// Components that the rustup toolchain lacks.
    pub components: Vec<&'static str>,
}

impl Machine {
    /// Looks; a few short commands are started, none writes anything that lasts.
    pub fn look(purpose: Purpose) -> Self {
        let forced = Arrangement::forced();
        let found = Found::look(target(), forced.as_ref());
        let arrangement = Arrangement::choose(forced.clone(), &found).ok();
        let by_rustup = matches!(arrangement.as_ref().or(forced.as_ref()), Some(Arrangement::Rustup(_)));
        let lints = matches!(purpose, Purpose::Lint | Purpose::Everything);
        let clippy = (!by_rustup).then_some(&BPF_CLIPPY);
        Self {
            debian: Path::new("/etc/debian_version").exists() && toolchain::find("apt-get").is_some(),
            linker: linker::fit(arrangement.as_ref()),
            absent: PROGRAMS.iter().chain(clippy).filter(|it| toolchain::find(it.name).is_none()).collect(),
            deny: if lints { deny::unfit() } else { None },
            components: if lints { components() } else { Vec::new() },
            forced,
            arrangement,
        }
    }
}

/// The BPF target of this host.
pub fn target() -> &'static str {
    toolchain::target(if cfg!(target_endian = "big") { "big" } else { "little" })
}

/// A component counts as there if its subcommand starts: rustup's proxies exist without it.
fn components() -> Vec<&'static str> {
    let starts = |subcommand: &str| {
        let mut cargo = workspace::cargo();
        cargo.args([subcommand, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        cargo.status().is_ok_and(|status| status.success())
    };
    COMPONENTS.into_iter().filter(|(subcommand, _)| !starts(subcommand)).map(|(_, component)| component).collect()
}
