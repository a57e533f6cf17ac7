//! `cargo xtask setup`: what building and testing need, checked and installed.
//!
//! Level-triggered: look at the machine, install what is missing, look again, until nothing is or nothing helps. What is
//! missing is a plain function of what was found ([`need`]). Debian's packages come from apt; bpf-linker,
//! cargo-deny and promtool go to where `cargo install` puts programs, so that neither a package nor a service is added for them.

use std::process::ExitCode;

use anyhow::{Result, bail};

use machine::Machine;
pub use machine::target;
use need::Missing;
pub use need::{Purpose, programs_of_tests};

mod apt;
mod install;
mod linker;
mod machine;
mod need;
mod scratch;

/// Check what building, testing and linting need, and install what is missing.
///
/// On Debian 12 everything is installed, as root or by sudo: a Rust that compiles for BPF, bpf-linker for its LLVM,
/// rustfmt and clippy, and the programs that the tests and the bench use. Elsewhere it says what to install by hand.
/// BULKHEAD_EBPF_TOOLCHAIN chooses the compiler for BPF: `debian`, or a rustup toolchain such as `nightly`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only report; exit code 1 if something is missing
    #[arg(long)]
    check: bool,
}

/// Checks or installs everything.
pub fn run(options: &Options) -> Result<ExitCode> {
    let missing = look(Purpose::Everything).1;
    if missing.is_empty() {
        eprintln!("setup: everything is there, nothing to do");
        return Ok(ExitCode::SUCCESS);
    }
    if options.check {
        for it in &missing {
            eprintln!("setup: missing: {it}");
        }
        eprintln!("setup: `cargo xtask setup` installs it");
        return Ok(ExitCode::FAILURE);
    }
    ensure(Purpose::Everything)?;
    eprintln!("setup: done");
    Ok(ExitCode::SUCCESS)
}

/// Installs what a command needs and the machine lacks; quick and silent if it lacks nothing.
pub fn ensure(purpose: Purpose) -> Result<()> {
    let mut before = Vec::new();
    let mut packages = apt::Apt::default();
    loop {
        let (machine, missing) = look(purpose);
        if missing.is_empty() {
            return Ok(());
        }
        if !machine.debian {
            bail!("this is not Debian, so install by hand:\n{}", list(&missing));
        }
        if missing == before {
            bail!("still missing after it was installed:\n{}", list(&missing));
        }
        for it in &missing {
            eprintln!("setup: missing: {it}");
        }
        install::install(&missing, &machine, &mut packages)?;
        before = missing;
    }
}

fn look(purpose: Purpose) -> (Machine, Vec<Missing>) {
    let machine = Machine::look(purpose);
    let missing = need::missing(&machine, purpose);
    (machine, missing)
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(|it| format!("  {it}\n")).collect()
}
