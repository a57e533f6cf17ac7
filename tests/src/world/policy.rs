//! Random policies.

use bulkhead::policy::model::{
    DenyEntry, Established, GroupId, Guardrail, Mode, NamedPort, Peer, PolicySet, PortMatch, PortOf, Rule,
    SecurityGroup,
};
use bulkhead::workload::{Requirement, Selector};

use super::{APPS, ENVIRONMENTS, Random, origin};
use crate::model::{ICMP, ICMPV6, SCTP, TCP, UDP};

/// Prefixes that overlap each other and the cast's addresses, some of which cover IPv4's mapped form too.
const CIDRS: [&str; 16] = [
    "0.0.0.0/0",
    "::/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.1/32",
    "10.0.0.64/26",
    "192.0.2.0/24",
    "128.0.0.0/1",
    "198.51.100.9/32",
    "fd00::/64",
    "fd00::/126",
    "fd00::2/128",
    "2001:db8::/32",
    "::/64",
    "8000::/1",
];

/// A group of a peered network: no workload here is in it.
const PEERED: u32 = 99;
const GROUPS: u32 = 5;

pub(super) const PORTS: [u16; 8] = [80, 443, 8_000, 8_050, 53, 1, 65_535, 40_000];

/// Random groups, at most as many as there are IDs.
pub(super) fn groups(random: &mut Random) -> Vec<SecurityGroup> {
    let count = 1 + random.below(GROUPS as usize) as u32;
    (1..=count).map(|id| group(random, id)).collect()
}

/// Random guardrails, none of them in half of the policies.
pub(super) fn guardrails(random: &mut Random) -> Vec<Guardrail> {
    let count = if random.chance(50) { 0 } else { 1 + random.below(2) };
    let guardrail = |random: &mut Random, name: usize| Guardrail {
        name: format!("rail{name}"),
        description: None,
        entries: (0..=random.below(2)).map(|_| entry(random)).collect(),
        origin: origin(),
    };
    (0..count).map(|name| guardrail(random, name)).collect()
}

fn entry(random: &mut Random) -> DenyEntry {
    let side = |random: &mut Random| {
        (!random.chance(40)).then(|| (0..=random.below(2)).map(|_| peer(random)).collect::<Vec<_>>())
    };
    let (from, to) = (side(random), side(random));
    // Without any of the three it would deny everything, and nothing be left to see.
    let is_bare = from.is_none() && to.is_none();
    let ports = (is_bare || random.chance(75)).then(|| (0..=random.below(2)).map(|_| port(random)).collect());
    DenyEntry { description: None, from, to, ports, origin: origin() }
}

/// Changes a policy a little, or altogether.
pub(super) fn change(random: &mut Random, policy: &mut PolicySet) {
    if random.chance(20) {
        policy.guardrails = guardrails(random);
        return;
    }
    if policy.groups.is_empty() || random.chance(15) {
        policy.groups = groups(random);
        return;
    }
    let chosen = random.below(policy.groups.len());
    let group = &mut policy.groups[chosen];
    match random.below(9) {
        0 => {
            policy.groups.remove(chosen);
        }
        1 => group.mode = mode(random),
        2 => group.established = established(random),
        3 => group.egress = egress(random),
        4 => group.selector = selector(random),
        5 => group.ingress.get_or_insert_default().push(rule(random)),
        6 => group.ingress = if random.chance(50) { None } else { Some(Vec::new()) },
        7 if group.ingress.as_ref().is_some_and(|rules| !rules.is_empty()) => {
            let rules = group.ingress.as_mut().expect("looked at");
            let rule = random.below(rules.len());
            rules.remove(rule);
        }
        _ => {
            if let Some(rules) = &mut group.egress {
                rules.pop();
            } else {
                group.egress = Some(vec![rule(random)]);
            }
        }
    }
}

fn group(random: &mut Random, id: u32) -> SecurityGroup {
    SecurityGroup {
        name: format!("group{id}"),
        id: GroupId(id),
        description: None,
        selector: selector(random),
        // Some stand for a NetworkPolicy of egress alone, or for a peer of one.
        ingress: random.chance(80).then(|| rules(random)),
        egress: egress(random),
        mode: mode(random),
        established: established(random),
        origin: origin(),
    }
}

