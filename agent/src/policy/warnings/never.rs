//! Rules and deny entries that no packet can match.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::contradiction;
use crate::policy::model::{GroupId, Origin, Peer, PolicySet, PortMatch};
use crate::policy::problem::Problem;

/// Warns of rules and deny entries that can never match.
pub(super) fn entries(policy: &PolicySet, warnings: &mut Vec<Problem>) {
    let nobody: BTreeSet<GroupId> =
        policy.groups.iter().filter(|group| contradiction(&group.selector).is_some()).map(|group| group.id).collect();
    let mut check = |what: &str, origin: &Origin, sides: [Option<&[Peer]>; 2], ports: Option<&[PortMatch]>| {
        if let Some(why) = never(sides, ports, &nobody) {
            let message = format!("this {what} can never match: {why}");
            let cure = format!("mend the {what}, or remove it");
            warnings.push(Problem { origin: Some(origin.clone()), message, cure });
        }
    };
    for group in &policy.groups {
        for rule in group.all_rules() {
            // At ports that it names, whom it allows is known to be there.
            if rule.named.is_empty() {
                check("rule", &rule.origin, [Some(&rule.peers), None], rule.ports.as_deref());
            }
        }
    }
    for entry in policy.guardrails.iter().flat_map(|guardrail| &guardrail.entries) {
        check("deny entry", &entry.origin, [entry.from.as_deref(), entry.to.as_deref()], entry.ports.as_deref());
    }
}

/// Why nothing matches; `None` for a side or ports is anything.
fn never(sides: [Option<&[Peer]>; 2], ports: Option<&[PortMatch]>, nobody: &BTreeSet<GroupId>) -> Option<&'static str> {
    if ports.is_some_and(<[_]>::is_empty) {
        return Some("it names its ports by names, and no pod whose port could be meant is known to have one of them");
    }
    let empty = |peer: &Peer| matches!(peer, Peer::Group(id) if nobody.contains(id));
    if sides.into_iter().flatten().any(|side| side.iter().all(empty)) {
        return Some("the selectors of the groups that it names match no workload");
    }
    let of_sides =
        sides.map(|side| side.map_or(Versions::BOTH, |side| Versions::any(side.iter().map(versions_of_peer))));
    let of_ports = ports.map_or(Versions::BOTH, |ports| Versions::any(ports.iter().map(versions_of_port)));
    let [from, to] = of_sides;
    if !from.and(to).and(of_ports).some() {
        return Some("what it names is IPv4 alone on one side, and IPv6 alone on the other");
    }
    None
}

/// The IP versions in which something can be.
#[derive(Clone, Copy)]
struct Versions {
    v4: bool,
    v6: bool,
}

impl Versions {
    const BOTH: Self = Self { v4: true, v6: true };
    const V4: Self = Self { v4: true, v6: false };
    const V6: Self = Self { v4: false, v6: true };

    fn any(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self { v4: false, v6: false }, |some, one| Self { v4: some.v4 || one.v4, v6: some.v6 || one.v6 })
    }

    const fn and(self, other: Self) -> Self {
        Self { v4: self.v4 && other.v4, v6: self.v6 && other.v6 }
    }

    const fn some(self) -> bool {
        self.v4 || self.v6
    }
}

const fn versions_of_peer(peer: &Peer) -> Versions {
    match peer {
        Peer::Cidr(IpNet::V4(_)) => Versions::V4,
        Peer::Cidr(IpNet::V6(_)) => Versions::V6,
        Peer::Group(_) | Peer::World | Peer::Host | Peer::RemoteHost => Versions::BOTH,
    }
}

/// ICMP (1) is IPv4's, ICMPv6 (58) is IPv6's.
const fn versions_of_port(port: &PortMatch) -> Versions {
    match port {
        PortMatch::Icmp { protocol: 1, .. } => Versions::V4,
        PortMatch::Icmp { .. } => Versions::V6,
        PortMatch::Ports { .. } | PortMatch::Protocol(_) => Versions::BOTH,
    }
}
