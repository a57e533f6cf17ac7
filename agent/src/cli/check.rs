//! `bulkhead check`: whether policy files are right, without a host.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bulkhead_ebpf::abi::Direction;
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::policy::load;
use crate::policy::model::PolicySet;
use crate::policy::problem::Problem;
use crate::policy::warnings::warnings;

/// Options of `bulkhead check`.
#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    /// Policy files, or directories whose *.yaml and *.yml files are read; all together are one policy
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `bulkhead check --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CheckView {
    /// Whether the agent would take the policy.
    valid: bool,
    /// Files that were read.
    files: usize,
    /// Security groups; 0 where the policy is refused, as for the other numbers.
    groups: usize,
    /// Rules of all groups.
    rules: usize,
    /// Guardrails.
    guardrails: usize,
    /// Declared workloads.
    workloads: usize,
    /// Why it is refused.
    problems: Vec<ProblemView>,
    /// What deserves attention all the same.
    warnings: Vec<ProblemView>,
}

/// A problem or warning, flat, so that an editor finds its place.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProblemView {
    /// The file; null where none is to blame.
    file: Option<String>,
    /// Line, from 1.
    line: Option<usize>,
    /// Column in characters, from 1.
    column: Option<usize>,
    /// What is wrong.
    message: String,
    /// What to do about it.
    cure: String,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        let origin = problem.origin.as_ref();
        Self {
            file: origin.map(|origin| origin.file.display().to_string()),
            line: origin.map(|origin| origin.line),
            column: origin.map(|origin| origin.column),
            message: problem.message.clone(),
            cure: problem.cure.clone(),
        }
    }
}

/// Prints every problem and warning, and whether the agent would take the policy.
pub(super) fn check(options: &CheckOptions) -> Result<(), Failure> {
    let progress = super::Progress::begin("reading and judging the policy");
    let (files, unread) = load::read(&options.paths);
    let checked = Checked {
        files: files.len(),
        result: load::judge(&files, unread),
        // What is checked is seldom where an agent will read it.
        warnings: load::trust::problems(&options.paths),
    };
    drop(progress);
    let text = if options.json { json(&checked) } else { text(&checked) };
    super::put(&text)?;
    match checked.result {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::message(
            Exit::Failed,
            "the policy is refused",
            "mend what is listed; an agent that runs keeps the policy in force",
        )),
    }
}

/// What was found.
struct Checked {
    /// How many files were read.
    files: usize,
    result: Result<PolicySet, Vec<Problem>>,
    /// What is to be said of the files themselves.
    warnings: Vec<Problem>,
}

impl Checked {
    /// Every warning; of a refused policy only those of its files.
    fn warnings(&self) -> Vec<Problem> {
        let mut all = self.warnings.clone();
        all.extend(self.result.as_ref().map(warnings).unwrap_or_default());
        all
    }
}

fn view(checked: &Checked) -> CheckView {
    let Checked { files, result, .. } = checked;
    let policy = result.as_ref().ok();
    let list = |problems: &[Problem]| problems.iter().map(ProblemView::from).collect();
    CheckView {
        valid: result.is_ok(),
        files: *files,
        groups: policy.map_or(0, |policy| policy.groups.len()),
        rules: policy.map_or(0, rules),
        guardrails: policy.map_or(0, |policy| policy.guardrails.len()),
        workloads: policy.map_or(0, |policy| policy.workloads.len()),
        problems: result.as_ref().err().map(|problems| list(problems)).unwrap_or_default(),
        warnings: list(&checked.warnings()),
    }
}

fn json(checked: &Checked) -> String {
    let view = serde_json::to_string_pretty(&view(checked)).expect("a view is plain data");
    format!("{view}\n")
}

fn text(checked: &Checked) -> String {
    let warnings = checked.warnings();
    let mut lines: String = warnings.iter().map(|warning| line(warning, "warning: ")).collect();
    let files = count(checked.files, "file");
    match &checked.result {
        Ok(policy) => {
            let warnings =
                if warnings.is_empty() { String::new() } else { format!(", {}", count(warnings.len(), "warning")) };
            let [groups, rules] = [count(policy.groups.len(), "group"), count(rules(policy), "rule")];
            let guardrails = count(policy.guardrails.len(), "guardrail");
            let workloads = count(policy.workloads.len(), "workload");
            format!("{lines}ok: {files}, {groups}, {rules}, {guardrails}, {workloads}{warnings}\n")
        }
        Err(problems) => {
            lines.extend(problems.iter().map(|problem| line(problem, "")));
            let places: BTreeSet<_> =
                problems.iter().filter_map(|problem| Some(&problem.origin.as_ref()?.file)).collect();
            let of = if places.is_empty() { files } else { format!("{} of {files}", places.len()) };
            format!("{lines}refused: {} in {of}\n", count(problems.len(), "problem"))
        }
    }
}

/// `file:line:column: warning: what; cure`, which editors know how to jump by.
fn line(problem: &Problem, prefix: &str) -> String {
    let place = problem.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
    let line = format!("{place}{prefix}{}; {}", problem.message, problem.cure);
    // Names of files, and descriptions in warnings, may hold anything.
    let line: String = line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    line + "\n"
}

fn rules(policy: &PolicySet) -> usize {
    let of_group = |group| Direction::ALL.iter().map(move |direction| rules_of(group, *direction)).sum::<usize>();
    policy.groups.iter().map(of_group).sum()
}

fn rules_of(group: &crate::policy::model::SecurityGroup, direction: Direction) -> usize {
    group.rules(direction).count()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
