//! `bulkhead plan`.

use std::path::PathBuf;

use clap::Args;

use super::explain::policy;
use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::{Exit, Failure};
use crate::plan::plan as planned;
use crate::policy::model::{KUBERNETES, Origin};
use crate::print::{self, Look};
use crate::snapshot::Snapshot;
use crate::view::plan::ConnectionsView;

/// Options of `bulkhead plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Policy files, or directories of them, that would replace those of the running agent
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what would change, and ends with [`Exit::Changes`] where anything would.
pub(super) async fn plan(options: PlanOptions) -> Result<(), Failure> {
    let progress = super::Progress::begin("comparing the policies");
    let mut policy = policy(&options.paths)?;
    let client = Client::new(&options.admin.admin);
    let snapshot: Snapshot = client.get("/v1/snapshot").await?.parse()?;
    let connections: ConnectionsView = client.get("/v1/connections").await?.parse()?;
    // Files replace files: what the Kubernetes API has stays.
    let is_objects = |origin: &Origin| origin.file.as_os_str().as_encoded_bytes().starts_with(KUBERNETES.as_bytes());
    policy.groups.extend(snapshot.policy.groups.iter().filter(|group| is_objects(&group.origin)).cloned());
    policy.groups.sort_by(|a, b| a.name.cmp(&b.name));
    policy.guardrails.extend(snapshot.policy.guardrails.iter().filter(|rail| is_objects(&rail.origin)).cloned());
    policy.guardrails.sort_by(|a, b| a.name.cmp(&b.name));
    let view = planned(&snapshot, policy, &connections)
        .map_err(|error| Failure::new(Exit::Failed, error, "make the policy smaller: an agent would refuse it"))?;
    drop(progress);
    super::put(&if options.json { super::json(&view) } else { print::plan(&view, Look::of_stdout()) })?;
    if view.changes { Err(Failure::message(Exit::Changes, "something would change", "")) } else { Ok(()) }
}
