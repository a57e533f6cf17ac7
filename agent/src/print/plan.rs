//! `bulkhead plan`, for people.

use super::Look;
use super::table::{clean, columns, list};
use crate::view::plan::{CutFlow, PlanView};

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
        let rows = view.flows.iter().map(|change| {
            [
                change.from.clone(),
                change.to.clone(),
                change.ports.clone(),
                change.before.clone(),
                change.after.clone(),
                change.by.clone(),
            ]
        });
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

fn ends(cut: &CutFlow) -> [String; 2] {
    let flow = &cut.flow;
    let end = |name: &Option<String>, address: std::net::IpAddr, port| {
        let at = if address.is_ipv6() { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
        name.as_ref().map_or_else(|| at.clone(), |name| format!("{name} {at}"))
    };
    [
        end(&cut.from, flow.source, flow.source_port),
        end(&cut.to, flow.destination, flow.destination_port),
    ]
}