fn selector(random: &mut Random) -> Selector {
    let app = || "app".to_owned();
    let env = || "env".to_owned();
    let apps = |random: &mut Random| -> Vec<String> {
        (0..=random.below(2)).map(|_| (*random.pick(&APPS)).to_owned()).collect()
    };
    let requirement = match random.below(8) {
        0 => return Selector::default(),
        1 => Requirement::NotIn(app(), apps(random)),
        2 => Requirement::Exists(env()),
        3 => Requirement::DoesNotExist(env()),
        4 => Requirement::In(env(), vec![(*random.pick(&ENVIRONMENTS)).to_owned()]),
        _ => Requirement::In(app(), apps(random)),
    };
    Selector { requirements: vec![requirement] }
}

fn egress(random: &mut Random) -> Option<Vec<Rule>> {
    match random.below(4) {
        0 | 1 => None,
        2 if random.chance(40) => Some(Vec::new()),
        _ => Some(rules(random)),
    }
}

fn mode(random: &mut Random) -> Mode {
    if random.chance(20) { Mode::Audit } else { Mode::Enforce }
}

fn established(random: &mut Random) -> Established {
    if random.chance(30) { Established::Keep } else { Established::Revoke }
}

fn rules(random: &mut Random) -> Vec<Rule> {
    (0..random.below(4)).map(|_| rule(random)).collect()
}

fn rule(random: &mut Random) -> Rule {
    let peers = (0..=random.below(2)).map(|_| peer(random)).collect();
    let ports = (!random.chance(25)).then(|| (0..=random.below(2)).map(|_| port(random)).collect());
    let mut aside = random.aside();
    let named = if aside.chance(15) { (0..=aside.below(2)).map(|_| named(&mut aside)).collect() } else { Vec::new() };
    Rule { description: None, peers, ports, named, origin: origin() }
}

fn named(random: &mut Random) -> NamedPort {
    let port = *random.pick(&PORTS);
    let of = if random.chance(50) {
        PortOf::Subjects(GroupId(1 + random.below(GROUPS as usize) as u32))
    } else {
        PortOf::Peers((0..=random.below(2)).map(|_| peer(random)).collect())
    };
    NamedPort { port: PortMatch::Ports { protocol: *random.pick(&[TCP, UDP]), first: port, last: port }, of }
}

fn peer(random: &mut Random) -> Peer {
    match random.below(11) {
        0 => Peer::World,
        1 => Peer::Host,
        10 => Peer::RemoteHost,
        2 => Peer::Group(GroupId(PEERED)),
        3..=5 => Peer::Cidr(random.pick(&CIDRS).parse().expect("a literal")),
        _ => Peer::Group(GroupId(1 + random.below(GROUPS as usize) as u32)),
    }
}

fn port(random: &mut Random) -> PortMatch {
    let protocol = *random.pick(&[TCP, TCP, TCP, UDP, UDP, SCTP]);
    match random.below(12) {
        0..=4 => {
            let port = *random.pick(&PORTS);
            PortMatch::Ports { protocol, first: port, last: port }
        }
        5 => PortMatch::Ports { protocol, first: 0, last: u16::MAX },
        6 => PortMatch::Ports { protocol, first: 8_000, last: 8_099 },
        7 => {
            let (one, other) = (*random.pick(&PORTS), *random.pick(&PORTS));
            PortMatch::Ports { protocol, first: one.min(other), last: one.max(other) }
        }
        8 => PortMatch::Protocol(*random.pick(&[47, 50, 4, 112, TCP, UDP, ICMP])),
        _ => {
            let (protocol, kinds) = if random.chance(60) { (ICMP, [8, 0, 3]) } else { (ICMPV6, [128, 129, 1]) };
            let kind = (!random.chance(30)).then(|| *random.pick(&kinds));
            let code = kind.filter(|_| random.chance(40)).map(|_| random.below(2) as u8);
            PortMatch::Icmp { protocol, kind, code }
        }
    }
}
