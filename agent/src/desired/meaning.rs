//! What an identity means: the groups behind an address, a cgroup or an interface, and the CIDRs that cover it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_ebpf::abi::{Denied, Identity, MAX_IDENTITY_SLOTS, SLOT_HOST, SLOT_REMOTE_HOST, SLOT_WORLD};

use super::cover::{self, Cover};
use crate::kernel::mirror::PrefixKey;
use crate::policy::compile::{CompiledPolicy, GroupSet};
use crate::policy::model::{GroupId, Peer};
use crate::workload::Workload;
use crate::workload::cluster::Cluster;

/// Who claims one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The host itself, and nobody else.
    Host,
    /// One workload, by its place in the list, at one of the host's addresses or not.
    One(usize, bool),
    /// Several.
    Several(Vec<usize>),
    /// Another node, and nobody else.
    Node,
    /// A service, and nobody else.
    Service,
}

/// Every address, with those who claim it: a sorted list, for addresses may be a million.
pub(super) struct Claims(Vec<(IpAddr, u32)>);

/// Those that stand behind every workload, the first of them before the others.
const HOST: u32 = u32::MAX - 2;
const NODE: u32 = u32::MAX - 1;
const SERVICE: u32 = u32::MAX;

pub(super) fn claims(workloads: &[Workload], host_addresses: &BTreeSet<IpAddr>, cluster: &Cluster) -> Claims {
    let of_workloads = workloads
        .iter()
        .zip(0u32..)
        .flat_map(|(workload, index)| workload.addresses.iter().map(move |address| (*address, index)));
    let of_host = host_addresses.iter().filter(|address| !address.is_loopback()).map(|address| (*address, HOST));
    let of_nodes = cluster.node_addresses().map(|address| (*address, NODE));
    let of_services = cluster.service_addresses().map(|address| (*address, SERVICE));
    let mut list: Vec<(IpAddr, u32)> = of_workloads.chain(of_host).chain(of_nodes).chain(of_services).collect();
    list.sort_unstable();
    list.dedup();
    Claims(list)
}

impl Claims {
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contain(&self, address: &IpAddr) -> bool {
        self.0.binary_search_by(|(of, _)| of.cmp(address)).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, Claim)> {
        self.0.chunk_by(|(a, _), (b, _)| a == b).map(|same| (same[0].0, claim(same)))
    }

    /// Who claims an address, if anyone does.
    pub(super) fn get(&self, address: &IpAddr) -> Option<Claim> {
        let begin = self.0.partition_point(|(of, _)| of < address);
        let same = self.0[begin..].chunk_by(|(a, _), (b, _)| a == b).next()?;
        (same[0].0 == *address).then(|| claim(same))
    }
}

/// The claim that those who want one address have together.
fn claim(same: &[(IpAddr, u32)]) -> Claim {
    let count = same.iter().take_while(|(_, who)| *who < HOST).count();
    let (workloads, others) = same.split_at(count);
    match (workloads, others.first()) {
        ([], Some((_, NODE))) => Claim::Node,
        ([], Some((_, SERVICE))) => Claim::Service,
        ([], _) => Claim::Host,
        ([(_, one)], other) => Claim::One(*one as usize, matches!(other, Some((_, HOST)))),
        (several, _) => Claim::Several(several.iter().map(|(_, who)| *who as usize).collect()),
    }
}

/// Meanings under one compiled policy.
pub(super) struct Meanings<'a> {
    policy: &'a CompiledPolicy,
    cover: Arc<Cover>,
}

impl<'a> Meanings<'a> {
    pub(super) const fn new(policy: &'a CompiledPolicy, cover: Arc<Cover>) -> Self {
        Self { policy, cover }
    }

    /// A workload as the subject of its own rules, and as a peer without an address.
    pub(super) fn of_groups(&self, groups: &GroupSet, warnings: &mut Vec<String>, name: &str) -> Identity {
        let (identity, fits) = self.with_slots(groups, self.group_slots(groups), self.denied(groups.iter()));
        if !fits {
            warnings.push(too_many_slots(name));
        }
        identity
    }

    /// Whoever is behind an address.
    pub(super) fn of_claim(
        &self,
        address: IpAddr,
        claim: &Claim,
        workloads: &[Workload],
        groups: &[GroupSet],
        warnings: &mut Vec<String>,
    ) -> Identity {
        match claim {
            Claim::Host => self.of_host(address),
            Claim::Node => self.of_node(address),
            Claim::Service => self.of_nobody(address),
            Claim::One(index, _) => self.of_member(address, &workloads[*index], &groups[*index], warnings),
            Claim::Several(claimants) => {
                let (covering, mut denied) = self.cover.of(address);
                // Only what holds for all of them is safe to say of the address; what is denied to one of them is denied.
                let shared = |group: &_| claimants.iter().all(|claimant| groups[*claimant].contains(group));
                let common: GroupSet = groups[claimants[0]].iter().filter(|group| shared(group)).copied().collect();
                let names: Vec<&str> = claimants.iter().map(|claimant| &*workloads[*claimant].name).collect();
                warnings.push(format!(
                    "address {address} is claimed by {}: as a peer it has only the groups that all of them share; give each \
                     its own address",
                    names.join(" and ")
                ));
                denied.add(&self.denied(claimants.iter().flat_map(|claimant| &groups[*claimant])));
                self.with_slots(&common, self.group_slots(&common).chain(covering), denied).0
            }
        }
    }

