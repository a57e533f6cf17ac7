//! `cargo xtask lint`: format, clippy for the host and for BPF, documentation, what may be linked in, and the repository's own rules.
//!
//! Every step runs, whatever came of the one before; the failed ones are named at the end.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::deny;
use crate::setup::{self, Purpose};
use crate::tidy;
use crate::toolchain::{Arrangement, EbpfBuild, Found};
use crate::workspace;

/// Check format, clippy without warnings, documentation without warnings, dependencies, and the repository's rules.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Let rustfmt write the format instead of checking it
    #[arg(long)]
    fix_format: bool,
}

/// One step: its name, and what runs it.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 6] = [
    ("clippy", clippy),
    ("clippy for BPF", clippy_for_bpf),
    ("documentation", documentation),
    ("licences, bans and sources", deny::check),
    ("advisories", deny::advisories),
    ("tidy", tidy::check),
];

/// Runs every step.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(Purpose::Lint)?;
    let format: Step = if options.fix_format { ("format", write_format) } else { ("format", format) };
    let mut failed = Vec::new();
    for (name, step) in [format].into_iter().chain(STEPS) {
        eprintln!("lint: {name}");
        if let Err(problem) = step() {
            eprintln!("lint: {name}: {problem:#}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        eprintln!("lint: clean");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("lint: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn format() -> Result<()> {
    succeed(workspace::cargo().args(["fmt", "--all", "--check"]), "run `cargo fmt --all`")
}

fn write_format() -> Result<()> {
    succeed(workspace::cargo().args(["fmt", "--all"]), "rustfmt's message is above")
}

fn clippy() -> Result<()> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    succeed(workspace::cargo().args(arguments), "mend the warnings above, or `expect` them with a reason")
}

/// The same compiler as builds the object, so that what clippy sees is what is built.
fn clippy_for_bpf() -> Result<()> {
    let target = setup::target();
    let forced = Arrangement::forced();
    let found = Found::look(target, forced.as_ref());
    let arrangement = Arrangement::choose(forced, &found).map_err(anyhow::Error::msg)?;
    let ebpf = EbpfBuild {
        workspace: workspace::root(),
        // Not the build's own: other flags would have both compile everything again in turn.
        target_dir: &workspace::root().join("target/ebpf-lint"),
        target,
        host_arch: env::consts::ARCH,
    };
    succeed(&mut ebpf.clippy(&arrangement), "mend the warnings above, or `expect` them with a reason")
}

fn documentation() -> Result<()> {
    let mut command = workspace::cargo();
    command.args(["doc", "--quiet", "--workspace", "--locked", "--no-deps", "--document-private-items"]);
    succeed(command.env("RUSTDOCFLAGS", "--deny warnings"), "mend the warnings above")
}

fn succeed(command: &mut Command, advice: &'static str) -> Result<()> {
    let status = command.status().with_context(|| format!("{} does not start", command.get_program().display()))?;
    if !status.success() {
        bail!("{advice}");
    }
    Ok(())
}
