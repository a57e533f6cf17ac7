//! A proposal as YAML, with a comment on everything that says what stood behind it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Proposal, ProposedGroup, ProposedRule};

/// So many names stand in a comment.
const NAMES: usize = 4;

pub(super) fn yaml(proposal: &Proposal) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# Proposed by `bulkhead suggest` from {} seen from {} to {}.\n\
         # It allows what was seen and nothing else: a rule for what happens once a month may be missing.",
        count(proposal.flows, "flow"),
        date(proposal.since),
        date(proposal.until)
    );
    for (why, count) in &proposal.left_out {
        let _ = writeln!(text, "# {count} {}", line(why));
    }
    if proposal.groups.is_empty() {
        text.push_str("# No workload that a group could select was seen to talk.\n");
    }
    for group in &proposal.groups {
        group_text(group, proposal, &mut text);
    }
    text
}

fn group_text(group: &ProposedGroup, proposal: &Proposal, text: &mut String) {
    let _ = writeln!(text, "---\n# {}: {}", count(group.members.len() as u64, "workload"), some(&group.members));
    let _ = writeln!(
        text,
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {{name: {}}}\nspec:",
        group.name
    );
    text.push_str("  selector:\n    matchLabels:\n");
    for (key, value) in &group.role.labels {
        let _ = writeln!(text, "      {}: {}", quoted(key), quoted(value));
    }
    if !group.role.without.is_empty() {
        text.push_str("    matchExpressions:\n");
        for key in &group.role.without {
            let _ = writeln!(text, "      - {{key: {}, operator: DoesNotExist}}", quoted(key));
        }
    }
    let _ = writeln!(text, "  mode: {}", if proposal.wanted.enforce { "enforce" } else { "audit" });
    rules("ingress", "from", &group.ingress, text);
    if !proposal.wanted.ingress_only {
        rules("egress", "to", &group.egress, text);
    }
}

fn rules(direction: &str, word: &str, rules: &[ProposedRule], text: &mut String) {
    if rules.is_empty() {
        let _ = writeln!(text, "  # Nothing was seen.\n  {direction}: []");
        return;
    }
    let _ = writeln!(text, "  {direction}:");
    for rule in rules {
        let evidence = &rule.evidence;
        let others = match (evidence.others.len(), evidence.addresses.len()) {
            (0, 0) => String::new(),
            (0, addresses) => format!(", {}", count(addresses as u64, "address")),
            (_, 0) => format!(", with {}", some(&evidence.others)),
            (_, addresses) => format!(", with {} and {}", some(&evidence.others), count(addresses as u64, "address")),
        };
        let _ = writeln!(
            text,
            "    # {} of {} ({}){others}; last {}",
            count(evidence.flows, "flow"),
            count(evidence.own.len() as u64, "workload"),
            some(&evidence.own),
            date(evidence.last)
        );
        if rule.ports.iter().any(super::PortRange::is_ephemeral) {
            text.push_str("    # Many high ports: they are taken for ephemeral ones, which a protocol agrees on. Narrow them if you can.\n");
        }
        let _ = writeln!(text, "    - {word}: [{}]", rule.peers.join(", "));
        let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "      ports: [{}]", ports.join(", "));
    }
}

fn count(number: u64, what: &str) -> String {
    let plural = if what.ends_with('s') { "es" } else { "s" };
    format!("{number} {what}{}", if number == 1 { "" } else { plural })
}

/// Some names, as a comment may hold them.
fn some(names: &BTreeSet<String>) -> String {
    let mut text: Vec<String> = names.iter().take(NAMES).map(|name| line(name)).collect();
    if names.len() > NAMES {
        text.push(format!("{} more", names.len() - NAMES));
    }
    text.join(", ")
}

/// Names come from files and cgroups that others write: nothing in them ends a comment.
fn line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// A YAML string; in quotes wherever it may be taken for something else.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./".contains(letter))
        && !["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&text.to_lowercase().as_str());
    // JSON's strings are YAML's.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A day and time, in UTC.
pub(super) fn date(time: f64) -> String {
    crate::print::date(time)
}
