//! `bulkhead flows`: the recent ones, and what follows.

use clap::Args;

use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::Failure;
use crate::flow::filter::{FlowQuery, protocol_name};
use crate::flow::record::Line;
use crate::print::{self, Look};

/// Options of `bulkhead flows`.
#[derive(Args, Clone, Debug)]
pub struct FlowsOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Go on with new ones as they happen
    #[arg(long, short)]
    follow: bool,
    /// Only this verdict
    #[arg(long, value_parser = ["allow", "deny", "audit"])]
    verdict: Option<String>,
    /// Only flows of this workload, at either end
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only this protocol: tcp, udp, icmp, icmpv6, sctp or a number
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol_name)]
    protocol: Option<String>,
    /// Only this destination port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// How many past ones to show at most [default: 100, with --follow 10]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints flows, oldest first.
pub(super) async fn flows(options: FlowsOptions) -> Result<(), Failure> {
    let query = FlowQuery {
        follow: options.follow,
        limit: Some(options.limit.unwrap_or(if options.follow { 10 } else { 100 })),
        verdict: options.verdict,
        workload: options.workload,
        protocol: options.protocol,
        port: options.port,
    };
    let mut lines = Client::new(&options.admin.admin).lines(&format!("/v1/flows?{}", query.encode())).await?;
    let look = Look::of_stdout();
    while let Some(line) = lines.next().await? {
        if options.json {
            super::put(&line.text())?;
            continue;
        }
        super::put(&match line.parse()? {
            Line::Flow(flow) => print::flow(&flow, look),
            Line::Missed { missed } => {
                format!("... {missed} flows missed: they came faster than they could be shown\n")
            }
        })?;
    }
    Ok(())
}
