//! `bulkhead plan`, for people.

use super::Look;
use super::table::{clean, columns, list};
use crate::view::plan::{CutFlow, FlowChange, PlanView};

/// `bulkhead plan`.
#[must_use]
pub fn plan(view: &PlanView, look: Look) -> String {
    let mut parts = Vec::new();
    if !view.workloads.is_empty() {
        let rows = view.workloads.iter().map(|change| {
            [change.workload.clone(), change.becomes.replace('_', " "), list(&change.before), list(&change.after)]
        });
        parts.push(columns(["WORKLOAD", "BECOMES", "GROUPS NOW", "GROUPS THEN"], rows, look));
    }
    if !view.flows.is_empty() {
        let rows = flows(&view.flows);
        parts.push(columns(["FROM", "TO", "PORTS", "NOW", "THEN", "BY"], rows, look));
    }
    if !view.cut.is_empty() {
        let rows = view.cut.iter().map(|cut| {
            let [from, to] = ends(cut);
            [from, to, crate::flow::filter::name_of(cut.flow.protocol), cut.reason.clone()]
        });
        parts.push(columns(["CUT: FROM", "TO", "PROTOCOL", "WHY"], rows, look));
    }
    if !view.omitted.is_empty() {
        parts.push(view.omitted.iter().map(|text| format!("not told: {}\n", clean(text))).collect());
    }
    if !view.changes {
        parts.push("nothing would change\n".to_owned());
    }
    parts.join("\n")
}

/// Flows that change alike are a line: to several receivers, and then from several senders.
fn flows(changes: &[FlowChange]) -> Vec<[String; 6]> {
    let mut rows: Vec<[Vec<String>; 6]> = Vec::new();
    for change in changes {
        let one = |text: &String| vec![text.clone()];
        let row = [
            one(&change.from),
            one(&change.to),
            change.ports.clone(),
            one(&change.before),
            one(&change.after),
            one(&change.by),
        ];
        rows.push(row);
    }
    for column in [1, 0] {
        let mut merged: Vec<[Vec<String>; 6]> = Vec::new();
        for row in rows {
            let alike = |other: &&mut [Vec<String>; 6]| (0..6).all(|at| at == column || other[at] == row[at]);
            match merged.iter_mut().find(alike) {
                Some(known) => known[column].extend(row[column].iter().cloned()),
                None => merged.push(row),
            }
        }
        rows = merged;
    }
    rows.into_iter().map(|row| row.map(|items| items.join(", "))).collect()
}

fn ends(cut: &CutFlow) -> [String; 2] {
    let flow = &cut.flow;
    let end = |name: &Option<String>, address: std::net::IpAddr, port| {
        let at = if address.is_ipv6() { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
        name.as_ref().map_or_else(|| at.clone(), |name| format!("{name} {at}"))
    };
    [end(&cut.from, flow.source, flow.source_port), end(&cut.to, flow.destination, flow.destination_port)]
}
