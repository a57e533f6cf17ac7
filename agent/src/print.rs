//! Rendering for people: pure functions from a view to text.
//!
//! Colour only repeats what words say. Names come from files and interfaces that others write, so control characters in
//! them never reach the terminal.

mod audit;
pub(crate) mod colour;
mod explain;
mod flow;
mod plan;
mod status;
mod table;
mod time;
mod trail;

use std::io::{self, IsTerminal};

use comfy_table::Table;

use crate::view::{GroupsView, RuleView, WorkloadView};
use table::{columns, list};

pub use audit::audit;
pub use explain::explain;
pub use flow::flow;
pub use plan::plan;
pub use status::status;
pub use time::date;
pub use trail::trail;

/// What the output can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal; `None` where lines may be as long as they like.
    pub width: Option<u16>,
    /// Whether colours show.
    pub colour: bool,
}

impl Look {
    /// What standard output can show: plain and unlimited where it is no terminal.
    #[must_use]
    pub fn of_stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let width = if is_terminal { Table::new().width() } else { None };
        Self { width, colour: colour::shows(is_terminal) }
    }
}

/// `bulkhead workloads`.
#[must_use]
pub fn workloads(workloads: &[WorkloadView], look: Look) -> String {
    if workloads.is_empty() {
        return "no workloads: none is declared, and no source has found one\n".to_owned();
    }
    let rows = workloads.iter().map(|workload| {
        let labels = workload.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let place = match (&workload.cgroup, &workload.interface) {
            (Some(cgroup), Some(interface)) => format!("{cgroup}, {interface}"),
            (Some(place), None) | (None, Some(place)) => place.clone(),
            (None, None) if workload.local => "local".to_owned(),
            (None, None) => "remote".to_owned(),
        };
        [
            workload.name.clone(),
            list(&workload.groups),
            list(labels),
            place,
            list(workload.addresses.iter().map(ToString::to_string)),
            workload.source.as_str().to_owned(),
        ]
    });
    columns(["NAME", "GROUPS", "LABELS", "WHERE", "ADDRESSES", "SOURCE"], rows, look)
}

/// `bulkhead groups`: groups, then guardrails, where there are any.
#[must_use]
pub fn groups(view: &GroupsView, look: Look) -> String {
    let hits = |rules: &[RuleView]| rules.iter().map(|rule| rule.hits).sum::<u64>().to_string();
    let rows = view.groups.iter().map(|group| {
        let of = |direction: &str| group.rules.iter().filter(|rule| rule.direction == direction).count().to_string();
        [
            group.name.clone(),
            group.id.to_string(),
            group.mode.clone(),
            list(&group.members),
            of("ingress"),
            of("egress"),
            hits(&group.rules),
            group.origin.clone(),
        ]
    });
    let mut text = if view.groups.is_empty() {
        NO_GROUPS.to_owned()
    } else {
        columns(["NAME", "ID", "MODE", "MEMBERS", "INGRESS", "EGRESS", "HITS", "DEFINED"], rows, look)
    };
    if !view.guardrails.is_empty() {
        let rows = view
            .guardrails
            .iter()
            .map(|rail| [rail.name.clone(), rail.deny.len().to_string(), hits(&rail.deny), rail.origin.clone()]);
        text.push('\n');
        text.push_str(&columns(["GUARDRAIL", "ENTRIES", "HITS", "DEFINED"], rows, look));
    }
    text
}

/// `bulkhead groups --rules`: a line for each rule, and for each deny entry of guardrails.
#[must_use]
pub fn rules(view: &GroupsView, look: Look) -> String {
    if view.groups.is_empty() && view.guardrails.is_empty() {
        return NO_GROUPS.to_owned();
    }
    let of_groups = view.groups.iter().flat_map(|group| group.rules.iter().map(|rule| (&group.name, rule)));
    let of_guardrails = view.guardrails.iter().flat_map(|rail| rail.deny.iter().map(|entry| (&rail.name, entry)));
    let rows = of_groups.chain(of_guardrails).map(|(name, rule)| {
        [
            format!("{name}/{}/{}", rule.direction, rule.index),
            rule.description.clone().unwrap_or_else(|| table::NOTHING.to_owned()),
            rule.hits.to_string(),
            rule.origin.clone(),
        ]
    });
    columns(["RULE", "DESCRIPTION", "HITS", "DEFINED"], rows, look)
}

const NO_GROUPS: &str = "no security groups: every workload is ungoverned, and its packets pass\n";

#[cfg(test)]
#[path = "print/tests.rs"]
mod tests;
