//! `bulkhead groups`.

use clap::Args;

use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::Failure;
use crate::print::{self, Look};
use crate::view::GroupsView;

/// Options of `bulkhead groups`.
#[derive(Args, Clone, Debug)]
pub struct GroupsOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// A line for each rule and each deny entry, with how often it decided
    #[arg(long)]
    rules: bool,
    /// Print JSON, rules included
    #[arg(long)]
    json: bool,
}

/// Prints groups and guardrails, or their rules and deny entries.
pub(super) async fn groups(options: GroupsOptions) -> Result<(), Failure> {
    let body = Client::new(&options.admin.admin).get("/v1/groups").await?;
    if options.json {
        return super::put(&body.text());
    }
    let groups: GroupsView = body.parse()?;
    let look = Look::of_stdout();
    super::put(&if options.rules { print::rules(&groups, look) } else { print::groups(&groups, look) })
}
