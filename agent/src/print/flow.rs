//! A flow on one line: when, what was decided, who and whom, and why.

use std::fmt::Write;
use std::net::IpAddr;

use super::Look;
use super::table::clean;
use crate::view::{FlowRule, FlowView};

/// One line of `bulkhead flows`. Times are UTC.
#[must_use]
pub fn flow(flow: &FlowView, look: Look) -> String {
    let local = end(flow.workload.as_deref(), &flow.groups);
    let peer = end(flow.peer.as_deref(), &flow.peer_groups);
    let (from, to) = if flow.direction == "ingress" { (peer, local) } else { (local, peer) };
    let mut line = format!(
        "{}  {}  {:<7}  {from} -> {to}  {} {} -> {}",
        clock(flow.time),
        verdict(&flow.verdict, look),
        clean(&flow.direction),
        clean(&flow.protocol),
        source(flow),
        address(flow.destination, flow.destination_port),
    );
    if let Some(icmp) = flow.icmp {
        let _ = write!(line, " type {} code {}", icmp.kind, icmp.code);
    }
    if let Some(process) = flow.process {
        let name = flow.process_name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let _ = write!(line, " pid {process}{}", clean(&name));
    }
    if let Some(end) = &flow.end {
        let _ = writeln!(
            line,
            "  end: {}, {} packets ({} bytes) sent, {} ({}) received",
            clean(&end.how),
            end.packets_sent,
            end.bytes_sent,
            end.packets_received,
            end.bytes_received
        );
        return line;
    }
    let _ = writeln!(line, "  {}", clean(&why(flow)));
    line
}

/// A workload with its groups; a question mark for an end that Bulkhead has no name for.
fn end(name: Option<&str>, groups: &[String]) -> String {
    match name {
        None => "?".to_owned(),
        Some(name) if groups.is_empty() => clean(name),
        Some(name) => clean(&format!("{name} ({})", groups.join(", "))),
    }
}

/// The reason, and what stands behind it.
fn why(flow: &FlowView) -> String {
    if let Some(rule) = &flow.rule {
        let description = rule.description.as_ref().map(|text| format!(" \"{text}\"")).unwrap_or_default();
        let kind = if rule.direction == FlowRule::DENY { "guardrail" } else { "rule" };
        let rule = format!("{kind} {}/{}/{}{description}", rule.group, rule.direction, rule.index);
        return if flow.reason == kind { rule } else { format!("{}: {rule}", flow.reason) };
    }
    let meaning = match flow.reason.as_str() {
        "no_rule" if flow.groups.is_empty() => format!("no {} rule allows it", flow.direction),
        "no_rule" => format!("no {} rule of {} allows it", flow.direction, flow.groups.join(", ")),
        "rule" => "a rule allows it".to_owned(),
        "established" => "the flow was allowed before".to_owned(),
        "open_egress" => "none of its groups mentions egress".to_owned(),
        "open_ingress" => "none of its groups mentions ingress".to_owned(),
        "guardrail" => "a guardrail denies it".to_owned(),
        "ungoverned" => "the workload is in no group".to_owned(),
        "related" => "an ICMP error about an allowed flow".to_owned(),
        "loopback" => "loopback inside one network namespace".to_owned(),
        "same_workload" => "a workload with itself".to_owned(),
        "never_cut" => "the network needs it".to_owned(),
        "unidentified" => "a cgroup below a managed scope that no source has named yet".to_owned(),
        "malformed" => "its headers are truncated or contradictory".to_owned(),
        "fragment_unseen" => "a later fragment whose first was not seen".to_owned(),
        "spoofed" => "the source address is not the workload's".to_owned(),
        "not_ip" => "neither IP nor ARP".to_owned(),
        "table_full" => "a table is full; see `bulkhead status`".to_owned(),
        other => return other.to_owned(),
    };
    format!("{}: {meaning}", flow.reason)
}

pub(super) fn verdict(verdict: &str, look: Look) -> String {
    let word = format!("{:<5}", clean(verdict).to_uppercase());
    let colour = match verdict {
        "allow" => 32,
        "deny" => 31,
        _ => 33,
    };
    if look.colour { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word }
}

/// At the connect hook the kernel has not chosen the source yet.
fn source(flow: &FlowView) -> String {
    if flow.source.is_unspecified() && flow.source_port.is_none() {
        return "*".to_owned();
    }
    address(flow.source, flow.source_port)
}

fn address(address: IpAddr, port: Option<u16>) -> String {
    match (address, port) {
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (address, Some(port)) => format!("{address}:{port}"),
        (address, None) => address.to_string(),
    }
}

/// The time of day, in UTC.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds since 1970 fit easily")]
fn clock(time: f64) -> String {
    let milliseconds = (time * 1e3).round() as u64;
    let seconds = milliseconds / 1_000;
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:03}Z", milliseconds % 1_000)
}
