//! Rules all of which another one allows, and deny entries all of which another one denies.

use std::collections::HashMap;

use bulkhead_ebpf::abi::Direction;
use ipnet::IpNet;

use crate::policy::model::{DenyEntry, Guardrail, Origin, Peer, PortMatch, Rule, SecurityGroup};
use crate::policy::problem::Problem;

/// Warns of a group's rules that another rule of the group covers.
pub(super) fn rules(group: &SecurityGroup, direction: Direction, warnings: &mut Vec<Problem>) {
    let rules: Vec<&Rule> = group.rules(direction).map(|(_, rule)| rule).collect();
    let peers = Peers::new(&rules);
    for (index, rule) in rules.iter().enumerate() {
        let others = peers.candidates(rule).filter(|other| *other != index);
        // Of two that say the same, the first one is needed.
        let is_wider = |other: &usize| covers(rules[*other], rule) && (*other < index || !covers(rule, rules[*other]));
        if let Some(other) = others.filter(is_wider).min() {
            let wide = rules[other];
            let message =
                format!("all that this rule allows, {} allows", named("rule", &wide.description, &wide.origin));
            warnings.push(warning(&rule.origin, message));
        }
    }
}

/// Warns of deny entries that another one covers, of the same guardrail or another.
pub(super) fn entries(guardrails: &[Guardrail], warnings: &mut Vec<Problem>) {
    let entries: Vec<&DenyEntry> = guardrails.iter().flat_map(|guardrail| &guardrail.entries).collect();
    for (index, entry) in entries.iter().enumerate() {
        let mut others = entries.iter().enumerate().filter(|(other, _)| *other != index);
        let wide = others.find(|(other, wide)| denies(wide, entry) && (*other < index || !denies(entry, wide)));
        if let Some((_, wide)) = wide {
            let message =
                format!("all that this entry denies, {} denies", named("entry", &wide.description, &wide.origin));
            warnings.push(warning(&entry.origin, message));
        }
    }
}

fn warning(origin: &Origin, message: String) -> Problem {
    Problem { origin: Some(origin.clone()), message, cure: "remove one of the two".to_owned() }
}

/// `the rule on line 7 ("from anywhere")`. A document is in one file, but a guardrail's neighbour may be in another.
fn named(what: &str, description: &Option<String>, origin: &Origin) -> String {
    let place = if what == "rule" { format!("on line {}", origin.line) } else { format!("at {origin}") };
    let description = description.as_ref().map(|text| format!(" (\"{}\")", text.trim())).unwrap_or_default();
    format!("the {what} {place}{description}")
}

/// Rules by their peers: who covers a rule covers its first peer, so that ten thousand need not be compared with one another.
struct Peers {
    exact: HashMap<Peer, Vec<usize>>,
    cidrs: Vec<usize>,
}

impl Peers {
    fn new(rules: &[&Rule]) -> Self {
        let mut peers = Self { exact: HashMap::new(), cidrs: Vec::new() };
        for (index, rule) in rules.iter().enumerate() {
            for peer in &rule.peers {
                if !matches!(peer, Peer::Cidr(_)) {
                    peers.exact.entry(*peer).or_default().push(index);
                }
            }
            if rule.peers.iter().any(|peer| matches!(peer, Peer::Cidr(_))) {
                peers.cidrs.push(index);
            }
        }
        peers
    }

    fn candidates(&self, rule: &Rule) -> impl Iterator<Item = usize> {
        let first = rule.peers.first();
        let exact = first.and_then(|peer| self.exact.get(peer)).into_iter().flatten();
        let may_be_wider = matches!(first, Some(Peer::Cidr(_) | Peer::World));
        exact.chain(self.cidrs.iter().filter(move |_| may_be_wider)).copied()
    }
}

/// Whether `wide` denies everything that `narrow` denies, whatever workloads there are.
fn denies(wide: &DenyEntry, narrow: &DenyEntry) -> bool {
    let covers = |wide: &Option<Vec<Peer>>, narrow: &Option<Vec<Peer>>| match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide == narrow || narrow.iter().all(|peer| covers_peer(wide, *peer)),
    };
    covers_ports(wide.ports.as_deref(), narrow.ports.as_deref())
        && covers(&wide.from, &narrow.from)
        && covers(&wide.to, &narrow.to)
}

/// Whether `wide` allows everything that `narrow` allows, whatever workloads there are.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    // The same AddressGroup, which may be long, needs no comparison of each prefix with each.
    narrow.named.is_empty()
        && covers_ports(wide.ports.as_deref(), narrow.ports.as_deref())
        && (wide.peers == narrow.peers || narrow.peers.iter().all(|peer| covers_peer(&wide.peers, *peer)))
}

/// Whether everyone whom `narrow` stands for is in `wide`, whatever workloads there are.
pub(super) fn covers_peer(wide: &[Peer], narrow: Peer) -> bool {
    let everyone = |length_of: fn(&IpNet) -> bool| {
        wide.iter().any(|peer| matches!(peer, Peer::Cidr(net) if net.prefix_len() == 0 && length_of(net)))
    };
    match narrow {
        Peer::Cidr(narrow) => {
            wide.iter().any(|peer| matches!(peer, Peer::Cidr(wide) if *wide == narrow || wide.contains(&narrow)))
        }
        // The world is known by address alone, which the host and members of groups need not be.
        Peer::World => {
            wide.contains(&narrow)
                || (everyone(|net| matches!(net, IpNet::V4(_))) && everyone(|net| matches!(net, IpNet::V6(_))))
        }
        Peer::Group(_) | Peer::Host | Peer::RemoteHost => wide.contains(&narrow),
    }
}

/// Whether `wide` has all of `narrow`; `None` is every protocol and port.
pub(super) fn covers_ports(wide: Option<&[PortMatch]>, narrow: Option<&[PortMatch]>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|narrow| wide.iter().any(|wide| covers_port(*wide, *narrow))),
    }
}

fn covers_port(wide: PortMatch, narrow: PortMatch) -> bool {
    match (wide, narrow) {
        (PortMatch::Ports { protocol, first, last }, PortMatch::Ports { protocol: narrow, first: from, last: to }) => {
            protocol == narrow && first <= from && to <= last
        }
        (PortMatch::Icmp { protocol, kind, code }, PortMatch::Icmp { protocol: narrow, kind: of, code: at }) => {
            protocol == narrow && (kind.is_none() || (kind == of && (code.is_none() || code == at)))
        }
        (wide, narrow) => wide == narrow,
    }
}
