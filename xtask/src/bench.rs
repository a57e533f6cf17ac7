//! `cargo xtask bench`: measurements against the project's targets.

use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Purpose};
use crate::workspace::{self, Profile};

/// Build in release and measure. Exit code 1 where a target is missed.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The bench's own arguments: --json prints a list of measurements
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<String>,
}

/// Runs the bench in our place; its exit code is ours.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(Purpose::Bench)?;
    let built = workspace::build(Profile::Release)?;
    privilege::become_root(workspace::binary(&built, "bench")?, options.arguments.iter().map(String::as_str))
}
