//! `bulkhead status`.

use std::time::SystemTime;

use clap::Args;

use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::{Exit, Failure};
use crate::print::{self, Look};
use crate::view::StatusView;

/// Options of `bulkhead status`.
#[derive(Args, Clone, Debug)]
pub struct StatusOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the status; an agent that does not enforce is a failure, so that a script can ask.
pub(super) async fn status(options: StatusOptions) -> Result<(), Failure> {
    let body = Client::new(&options.admin.admin).get("/v1/status").await?;
    let status: StatusView = body.parse()?;
    if options.json {
        super::put(&body.text())?;
    } else {
        super::put(&print::status(&status, SystemTime::now(), Look::of_stdout()))?;
    }
    if !status.enforcing {
        return Err(Failure::message(
            Exit::Failed,
            "the agent runs but does not enforce all that it should",
            "see the warnings above and the agent's log",
        ));
    }
    Ok(())
}
