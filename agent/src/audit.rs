//! `bulkhead audit`: what would have been denied, by groups, and the rule that would allow each of it; rules that nobody needs.
//!
//! Each finding is put to [`crate::explain`] again, so that the rule it comes with was tried, and a finding that a later policy
//! settled is told from one that stands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::explain::{Port, explain};
use crate::propose::outside;
use crate::propose::ports::PortRange;
use crate::snapshot::Snapshot;
use crate::view::audit::{AuditView, Finding};
use crate::view::talk::{RuleAge, TalkView, TalksView};

/// Names that a finding lists.
const NAMES: usize = 10;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// What was denied, rather than what would have been.
    pub denied: bool,
    /// Rules that decided nothing for so many seconds, rather than those that did.
    pub unused: Option<f64>,
}

/// The report.
#[must_use]
pub fn audit(talks: &TalksView, snapshot: &Snapshot, wanted: Wanted) -> AuditView {
    let verdict = if wanted.denied { "deny" } else { "audit" };
    let mut kinds: BTreeMap<Kind, Vec<&TalkView>> = BTreeMap::new();
    for talk in talks.talks.iter().filter(|talk| talk.verdict == verdict) {
        kinds.entry(Kind::of(talk)).or_default().push(talk);
    }
    let known = known(snapshot);
    let mut findings: Vec<Finding> = kinds.iter().map(|(kind, talks)| finding(kind, talks, snapshot, &known)).collect();
    findings.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to))));
    AuditView {
        since: talks.since,
        until: talks.until,
        findings,
        rules: rules(talks, wanted),
        forgotten: talks.forgotten,
    }
}

/// What makes flows of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    from: String,
    to: String,
    direction: String,
    reason: String,
    port: Option<PortRange>,
    protocol: String,
}

impl Kind {
    fn of(talk: &TalkView) -> Self {
        let groups = |groups: &[String], name: Option<&str>| match (groups.is_empty(), name) {
            (false, _) => groups.join(", "),
            (true, Some(name)) => name.to_owned(),
            (true, None) => "no workload".to_owned(),
        };
        let own = groups(&talk.groups, talk.workload.as_deref());
        let other = groups(&talk.peer_groups, talk.peer.as_deref());
        let (from, to) = if talk.direction == "ingress" { (other, own) } else { (own, other) };
        Self {
            from,
            to,
            direction: talk.direction.clone(),
            reason: talk.reason.clone(),
            port: PortRange::of(talk),
            protocol: talk.protocol.clone(),
        }
    }
}

/// Addresses of those who are known: no CIDR may stand for them unseen.
fn known(snapshot: &Snapshot) -> BTreeSet<IpAddr> {
    let population = snapshot.population();
    let workloads = population.workloads.iter().flat_map(|workload| workload.addresses.iter().copied());
    workloads
        .chain(population.host_addresses.iter().copied())
        .chain(population.cluster.node_addresses().copied())
        .collect()
}

fn finding(kind: &Kind, talks: &[&TalkView], snapshot: &Snapshot, known: &BTreeSet<IpAddr>) -> Finding {
    let workloads: BTreeSet<&str> = talks.iter().filter_map(|talk| talk.workload.as_deref()).collect();
    let peers: BTreeSet<String> = talks
        .iter()
        .filter_map(|talk| talk.peer.clone().or_else(|| talk.address.map(|address| address.to_string())))
        .collect();
    let addresses: BTreeSet<IpAddr> = talks.iter().filter_map(|talk| talk.address).collect();
    let (stands, mut cure, mut yaml) = asked(talks, snapshot, &kind.direction);
    if addresses.len() > 1
        && let Some(rules) = &yaml
    {
        // The one that was asked about stands for all of them.
        let own: BTreeSet<IpAddr> = talks.first().and_then(|talk| talk.address).into_iter().collect();
        let (one, all) = (outside(&own, known), outside(&addresses, known));
        yaml = Some(rules.replace(&one.join(", "), &all.join(", ")));
    }
    if stands == Some(false) {
        (cure, yaml) = (Vec::new(), None);
    }
    let talk = talks[0];
    Finding {
        verdict: talk.verdict.clone(),
        reason: kind.reason.clone(),
        direction: kind.direction.clone(),
        from: kind.from.clone(),
        to: kind.to.clone(),
        protocol: kind.protocol.clone(),
        port: talk.port,
        icmp: talk.icmp,
        count: talks.iter().map(|talk| talk.count).sum(),
        workloads: workloads.into_iter().take(NAMES).map(str::to_owned).collect(),
        peers: peers.into_iter().take(NAMES).collect(),
        first: talks.iter().map(|talk| talk.first).fold(f64::INFINITY, f64::min),
        last: talks.iter().map(|talk| talk.last).fold(0.0, f64::max),
        stands,
        cure,
        yaml,
    }
}

/// Whether the policy in force says so still, and what would have it allowed.
fn asked(talks: &[&TalkView], snapshot: &Snapshot, direction: &str) -> (Option<bool>, Vec<String>, Option<String>) {
    for talk in talks {
        let other = talk.peer.clone().or_else(|| talk.address.map(|address| address.to_string()));
        let (Some(own), Some(other)) = (talk.workload.clone(), other) else { continue };
        let (from, to) = if direction == "ingress" { (other, own) } else { (own, other) };
        let Some(port) = port(talk) else { continue };
        let Ok(view) = explain(snapshot, &from, &to, &port) else { continue };
        let said = view
            .answers
            .iter()
            .find(|answer| answer.sides.iter().any(|side| side.direction == direction && side.verdict == talk.verdict));
        return match said {
            None => (Some(false), Vec::new(), None),
            Some(answer) if answer.change.tried => (Some(true), answer.change.what.clone(), answer.change.yaml.clone()),
            Some(answer) => (Some(true), answer.change.what.clone(), None),
        };
    }
    (None, vec!["who that was is not known any more".to_owned()], None)
}

fn port(talk: &TalkView) -> Option<Port> {
    let text = match (talk.port, talk.icmp) {
        (Some(port), _) => format!("{}/{port}", talk.protocol),
        (None, Some(icmp)) => format!("{}/{}/{}", talk.protocol, icmp.kind, icmp.code),
        (None, None) => talk.protocol.clone(),
    };
    text.parse().ok()
}

/// Rules that did something, or that did nothing for long.
fn rules(talks: &TalksView, wanted: Wanted) -> Vec<RuleAge> {
    let idle = |rule: &RuleAge| talks.until - rule.last.unwrap_or(rule.since);
    let mut rules: Vec<RuleAge> = talks
        .rules
        .iter()
        .filter(|rule| match wanted.unused {
            Some(seconds) => idle(rule) >= seconds,
            None => rule.hits > 0,
        })
        .cloned()
        .collect();
    rules.sort_by(|a, b| {
        idle(b)
            .total_cmp(&idle(a))
            .then_with(|| (&a.group, &a.direction, a.index).cmp(&(&b.group, &b.direction, b.index)))
    });
    rules
}
