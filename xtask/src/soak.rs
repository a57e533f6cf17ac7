//! `cargo xtask soak`: what must hold on the worst day, for as long as one likes.

use std::process::ExitCode;

use anyhow::Result;

use crate::privilege;
use crate::setup::{self, Purpose};
use crate::workspace::{self, Profile};

/// Build in release and live through bad days. It fails at the first promise that is broken.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The soak's own arguments: --minutes N says for how long, --theme NAME what alone
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub arguments: Vec<String>,
}

/// Runs it in our place; its exit code is ours.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(Purpose::Test)?;
    let built = workspace::build(Profile::Release)?;
    workspace::build_successor(Profile::Release)?;
    privilege::become_root(workspace::binary(&built, "soak")?, options.arguments.iter().map(String::as_str))
}
