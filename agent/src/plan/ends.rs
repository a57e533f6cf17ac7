//! Ends of flows that no rule of two policies tells apart, and one of each to put on trial.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::Side;
use crate::policy::compile::GroupSet;
use crate::policy::model::{Peer, PolicySet};
use crate::trial::Who;
use crate::workload::Workload;

/// As many CIDRs of rules are looked at from outside.
const MAX_CIDRS: usize = 512;
/// Nobody's addresses (RFC 5737, RFC 3849), for those whom no CIDR names.
const STRANGERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Ends that both policies treat alike.
#[derive(Debug)]
pub(super) struct Kind {
    /// What it is called: names of groups, or whom it is about.
    pub(super) label: String,
    place: Place,
    /// One or two of it, with an address of each IP version where they have one.
    samples: Vec<Sample>,
    /// Whether there is but one of it.
    is_one: bool,
}

#[derive(Debug)]
struct Sample {
    name: Option<Arc<str>>,
    addresses: [Option<IpAddr>; 2],
}

/// Where it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// A workload of this host; whether it is one under each of the policies.
    Here([bool; 2]),
    Host,
    Elsewhere,
}

impl Kind {
    pub(super) const fn is_here(&self) -> bool {
        matches!(self.place, Place::Here(_))
    }

    /// Whether it is one end, which does not send to itself.
    pub(super) const fn is_alone(&self) -> bool {
        self.is_one
    }

    /// One of it, with its address of an IP version; of two, the other one.
    pub(super) fn address(&self, is_v4: bool, other: bool) -> Option<(Option<Arc<str>>, IpAddr)> {
        let sample = self.samples.get(usize::from(other)).or(self.samples.first())?;
        Some((sample.name.clone(), sample.addresses[usize::from(!is_v4)]?))
    }

    /// Who that is under the first or the second policy.
    pub(super) fn who(&self, side: usize, name: Option<&Arc<str>>) -> Who {
        match (self.place, name) {
            (Place::Here(is_there), Some(name)) if is_there[side] => Who::Workload(name.clone()),
            // A process of the host, as long as nobody says that it is a workload.
            (Place::Here(_), _) | (Place::Host, _) => Who::Host,
            (Place::Elsewhere, _) => Who::Elsewhere,
        }
    }
}

/// Everything by which rules may tell a workload from another.
type Key = (Place, [Option<GroupSet>; 2], BTreeSet<IpNet>, bool);

/// Every kind of end that is there, and of outside addresses one for each CIDR.
pub(super) fn kinds(before: &Side, after: &Side, omitted: &mut Vec<String>) -> Vec<Kind> {
    let mut cidrs: Vec<IpNet> =
        cidrs(&before.policy).chain(cidrs(&after.policy)).collect::<BTreeSet<_>>().into_iter().collect();
    if cidrs.len() > MAX_CIDRS {
        omitted.push(format!("{} of {} CIDRs in rules were not looked at", cidrs.len() - MAX_CIDRS, cidrs.len()));
        cidrs.truncate(MAX_CIDRS);
    }
    let mut found: BTreeMap<Key, (Vec<&Workload>, Vec<Sample>)> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for workload in before.population.workloads.iter().chain(&after.population.workloads) {
        if !names.insert(workload.name.clone()) {
            continue;
        }
        let addresses = addresses(workload, before);
        let groups = [before, after].map(|side| side.groups(&workload.name).cloned());
        let place =
            if workload.local { Place::Here([groups[0].is_some(), groups[1].is_some()]) } else { Place::Elsewhere };
        let key = (place, groups, covering(&cidrs, &addresses), workload.interface.is_some());
        let (all, samples) = found.entry(key).or_default();
        all.push(workload);
        if samples.len() < 2 {
            samples.push(Sample { name: Some(workload.name.clone()), addresses });
        }
    }
    let mut kinds: Vec<Kind> = found
        .into_iter()
        .map(|((place, groups, ..), (all, samples))| {
            let mut names: Vec<String> = before.names(groups[0].as_ref());
            names.extend(after.names(groups[1].as_ref()));
            let names: BTreeSet<String> = names.into_iter().collect();
            let label = match (names.is_empty(), all.len()) {
                (false, _) => names.into_iter().collect::<Vec<_>>().join(", "),
                (true, 1) => all[0].name.to_string(),
                (true, _) => "workloads in no group".to_owned(),
            };
            Kind { label, place, is_one: all.len() == 1, samples }
        })
        .collect();
    kinds.extend(host(before));
    let node = after.population.cluster.node_addresses().find(|node| !before.population.host_addresses.contains(node));
    kinds.extend(node.map(|node| outside("remote-host".to_owned(), [*node])));
    kinds.extend(outsiders(before, after, &cidrs));
    kinds
}

