//! `cargo xtask build`: one self-contained binary.

use std::process::ExitCode;

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::workspace::{self, Profile};

/// Build the agent. The binary holds the eBPF programs with their BTF; it links the C library it was built with.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Build target/release/bulkhead, optimised
    #[arg(long)]
    release: bool,
}

/// Builds, and prints the binary's path.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(Purpose::Build)?;
    let built = workspace::build(if options.release { Profile::Release } else { Profile::Debug })?;
    println!("{}", workspace::binary(&built, "bulkhead")?.display());
    Ok(ExitCode::SUCCESS)
}