    /// The host itself, at one of its addresses.
    pub(super) fn of_host(&self, address: IpAddr) -> Identity {
        let (covering, mut denied) = self.cover.of(address);
        denied.add(&self.denied_peer(Peer::Host));
        self.with_slots(&GroupSet::new(), covering.into_iter().chain(self.slot(Peer::Host)), denied).0
    }

    /// Another node, at one of its addresses.
    pub(super) fn of_node(&self, address: IpAddr) -> Identity {
        let (covering, mut denied) = self.cover.of(address);
        denied.add(&self.denied_peer(Peer::RemoteHost));
        self.with_slots(&GroupSet::new(), covering.into_iter().chain(self.slot(Peer::RemoteHost)), denied).0
    }

    /// A workload at an address that it alone claims.
    pub(super) fn of_member(
        &self,
        address: IpAddr,
        workload: &Workload,
        groups: &GroupSet,
        warnings: &mut Vec<String>,
    ) -> Identity {
        let (covering, mut denied) = self.cover.of(address);
        denied.add(&self.denied(groups.iter()));
        let (identity, fits) = self.with_slots(groups, self.group_slots(groups).chain(covering), denied);
        if !fits {
            warnings.push(too_many_slots(&workload.name));
        }
        identity
    }

    /// An address that nobody has any more.
    pub(super) fn of_nobody(&self, address: IpAddr) -> Identity {
        let (covering, mut denied) = self.cover.of(address);
        // Whoever comes next may be a stranger: what is denied to the world is denied here.
        denied.add(&self.denied_peer(Peer::World));
        self.with_slots(&GroupSet::new(), covering.into_iter(), denied).0
    }

    /// An address that has no entry of its own.
    pub(super) fn of_stranger(&self, address: IpAddr) -> Identity {
        self.of_world(self.cover.of(address))
    }

    fn of_world(&self, (covering, mut denied): (Vec<u16>, Denied)) -> Identity {
        denied.add(&self.denied_peer(Peer::World));
        self.with_slots(&GroupSet::new(), covering.into_iter().chain(self.slot(Peer::World)), denied).0
    }

    /// `world` or `host` without an address of its own.
    pub(super) fn of_entity(&self, entity: Peer) -> Identity {
        self.with_slots(&GroupSet::new(), self.slot(entity).into_iter(), self.denied_peer(entity)).0
    }

    /// The prefixes that the kernel's trie needs, with what is behind an address there that has no entry of its own.
    pub(super) fn nets(&self) -> Vec<(PrefixKey, Identity)> {
        self.cover.nets().into_iter().map(|net| (cover::key(net), self.of_world(self.cover.of_net(net)))).collect()
    }

    fn slot(&self, peer: Peer) -> Option<u16> {
        self.policy.slots.get(&peer).copied()
    }

    fn group_slots(&self, groups: &GroupSet) -> impl Iterator<Item = u16> {
        groups.iter().filter_map(|group| self.slot(Peer::Group(*group)))
    }

    /// The deny entries that name members of any of `groups`.
    fn denied<'b>(&self, groups: impl Iterator<Item = &'b GroupId>) -> Denied {
        let mut denied = Denied::NOTHING;
        for group in groups {
            denied.add(&self.denied_peer(Peer::Group(*group)));
        }
        denied
    }

    fn denied_peer(&self, peer: Peer) -> Denied {
        self.policy.denied.get(&peer).copied().unwrap_or_default()
    }

    /// As a subject the rows of `groups`, as a peer `slots`, the most telling first; and whether all of them fit.
    fn with_slots(&self, groups: &GroupSet, slots: impl Iterator<Item = u16>, denied: Denied) -> (Identity, bool) {
        let (subject, flags) = match self.policy.subjects.get(groups) {
            Some(subject) => *subject,
            None if groups.is_empty() => (0, 0),
            // Rows for this set did not fit, or the set is that of remote workloads alone, which nobody looks up as a subject.
            None => (0, Identity::GOVERNED | Identity::FULL),
        };
        let mut identity = Identity { subject, flags, denied, ..Identity::NOBODY };
        if let Some(anyone) = &self.policy.denied_anyone {
            identity.denied.add(anyone);
            identity.flags |= Identity::GUARDED;
        }
        for slot in slots {
            let Some(free) = identity.slots.get_mut(usize::from(identity.count)) else {
                if !groups.is_empty() {
                    identity.flags |= Identity::GOVERNED | Identity::FULL;
                }
                return (identity, groups.is_empty());
            };
            *free = slot;
            identity.count += 1;
        }
        (identity, true)
    }
}

fn too_many_slots(name: &str) -> String {
    format!(
        "workload {name} is in more than {MAX_IDENTITY_SLOTS} groups and CIDRs that rules name: it is denied altogether; have \
         it selected by fewer groups"
    )
}

// The entities' slots are fixed, whether named or not.
const _: () = assert!(SLOT_WORLD == 0 && SLOT_HOST == 1 && SLOT_REMOTE_HOST == 2);
