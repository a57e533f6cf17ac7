//! `bulkhead suggest`: the least policy that allows what was seen, as YAML that a person is meant to read and change.
//!
//! Workloads become groups by their labels ([`mod@roles`]), what they did becomes rules between those groups, and what nobody did is what the
//! proposal denies. Pure: the same talks give the same text.

pub mod addresses;
pub mod ports;
pub mod roles;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::snapshot::Population;
use crate::view::talk::{TalkView, TalksView};
use crate::workload::Labels;
use addresses::{Summary, summarise};
use ports::{PortRange, merge};
use roles::{Role, names, roles};

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Groups that enforce at once, rather than audit.
    pub enforce: bool,
    /// Rules for what comes in alone: what goes out stays open.
    pub ingress_only: bool,
    /// What was denied is allowed, too.
    pub include_denied: bool,
}

/// Who is there beside those that talked, where an agent knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// This host's addresses.
    pub host: BTreeSet<IpAddr>,
    /// Other nodes' addresses.
    pub nodes: BTreeSet<IpAddr>,
    /// Workloads' names and labels, by their addresses.
    pub workloads: BTreeMap<IpAddr, (String, Labels)>,
    /// Who stands behind a service: by its address, protocol and port.
    pub services: BTreeMap<(IpAddr, u8, u16), Vec<SocketAddr>>,
    /// Names of groups that there are.
    pub groups: BTreeSet<String>,
}

impl Known {
    /// What an agent knows.
    #[must_use]
    pub fn of(population: &Population, groups: impl Iterator<Item = String>) -> Self {
        let workloads = population.workloads.iter().flat_map(|workload| {
            let of = (workload.name.to_string(), (*workload.labels).clone());
            workload.addresses.iter().map(move |address| (*address, of.clone()))
        });
        let services = population.cluster.services().flat_map(|service| {
            service.addresses.iter().flat_map(|address| {
                service.ports.iter().map(|port| ((*address, port.protocol, port.port), port.backends.clone()))
            })
        });
        let nodes = population.cluster.node_addresses().copied();
        Self {
            nodes: nodes.filter(|node| !population.host_addresses.contains(node)).collect(),
            host: population.host_addresses.clone(),
            workloads: workloads.collect(),
            services: services.collect(),
            groups: groups.collect(),
        }
    }
}

/// The other side of what a group did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Other {
    Role(Role),
    Host,
    Nodes,
    /// Addresses of nobody who is known.
    Outside,
}

/// What stood behind a rule.
#[derive(Clone, Debug, Default)]
struct Evidence {
    flows: u64,
    own: BTreeSet<String>,
    others: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<PortRange>,
    last: f64,
}

/// A rule, with what stood behind it.
#[derive(Clone, Debug)]
struct ProposedRule {
    peers: Vec<String>,
    ports: Vec<PortRange>,
    evidence: Evidence,
}

/// A group, with what it is made of.
#[derive(Clone, Debug)]
struct ProposedGroup {
    name: String,
    role: Role,
    members: BTreeSet<String>,
    ingress: Vec<ProposedRule>,
    egress: Vec<ProposedRule>,
}

/// A proposal: groups, and what was left out of them.
#[derive(Clone, Debug)]
pub struct Proposal {
    groups: Vec<ProposedGroup>,
    wanted: Wanted,
    flows: u64,
    since: f64,
    until: f64,
    left_out: BTreeMap<String, u64>,
}

impl Proposal {
    /// How many groups there are.
    #[must_use]
    pub const fn groups(&self) -> usize {
        self.groups.len()
    }

    /// As YAML.
    #[must_use]
    pub fn yaml(&self) -> String {
        text::yaml(self)
    }
}

/// The least policy that allows what was seen.
#[must_use]
pub fn propose(talks: &TalksView, known: &Known, wanted: Wanted) -> Proposal {
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    let mut flows = 0;
    let seen: Vec<&TalkView> = talks
        .talks
        .iter()
        .filter(|talk| {
            flows += talk.count;
            let denied = talk.verdict == "deny" && !wanted.include_denied;
            if denied {
                *left_out
                    .entry("flows were denied, and are not allowed here; --include-denied would".to_owned())
                    .or_default() += talk.count;
            }
            !denied
        })
        .collect();
    let mut labels: BTreeMap<&str, &Labels> = BTreeMap::new();
    for (name, of) in known.workloads.values() {
        labels.insert(name, of);
    }
    for talk in &seen {
        labels.extend(talk.workload.as_deref().map(|name| (name, &talk.labels)));
        labels.extend(talk.peer.as_deref().map(|name| (name, &talk.peer_labels)));
    }
    let roles = roles(&labels);
    let mut sides: BTreeMap<(Role, bool, Other), Evidence> = BTreeMap::new();
    let mut members: BTreeMap<Role, BTreeSet<String>> = BTreeMap::new();
    for talk in seen {
        for edge in edges(talk, known, &roles) {
            match edge {
                Ok(edge) => edge.note(talk, &mut sides, &mut members),
                Err(why) => *left_out.entry(why.to_owned()).or_default() += talk.count,
            }
        }
    }
    let each: BTreeSet<&Role> = members.keys().collect();
    let named = names(&each, &known.groups);
    let everyone: BTreeSet<IpAddr> = known.workloads.keys().chain(&known.host).chain(&known.nodes).copied().collect();
    let groups = members.iter().map(|(role, of)| {
        let rules = |is_ingress: bool| rules(&sides, role, is_ingress, &named, &everyone);
        ProposedGroup {
            name: named[role].clone(),
            role: role.clone(),
            members: of.clone(),
            ingress: rules(true),
            egress: if wanted.ingress_only { Vec::new() } else { rules(false) },
        }
    });
    Proposal { groups: groups.collect(), wanted, flows, since: talks.since, until: talks.until, left_out }
}

