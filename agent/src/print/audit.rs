//! `bulkhead audit`, for people.

use std::fmt::Write;

use super::table::{clean, columns, list};
use super::{Look, date};
use crate::view::audit::{AuditView, Finding};

/// `bulkhead audit`; whether rules without hits were asked for.
#[must_use]
pub fn audit(view: &AuditView, denied: bool, unused: bool, look: Look) -> String {
    let mut text = String::new();
    let what = if denied { "was denied" } else { "would have been denied" };
    if view.findings.is_empty() {
        let _ = writeln!(text, "since {} nothing {what}", date(view.since));
    } else {
        let _ = writeln!(text, "what {what} since {}:\n", date(view.since));
        let rows = (1..).zip(&view.findings).map(|(number, finding)| {
            [
                number.to_string(),
                finding.from.clone(),
                finding.to.clone(),
                port(finding),
                finding.direction.clone(),
                finding.count.to_string(),
                list(&finding.workloads),
                list(&finding.peers),
                date(finding.first),
                date(finding.last),
            ]
        });
        text.push_str(&columns(
            ["", "FROM", "TO", "PORT", "SIDE", "FLOWS", "WORKLOADS", "PEERS", "FIRST", "LAST"],
            rows,
            look,
        ));
        for (number, finding) in (1..).zip(&view.findings) {
            let alike = |other: &&Finding| {
                other.yaml.is_some() && (&other.yaml, other.stands) == (&finding.yaml, finding.stands)
            };
            if let Some(earlier) = view.findings.iter().take(number - 1).position(|other| alike(&other)) {
                let _ = writeln!(text, "\n{number}. as {}", earlier + 1);
                continue;
            }
            let _ = writeln!(text, "\n{number}. {}", settled(finding));
            for line in finding.yaml.iter().flat_map(|yaml| yaml.lines()) {
                let _ = writeln!(text, "     {}", clean(line));
            }
        }
    }
    if view.forgotten > 0 {
        let _ = writeln!(text, "\n{} kinds of flows were forgotten for want of room", view.forgotten);
    }
    if !view.rules.is_empty() {
        let rows = view.rules.iter().map(|rule| {
            [
                format!("{}/{}/{}", rule.group, rule.direction, rule.index),
                rule.description.clone().unwrap_or_else(|| "-".to_owned()),
                rule.hits.to_string(),
                rule.last.map_or_else(|| "never".to_owned(), date),
                date(rule.since),
            ]
        });
        let head = if unused { "RULE WITHOUT HITS" } else { "RULE" };
        text.push('\n');
        text.push_str(&columns([head, "DESCRIPTION", "HITS", "LAST", "WATCHED SINCE"], rows, look));
    } else if unused {
        text.push_str("\nevery rule was used, or is not watched for so long\n");
    }
    text
}

fn settled(finding: &Finding) -> String {
    match finding.stands {
        Some(false) => "the policy in force says otherwise by now".to_owned(),
        _ => format!("to allow it: {}", clean(&finding.cure.join("; "))),
    }
}

fn port(finding: &Finding) -> String {
    match (finding.port, finding.icmp) {
        (Some(port), _) => format!("{}/{port}", finding.protocol),
        (None, Some(icmp)) => format!("{}/{}/{}", finding.protocol, icmp.kind, icmp.code),
        (None, None) => finding.protocol.clone(),
    }
}
