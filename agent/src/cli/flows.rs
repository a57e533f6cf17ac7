//! `bulkhead flows`: the recent ones, those of a log, and what follows.

use std::collections::VecDeque;
use std::path::PathBuf;

use clap::Args;

use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::{Exit, Failure};
use crate::flow::filter::FlowQuery;
use crate::flow::record::Line;
use crate::print::{self, Look};

/// Options of `bulkhead flows`.
#[derive(Args, Clone, Debug)]
pub struct FlowsOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    query: FlowQuery,
    /// Read flow logs, compressed or not, `-` for standard input, in place of a running agent; repeatable
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    file: Vec<PathBuf>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints flows, oldest first.
pub(super) async fn flows(options: FlowsOptions) -> Result<(), Failure> {
    let FlowsOptions { admin, mut query, file, json } = options;
    let look = Look::of_stdout();
    if !file.is_empty() {
        let query = query.normalise().map_err(|error| Failure::message(Exit::Usage, error, ""))?;
        return of_files(&file, &query, json, look);
    }
    query.limit = query.limit.or(Some(if query.follow { 10 } else { 100 }));
    let mut lines = Client::new(&admin.admin).lines(&format!("/v1/flows?{}", query.encode())).await?;
    while let Some(line) = lines.next().await? {
        super::put(&if json { line.text() } else { text(&line.parse()?, look) })?;
    }
    Ok(())
}

/// Those of logs, in the order of the files; with a limit the last of them.
fn of_files(files: &[PathBuf], query: &FlowQuery, json: bool, look: Look) -> Result<(), Failure> {
    let show = |line: &Line| {
        let as_json = || serde_json::to_string(line).expect("a flow has no maps with odd keys") + "\n";
        super::put(&if json { as_json() } else { text(line, look) })
    };
    let mut last = VecDeque::new();
    for file in files {
        super::lines(file, |line| {
            match (&line, query.limit) {
                (Line::Flow(flow), _) if !query.matches(flow) => return Ok(()),
                (_, None) => return show(&line),
                (_, Some(limit)) => {
                    last.push_back(line);
                    if last.len() > limit {
                        last.pop_front();
                    }
                }
            }
            Ok(())
        })?;
    }
    last.iter().try_for_each(show)
}

fn text(line: &Line, look: Look) -> String {
    match line {
        Line::Flow(flow) => print::flow(flow, look),
        Line::Missed { missed } => format!("... {missed} flows missed: they came faster than they could be taken\n"),
        Line::Sampled { sampled_out } => {
            format!("... a sample: {sampled_out} flows were not told, as there were too many at once\n")
        }
    }
}
