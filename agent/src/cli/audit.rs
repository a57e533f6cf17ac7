//! `bulkhead audit`.

use std::time::Duration;

use clap::Args;

use crate::audit::{Wanted, audit as report};
use crate::client::Client;
use crate::config::{AdminOptions, length_of_time};
use crate::exit::Failure;
use crate::print::{self, Look};
use crate::snapshot::Snapshot;
use crate::view::talk::TalksView;

/// Options of `bulkhead audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// What was denied, rather than what would have been
    #[arg(long)]
    denied: bool,
    /// List rules that decided nothing for so long, as 30d, 12h, 10m or 5s, rather than those that did
    #[arg(long, value_name = "TIME", value_parser = length_of_time)]
    unused: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what audit mode let pass, and which rules were used.
pub(super) async fn audit(options: AuditOptions) -> Result<(), Failure> {
    let progress = super::Progress::begin("asking what was seen");
    let client = Client::new(&options.admin.admin);
    let talks: TalksView = client.get("/v1/talks").await?.parse()?;
    let snapshot: Snapshot = client.get("/v1/snapshot").await?.parse()?;
    let view = report(
        &talks,
        &snapshot,
        Wanted { denied: options.denied, unused: options.unused.map(|unused| unused.as_secs_f64()) },
    );
    drop(progress);
    let look = Look::of_stdout();
    super::put(&if options.json {
        super::json(&view)
    } else {
        print::audit(&view, options.denied, options.unused.is_some(), look)
    })
}
