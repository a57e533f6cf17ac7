//! `cargo xtask demo`: a small shop under enforcement.

use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Purpose};
use crate::workspace::{self, Profile};

/// Build and run the demo. Standard output is the demo's own.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The demo's own arguments: --once ends after one round, --json prints one JSON object
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<String>,
}

/// Runs the demo in our place; its exit code is ours.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(Purpose::Demo)?;
    let built = workspace::build(Profile::Debug)?;
    privilege::become_root(workspace::binary(&built, "demo")?, options.arguments.iter().map(String::as_str))
}
