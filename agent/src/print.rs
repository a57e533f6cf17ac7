//! Rendering for people: pure functions from a view to text.
//!
//! Colour only repeats what words say. Names come from files and interfaces that others write, so control characters in
//! them never reach the terminal.

mod flow;
mod status;
mod table;

use std::env;
use std::io::{self, IsTerminal};

use comfy_table::Table;

use crate::view::{GroupView, WorkloadView};
use table::{columns, list};

pub use flow::flow;
pub use status::status;

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
        if !io::stdout().is_terminal() {
            return Self::default();
        }
        // https://no-color.org
        let colour = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { width: Table::new().width(), colour }
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

/// `bulkhead groups`.
#[must_use]
pub fn groups(groups: &[GroupView], look: Look) -> String {
    if groups.is_empty() {
        return NO_GROUPS.to_owned();
    }
    let rows = groups.iter().map(|group| {
        let of = |direction: &str| group.rules.iter().filter(|rule| rule.direction == direction).count().to_string();
        [
            group.name.clone(),
            group.id.to_string(),
            group.mode.clone(),
            list(&group.members),
            of("ingress"),
            of("egress"),
            group.rules.iter().map(|rule| rule.hits).sum::<u64>().to_string(),
            group.origin.clone(),
        ]
    });
    columns(["NAME", "ID", "MODE", "MEMBERS", "INGRESS", "EGRESS", "HITS", "DEFINED"], rows, look)
}

/// `bulkhead groups --rules`.
#[must_use]
pub fn rules(groups: &[GroupView], look: Look) -> String {
    if groups.is_empty() {
        return NO_GROUPS.to_owned();
    }
    let rows = groups.iter().flat_map(|group| {
        group.rules.iter().map(|rule| {
            [
                format!("{}/{}/{}", group.name, rule.direction, rule.index),
                rule.description.clone().unwrap_or_else(|| table::NOTHING.to_owned()),
                rule.hits.to_string(),
                rule.origin.clone(),
            ]
        })
    });
    columns(["RULE", "DESCRIPTION", "HITS", "DEFINED"], rows, look)
}

const NO_GROUPS: &str = "no security groups: every workload is ungoverned, and its packets pass\n";

#[cfg(test)]
#[path = "print/tests.rs"]
mod tests;
