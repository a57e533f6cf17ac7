//! The command line: what there is to ask for, and how each answer ends the process.

pub mod audit;
pub mod check;
pub mod detach;
mod examples;
pub mod explain;
pub mod flows;
pub mod groups;
mod lines;
pub mod man;
pub mod plan;
mod progress;
pub mod run;
pub mod schema;
mod shape;
pub mod status;
pub mod suggest;
pub mod trail;
pub mod workloads;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::RunOptions;
use crate::exit::{Exit, Failure};
use crate::print;
use lines::lines;
use progress::Progress;

/// Security groups between labelled workloads, enforced with eBPF.
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Colours, which only repeat what the words say; auto has them on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enforce the policy on this host, until stopped; what is enforced then stays
    Run(Box<RunOptions>),
    /// Check policy files, without a host
    Check(check::CheckOptions),
    /// Show whether the agent enforces, what policy, where, and how full its tables are
    Status(status::StatusOptions),
    /// List the workloads that the agent knows, with their groups
    Workloads(workloads::WorkloadsOptions),
    /// List the security groups in force, with their members and rules
    Groups(groups::GroupsOptions),
    /// Show judgements of the kernel: new, denied and audited flows
    Flows(Box<flows::FlowsOptions>),
    /// Say what becomes of a flow, why, and what would have to change
    Explain(explain::ExplainOptions),
    /// Say what other policy files would change on this host, before they are in force
    Plan(plan::PlanOptions),
    /// Report what would have been denied, with the rule that would allow it, and which rules were used
    Audit(audit::AuditOptions),
    /// Propose the least policy that allows what was seen, as YAML
    Suggest(suggest::SuggestOptions),
    /// What happened to policy, workloads and the agent, in a record that shows whether it was touched
    Trail(trail::TrailOptions),
    /// Take everything that Bulkhead enforces out of the kernel
    Detach(detach::DetachOptions),
    /// Print the JSON Schema of policy documents, for editors, or of what a subcommand prints
    Schema(schema::SchemaOptions),
    /// Print a completion script for a shell
    Completions(schema::CompletionsOptions),
    /// Print a manual page, or write all of them
    Man(man::ManOptions),
}

/// Parses the command line, does what it says, and tells how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let matches = examples::add(Cli::command(), "").get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    print::colour::choose(cli.color);
    match cli.command.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to tell where standard error is closed.
            let _ = writeln!(io::stderr(), "bulkhead: {failure}");
            failure.exit.into()
        }
    }
}

impl Command {
    fn execute(self) -> Result<(), Failure> {
        match self {
            Self::Run(options) => run::run(*options),
            Self::Check(options) => check::check(&options),
            Self::Status(options) => wait(status::status(options)),
            Self::Workloads(options) => wait(workloads::workloads(options)),
            Self::Groups(options) => wait(groups::groups(options)),
            Self::Flows(options) => wait(flows::flows(*options)),
            Self::Explain(options) => wait(explain::explain(options)),
            Self::Plan(options) => wait(plan::plan(options)),
            Self::Audit(options) => wait(audit::audit(options)),
            Self::Suggest(options) => wait(suggest::suggest(options)),
            Self::Trail(options) => trail::trail(&options),
            Self::Detach(options) => detach::detach(&options),
            Self::Schema(options) => schema::schema(&options),
            Self::Completions(options) => schema::completions(&options),
            Self::Man(options) => man::man(&options),
        }
    }
}

/// Runs one short-lived command.
fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        let error = anyhow::Error::from(error).context("cannot start the event loop");
        Failure::new(Exit::OsErr, error, "see whether the limits on open files and processes are exhausted")
    })?;
    runtime.block_on(command)
}

/// A view as `--json` prints it.
fn json(view: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(view).expect("a view is plain data") + "\n"
}

/// Writes to standard output.
///
/// # Errors
/// An output that refuses. One whose reader went away (`bulkhead flows | head`) ends the process as asked: quietly.
pub(crate) fn put(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            let error = anyhow::Error::from(error).context("cannot write to standard output");
            Err(Failure::new(Exit::IoErr, error, "see whether the disk behind it is full"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_option_is_a_usage_error() {
        let error = Cli::try_parse_from(["bulkhead", "run", "--nonsense"]).expect_err("no such option");
        assert_eq!(error.exit_code(), Exit::Usage as i32);
    }
}
