//! `bulkhead explain`.

use std::path::PathBuf;

use clap::Args;

use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::{Exit, Failure};
use crate::explain::{Port, explain as explained};
use crate::policy::load;
use crate::print::{self, Look};
use crate::snapshot::Snapshot;

/// Options of `bulkhead explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Who opens the flow: a workload's name, labels as app=web,env=prod, an address, cgroup:PATH, pid:NUMBER, host or world
    #[arg(long, value_name = "END")]
    from: String,
    /// Who receives it, in the same ways
    #[arg(long, value_name = "END")]
    to: String,
    /// What for: tcp/5432, udp/53, icmp, icmp/8/0, or a protocol's number
    #[arg(long, value_name = "PORT")]
    port: Port,
    /// Ask policy files and the workloads that they declare, rather than a running agent
    #[arg(long, value_name = "PATH")]
    policies: Vec<PathBuf>,
    /// Fail with exit code 1 where the verdict is another one: for scripts
    #[arg(long, value_name = "VERDICT", value_parser = ["allow", "deny", "audit"])]
    expect: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what becomes of a flow, and why.
pub(super) async fn explain(options: ExplainOptions) -> Result<(), Failure> {
    let progress = super::Progress::begin("asking");
    let snapshot = if options.policies.is_empty() {
        Client::new(&options.admin.admin).get("/v1/snapshot").await?.parse()?
    } else {
        Snapshot::offline(policy(&options.policies)?)
    };
    let view = explained(&snapshot, &options.from, &options.to, &options.port)
        .map_err(|error| Failure::message(Exit::Usage, error, ""))?;
    drop(progress);
    super::put(&if options.json { super::json(&view) } else { print::explain(&view, Look::of_stdout()) })?;
    match options.expect {
        Some(expected) if view.verdict != expected || view.mixed => {
            let verdict = if view.mixed { "not the same for all" } else { &view.verdict };
            Err(Failure::message(
                Exit::Failed,
                format!("{expected} was expected, and the verdict is {verdict}"),
                "change the policy as the last lines of each answer say, or what is expected",
            ))
        }
        _ => Ok(()),
    }
}

/// A policy that would be taken.
pub(super) fn policy(paths: &[PathBuf]) -> Result<crate::policy::model::PolicySet, Failure> {
    let (files, unread) = load::read(paths);
    load::judge(&files, unread).map_err(|problems| {
        let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::message(
            Exit::Failed,
            format!("the policy is refused:\n{}", listed.join("\n")),
            "mend what is listed; `bulkhead check` says more",
        )
    })
}