/// One way that a flow went: who sent, who received.
struct Edge<'a> {
    sender: (Other, Option<&'a str>),
    receiver: (Other, Option<&'a str>),
    address: Option<IpAddr>,
    port: PortRange,
}

impl Edge<'_> {
    /// A rule's evidence on each side that is a group's.
    fn note(
        &self,
        talk: &TalkView,
        sides: &mut BTreeMap<(Role, bool, Other), Evidence>,
        members: &mut BTreeMap<Role, BTreeSet<String>>,
    ) {
        for ((own, name), (other, other_name), is_ingress) in
            [(&self.sender, &self.receiver, false), (&self.receiver, &self.sender, true)]
        {
            let Other::Role(role) = own else { continue };
            members.entry(role.clone()).or_default().extend(name.map(str::to_owned));
            let evidence = sides.entry((role.clone(), is_ingress, other.clone())).or_default();
            evidence.flows += talk.count;
            evidence.own.extend(name.map(str::to_owned));
            evidence.others.extend(other_name.map(str::to_owned));
            evidence.addresses.extend(self.address.filter(|_| *other == Other::Outside));
            evidence.ports.insert(self.port.clone());
            evidence.last = evidence.last.max(talk.last);
        }
    }
}

/// The ways that a talk stands for: several, where a service stands for its back ends.
fn edges<'a>(
    talk: &'a TalkView,
    known: &'a Known,
    roles: &BTreeMap<&str, Role>,
) -> Vec<Result<Edge<'a>, &'static str>> {
    const NAMELESS: &str = "flows were of workloads without labels that last, which no group can select";
    const NOBODY: &str = "flows were of nobody who is known to be a workload";
    let Some(port) = PortRange::of(talk) else {
        return vec![Err("flows were of a kind that no rule can name")];
    };
    let Some(workload) = talk.workload.as_deref() else { return vec![Err(NOBODY)] };
    let Some(own) = roles.get(workload) else { return vec![Err(NAMELESS)] };
    let own = (Other::Role(own.clone()), Some(workload));
    let way = |other: (Other, Option<&'a str>), address, port| {
        let own = own.clone();
        let (sender, receiver) = if talk.direction == "ingress" { (other, own) } else { (own, other) };
        Edge { sender, receiver, address, port }
    };
    if let Some(peer) = talk.peer.as_deref() {
        let role = roles.get(peer).map(|role| Ok(way((Other::Role(role.clone()), Some(peer)), None, port)));
        return vec![role.unwrap_or(Err(NAMELESS))];
    }
    let Some(address) = talk.address else { return vec![Err(NOBODY)] };
    let at = |address: IpAddr| match known.workloads.get(&address) {
        Some((name, _)) => roles.get(name.as_str()).map(|role| (Other::Role(role.clone()), Some(name.as_str()))),
        None if known.host.contains(&address) => Some((Other::Host, None)),
        None if known.nodes.contains(&address) => Some((Other::Nodes, None)),
        None => Some((Other::Outside, None)),
    };
    if let PortRange::Ports(name, number, _) = port
        && let Some(protocol) =
            crate::workload::port::PROTOCOLS.iter().find(|(of, _)| *of == name).map(|(_, number)| *number)
        && let Some(backends) = known.services.get(&(address, protocol, number))
    {
        let way = |backend: &SocketAddr| {
            let port = PortRange::Ports(name, backend.port(), backend.port());
            at(backend.ip()).map(|other| way(other, Some(backend.ip()), port)).ok_or(NAMELESS)
        };
        return backends.iter().map(way).collect();
    }
    vec![at(address).map(|other| way(other, Some(address), port)).ok_or(NAMELESS)]
}

/// The rules of one direction of a group: peers with the same ports share one.
fn rules(
    sides: &BTreeMap<(Role, bool, Other), Evidence>,
    role: &Role,
    is_ingress: bool,
    names: &BTreeMap<&Role, String>,
    everyone: &BTreeSet<IpAddr>,
) -> Vec<ProposedRule> {
    let mut rules: Vec<ProposedRule> = Vec::new();
    let own = sides.iter().filter(|((of, ingress, _), _)| of == role && *ingress == is_ingress);
    for ((_, _, other), evidence) in own {
        let peers = match other {
            Other::Role(role) => names.get(role).map(|name| format!("{{group: {name}}}")).into_iter().collect(),
            Other::Host => vec!["{entity: host}".to_owned()],
            Other::Nodes => vec!["{entity: remote-host}".to_owned()],
            Other::Outside => outside(&evidence.addresses, everyone),
        };
        let ports = merge(&evidence.ports);
        match rules.iter_mut().find(|rule| rule.ports == ports) {
            Some(rule) => {
                rule.peers.extend(peers);
                rule.evidence.flows += evidence.flows;
                rule.evidence.own.extend(evidence.own.iter().cloned());
                rule.evidence.others.extend(evidence.others.iter().cloned());
                rule.evidence.addresses.extend(&evidence.addresses);
                rule.evidence.last = rule.evidence.last.max(evidence.last);
            }
            None => rules.push(ProposedRule { peers, ports, evidence: evidence.clone() }),
        }
    }
    rules
}

/// Outside addresses as peers, in YAML.
#[must_use]
pub fn outside(addresses: &BTreeSet<IpAddr>, known: &BTreeSet<IpAddr>) -> Vec<String> {
    match summarise(addresses, known) {
        Summary::World => vec!["{entity: world}".to_owned()],
        Summary::Cidrs(nets) => nets
            .iter()
            .map(|net| if net.addr().is_ipv6() { format!("{{cidr: \"{net}\"}}") } else { format!("{{cidr: {net}}}") })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
