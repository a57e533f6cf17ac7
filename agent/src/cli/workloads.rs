//! `bulkhead workloads`.

use clap::Args;

use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::Failure;
use crate::print::{self, Look};
use crate::view::WorkloadView;

/// Options of `bulkhead workloads`.
#[derive(Args, Clone, Debug)]
pub struct WorkloadsOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the workloads.
pub(super) async fn workloads(options: WorkloadsOptions) -> Result<(), Failure> {
    let body = Client::new(&options.admin.admin).get("/v1/workloads").await?;
    if options.json {
        return super::put(&body.text());
    }
    let workloads: Vec<WorkloadView> = body.parse()?;
    super::put(&print::workloads(&workloads, Look::of_stdout()))
}
