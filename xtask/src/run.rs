//! `cargo xtask run`: the agent on this host.

use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Purpose};
use crate::workspace::{self, Profile};

/// Build the agent in release and run it on this host.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Arguments of `bulkhead run`, for example `--policies policies`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<String>,
}

/// Runs the agent in our place; its exit code is ours.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(Purpose::Build)?;
    let built = workspace::build(Profile::Release)?;
    let agent = workspace::binary(&built, "bulkhead")?;
    privilege::become_root(agent, ["run"].into_iter().chain(options.arguments.iter().map(String::as_str)))
}