fn host(side: &Side) -> Option<Kind> {
    let find = |is_v4: bool| {
        let mut all = side.population.host_addresses.iter();
        all.find(|address| address.is_ipv4() == is_v4 && !address.is_loopback()).copied()
    };
    let addresses = [find(true), find(false)];
    addresses.iter().any(Option::is_some).then(|| Kind {
        label: "host".to_owned(),
        place: Place::Host,
        samples: vec![Sample { name: None, addresses }],
        is_one: true,
    })
}

fn outside(label: String, addresses: impl IntoIterator<Item = IpAddr>) -> Kind {
    let mut of_versions = [None, None];
    for address in addresses {
        of_versions[usize::from(address.is_ipv6())] = Some(address);
    }
    Kind { label, place: Place::Elsewhere, samples: vec![Sample { name: None, addresses: of_versions }], is_one: true }
}

/// An outside address for each set of CIDRs that covers one.
fn outsiders(before: &Side, after: &Side, cidrs: &[IpNet]) -> Vec<Kind> {
    let known: BTreeSet<IpAddr> = [before, after]
        .iter()
        .flat_map(|side| side.population.workloads.iter().flat_map(|workload| workload.addresses.iter().copied()))
        .chain(before.population.host_addresses.iter().copied())
        .chain(after.population.cluster.node_addresses().copied())
        .collect();
    let mut seen: BTreeSet<BTreeSet<IpNet>> = BTreeSet::new();
    let mut kinds = Vec::new();
    let strangers = STRANGERS.map(|address| covering(cidrs, &[Some(address), None]));
    seen.extend(strangers);
    kinds.push(outside("world".to_owned(), STRANGERS));
    for net in cidrs {
        // Narrower ones leave room before or behind them.
        let nested = cidrs.iter().filter(|inner| net.contains(*inner) && *inner != net);
        let around = nested.flat_map(|inner| [step(inner.network(), -1), step(inner.broadcast(), 1)]).flatten();
        let first = [net.network(), net.broadcast()].into_iter();
        let near = (1..16).filter_map(|by| step(net.network(), by));
        let candidates =
            first.chain(near).chain(around).filter(|address| net.contains(address) && !known.contains(address));
        for address in candidates {
            let of = if address.is_ipv4() { [Some(address), None] } else { [None, Some(address)] };
            if seen.insert(covering(cidrs, &of)) {
                kinds.push(outside(net.to_string(), [address]));
            }
        }
    }
    kinds
}

/// The address so many further on, where there is one.
fn step(address: IpAddr, by: i8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            address.to_bits().checked_add_signed(by.into()).map(|bits| Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(address) => {
            address.to_bits().checked_add_signed(by.into()).map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    }
}

/// The addresses that a workload sends from: its own, or where it has none and shares the host's namespace the host's.
fn addresses(workload: &Workload, side: &Side) -> [Option<IpAddr>; 2] {
    let of = |is_v4: bool| {
        let own = workload.addresses.iter().find(|address| address.is_ipv4() == is_v4).copied();
        let shares = workload.local && workload.interface.is_none() && workload.addresses.is_empty();
        let mut hosts = side.population.host_addresses.iter().copied().filter(|_| shares);
        own.or_else(|| hosts.find(|address| address.is_ipv4() == is_v4 && !address.is_loopback()))
    };
    let found = [of(true), of(false)];
    if found == [None, None] {
        // It has none yet: of the shared address space (RFC 6598), which no policy should name.
        return [Some(IpAddr::from([100, 127, 0, 1])), None];
    }
    found
}

fn covering(cidrs: &[IpNet], addresses: &[Option<IpAddr>; 2]) -> BTreeSet<IpNet> {
    cidrs.iter().filter(|net| addresses.iter().flatten().any(|address| net.contains(address))).copied().collect()
}

/// The CIDRs that rules and deny entries name.
fn cidrs(policy: &PolicySet) -> impl Iterator<Item = IpNet> {
    let of_rules = policy
        .groups
        .iter()
        .flat_map(crate::policy::model::SecurityGroup::all_rules)
        .flat_map(|rule| rule.parts().flat_map(|part| part.peers.to_vec()).collect::<Vec<_>>());
    let of_entries = policy
        .guardrails
        .iter()
        .flat_map(|rail| &rail.entries)
        .flat_map(|entry| entry.from.iter().chain(&entry.to).flatten().copied().collect::<Vec<_>>());
    of_rules.chain(of_entries).filter_map(|peer| if let Peer::Cidr(net) = peer { Some(net) } else { None })
}
