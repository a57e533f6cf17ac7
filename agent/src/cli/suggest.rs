//! `bulkhead suggest`.

use std::path::PathBuf;

use clap::Args;

use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::{Exit, Failure};
use crate::flow::record::Line;
use crate::propose::{Known, Wanted, propose};
use crate::snapshot::Snapshot;
use crate::tally::Tally;
use crate::view::talk::TalksView;

/// Options of `bulkhead suggest`.
#[derive(Args, Clone, Debug)]
pub struct SuggestOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Flows as JSON lines (`bulkhead flows --json`, or a flow log), `-` for standard input, in place of what a running agent saw; repeatable
    #[arg(long, value_name = "FILE")]
    flow_log: Vec<PathBuf>,
    /// Groups that enforce at once; otherwise they are in audit
    #[arg(long)]
    enforce: bool,
    /// Rules for what comes in alone; what goes out stays open
    #[arg(long)]
    ingress_only: bool,
    /// Allow what was denied, too
    #[arg(long)]
    include_denied: bool,
    /// Print JSON: the number of groups, and the YAML
    #[arg(long)]
    json: bool,
}

/// What `bulkhead suggest --json` prints.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub(super) struct SuggestView {
    /// How many groups are proposed.
    groups: usize,
    /// The proposal.
    yaml: String,
}

/// Prints the least policy that allows what was seen.
pub(super) async fn suggest(options: SuggestOptions) -> Result<(), Failure> {
    let wanted =
        Wanted { enforce: options.enforce, ingress_only: options.ingress_only, include_denied: options.include_denied };
    let progress = super::Progress::begin("summing up what was seen");
    let (talks, known) = if options.flow_log.is_empty() {
        let client = Client::new(&options.admin.admin);
        let talks: TalksView = client.get("/v1/talks").await?.parse()?;
        let snapshot: Snapshot = client.get("/v1/snapshot").await?.parse()?;
        let groups = snapshot.policy.groups.iter().map(|group| group.name.clone());
        (talks, Known::of(&snapshot.population(), groups))
    } else {
        (read(&options.flow_log)?, Known::default())
    };
    let proposal = propose(&talks, &known, wanted);
    let view = SuggestView { groups: proposal.groups(), yaml: proposal.yaml() };
    drop(progress);
    super::put(&if options.json { super::json(&view) } else { view.yaml })
}

/// The flows of logs, in sum.
fn read(paths: &[PathBuf]) -> Result<TalksView, Failure> {
    let (mut tally, mut first, mut last) = (Tally::new(0.0), f64::INFINITY, 0.0_f64);
    for path in paths {
        super::lines(path, |line| {
            if let Line::Flow(flow) = line {
                tally.add(&flow);
                first = first.min(flow.time);
                last = last.max(flow.time);
            }
            Ok(())
        })?;
    }
    if last == 0.0 {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let what = format!("no flow in {}", names.join(", "));
        return Err(Failure::message(Exit::Failed, what, "give what `bulkhead flows --json` or --flow-log wrote"));
    }
    Ok(TalksView { since: first, ..tally.view(last) })
}
