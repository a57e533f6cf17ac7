//! What the kernel's tables shall hold: policy and workloads together, as plain data.
//!
//! Pure: the same inputs give the same tables, numbers aside, which stay with whoever had them ([`Numbers`]).

mod cover;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_ebpf::abi::{Address, IDENTITY_WORLD, Identity, MAX_IDENTITY_SLOTS, Party, Place, SLOT_HOST, SLOT_WORLD};

use crate::kernel::mirror::PrefixKey;
use crate::policy::compile::{CompiledPolicy, GroupSet, RuleNumbers, TooLarge, compile};
use crate::policy::model::{Peer, PolicySet};
use crate::workload::identity::Identities;
use crate::workload::{CgroupRef, Workload};
use cover::Cover;

/// Everything that decides what the tables shall hold.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The policy.
    pub policy: &'a Arc<PolicySet>,
    /// Whether the policy is new: one that does not fit is refused then. Otherwise the rows in force stay, and a workload that
    /// needs others is denied altogether.
    pub policy_is_new: bool,
    /// Every known workload.
    pub workloads: &'a [Workload],
    /// The host's own addresses.
    pub host_addresses: &'a BTreeSet<IpAddr>,
    /// Managed scopes that exist, and whether what is unidentified below them is denied.
    pub scopes: &'a [(CgroupRef, bool)],
}

/// What the tables shall hold.
#[derive(Clone, Debug)]
pub struct Contents {
    /// `ADDRESSES`.
    pub addresses: HashMap<Address, Party>,
    /// `CIDRS`.
    pub cidrs: HashMap<PrefixKey, Party>,
    /// `CGROUPS`.
    pub cgroups: HashMap<u64, Place>,
    /// `INTERFACES`.
    pub interfaces: HashMap<u32, Place>,
    /// `IDENTITIES` of the copy in force.
    pub identities: HashMap<u32, Identity>,
    /// `ROWS`, `RULE_REFS` and `PORT_CLASSES` of the copy in force.
    pub policy: Arc<CompiledPolicy>,
}

/// Contents, and what people want to know of them.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What the tables shall hold.
    pub contents: Contents,
    /// The groups of each workload, by the workload's name.
    pub members: BTreeMap<String, GroupSet>,
    /// What deserves attention.
    pub warnings: Vec<String>,
}

/// Numbers that outlive a single computation.
#[derive(Debug, Default)]
pub struct Numbers {
    workloads: HashMap<String, u32>,
    last_workload: u32,
    /// Numbers of rules.
    pub rules: RuleNumbers,
    identities: Identities<Holder>,
    compiled: Option<Compiled>,
}

/// Rows, and what they were compiled from.
#[derive(Debug)]
struct Compiled {
    policy: Arc<PolicySet>,
    sets: BTreeSet<GroupSet>,
    rows: Arc<CompiledPolicy>,
}

impl Numbers {
    /// Numbers above those that an earlier agent left in the kernel: nothing there may be taken for something else.
    #[must_use]
    pub fn above(last_workload: u32, last_identity: u32) -> Self {
        Self { last_workload, identities: Identities::above(last_identity), ..Self::default() }
    }

    /// The number of a workload; never 0, never another's, not even a former one's.
    pub fn workload(&mut self, name: &str) -> u32 {
        if let Some(number) = self.workloads.get(name) {
            return *number;
        }
        self.last_workload = self.last_workload.checked_add(1).unwrap_or(1);
        self.workloads.insert(name.to_owned(), self.last_workload);
        self.last_workload
    }

    /// The rows for these local sets of groups, whether they are new, and what deserves attention. The same rows keep the
    /// same allocation, so that "nothing changed" is a comparison of pointers from here on.
    fn compile(
        &mut self,
        inputs: &Inputs<'_>,
        sets: BTreeSet<GroupSet>,
    ) -> Result<(Arc<CompiledPolicy>, bool, Vec<String>), TooLarge> {
        if let Some(before) = &self.compiled
            && Arc::ptr_eq(&before.policy, inputs.policy)
            && before.sets == sets
        {
            return Ok((before.rows.clone(), false, Vec::new()));
        }
        let rules = self.rules.clone();
        match (compile(inputs.policy, &sets, &mut self.rules), &self.compiled) {
            (Ok(rows), before) => {
                let same = before.as_ref().filter(|before| *before.rows == rows).map(|before| before.rows.clone());
                let flips = same.is_none();
                let rows = same.unwrap_or_else(|| Arc::new(rows));
                self.compiled = Some(Compiled { policy: inputs.policy.clone(), sets, rows: rows.clone() });
                Ok((rows, flips, Vec::new()))
            }
            (Err(problem), Some(before)) if !inputs.policy_is_new => {
                self.rules = rules;
                let warning =
                    format!("workloads in a set of groups that is new on this host are denied altogether: {problem}");
                Ok((before.rows.clone(), false, vec![warning]))
            }
            (Err(problem), _) => {
                self.rules = rules;
                Err(problem)
            }
        }
    }

    /// The number of a workload that has one.
    #[must_use]
    pub fn known_workload(&self, name: &str) -> Option<u32> {
        self.workloads.get(name).copied()
    }

    /// Forgets the numbers of workloads that are gone.
    fn retain(&mut self, workloads: &[Workload]) {
        if self.workloads.len() > workloads.len() {
            let names: HashSet<&str> = workloads.iter().map(|workload| workload.name.as_str()).collect();
            self.workloads.retain(|name, _| names.contains(name.as_str()));
        }
    }

    /// The identity by which a workload's cgroup and interface are known.
    #[must_use]
    pub fn identity(&self, name: &str) -> u32 {
        self.identities.of(&Holder::Workload(name.to_owned()))
    }
}

/// Who holds an identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Workload(String),
    Address(Address),
    Cidr(PrefixKey),
}

/// Computes the tables.
///
/// # Errors
/// [`TooLarge`] where a new policy does not fit; nothing is changed then.
pub fn desired(inputs: Inputs<'_>, numbers: &mut Numbers) -> Result<Desired, TooLarge> {
    let members: BTreeMap<String, GroupSet> =
        inputs.workloads.iter().map(|workload| (workload.name.clone(), groups_of(inputs.policy, workload))).collect();
    let sets: BTreeSet<GroupSet> = inputs
        .workloads
        .iter()
        .filter(|workload| workload.local)
        .map(|workload| members[&workload.name].clone())
        .collect();
    let (policy, flips, mut warnings) = numbers.compile(&inputs, sets)?;

    let mut build =
        Build { inputs, cover: Cover::new(&policy.slots), policy: &policy, members: &members, warnings: Vec::new() };
    let holders = build.holders();
    let parties: Vec<(Holder, Identity)> =
        holders.iter().map(|(holder, known)| (holder.clone(), known.identity)).collect();
    let mut identities = numbers.identities.assign(&parties, flips);
    identities.insert(IDENTITY_WORLD, build.identity(&GroupSet::new(), None, Some(Peer::World)));

    let mut contents = Contents {
        addresses: HashMap::new(),
        cidrs: HashMap::new(),
        cgroups: HashMap::new(),
        interfaces: HashMap::new(),
        identities,
        policy: policy.clone(),
    };
    for (holder, known) in holders {
        let identity = numbers.identities.of(&holder);
        let workload = known.workload.map_or(0, |name| numbers.workload(name));
        match holder {
            Holder::Address(address) => {
                contents.addresses.insert(address, Party { identity, workload, flags: known.flags });
            }
            Holder::Cidr(key) => {
                contents.cidrs.insert(key, Party { identity, workload, flags: known.flags });
            }
            Holder::Workload(_) => {}
        }
    }
    for workload in inputs.workloads.iter().filter(|workload| workload.local) {
        let place = Place {
            workload: numbers.workload(&workload.name),
            identity: numbers.identity(&workload.name),
            flags: if has_addresses_of_its_own(workload, &contents, numbers) { Place::STRICT_SOURCE } else { 0 },
        };
        if let Some(cgroup) = &workload.cgroup {
            contents.cgroups.insert(cgroup.id, place);
        }
        if let Some(interface) = &workload.interface {
            contents.interfaces.insert(interface.index, place);
        }
    }
    for (cgroup, denies) in inputs.scopes {
        // A slice is a workload itself, and yet what is not known below it is not taken for it.
        let place = contents.cgroups.entry(cgroup.id).or_insert(Place { identity: IDENTITY_WORLD, ..Place::default() });
        place.flags |= Place::SCOPE | if *denies { Place::SCOPE_DENIES } else { 0 };
    }
    numbers.retain(inputs.workloads);
    warnings.append(&mut build.warnings);
    Ok(Desired { contents, members, warnings })
}

fn groups_of(policy: &PolicySet, workload: &Workload) -> GroupSet {
    policy.groups.iter().filter(|group| group.selector.matches(&workload.labels)).map(|group| group.id).collect()
}

/// Whether the workload has addresses and shares none: only then can its packets be held to them.
fn has_addresses_of_its_own(workload: &Workload, contents: &Contents, numbers: &mut Numbers) -> bool {
    let number = numbers.workload(&workload.name);
    !workload.addresses.is_empty()
        && workload.addresses.iter().all(|address| {
            contents.addresses.get(&Address::from(*address)).is_some_and(|party| party.workload == number)
        })
}

/// What a holder of an identity is.
struct Known<'a> {
    identity: Identity,
    workload: Option<&'a str>,
    flags: u32,
}

struct Build<'a> {
    inputs: Inputs<'a>,
    policy: &'a CompiledPolicy,
    cover: Cover,
    members: &'a BTreeMap<String, GroupSet>,
    warnings: Vec<String>,
}

impl<'a> Build<'a> {
    /// Everyone who holds an identity, in a fixed order.
    fn holders(&mut self) -> Vec<(Holder, Known<'a>)> {
        let mut holders = Vec::new();
        for workload in self.inputs.workloads.iter().filter(|workload| workload.local) {
            let identity = self.identity(&self.members[&workload.name], None, None);
            self.check_slots(workload, None);
            let known = Known { identity, workload: Some(&workload.name), flags: 0 };
            holders.push((Holder::Workload(workload.name.clone()), known));
        }
        for (address, claimants) in self.claims() {
            let known = self.address(address, &claimants);
            holders.push((Holder::Address(Address::from(address)), known));
        }
        for net in self.cover.nets() {
            let world = self.policy.slots.get(&Peer::World).copied();
            let slots = self.cover.slots_of_net(net).into_iter().chain(world);
            let identity = self.with_slots(&GroupSet::new(), slots);
            holders.push((Holder::Cidr(cover::key(net)), Known { identity, workload: None, flags: 0 }));
        }
        holders
    }

    /// Addresses, with the workloads that claim each; none for the host's own.
    fn claims(&self) -> BTreeMap<IpAddr, Vec<&'a Workload>> {
        let mut claims: BTreeMap<IpAddr, Vec<&Workload>> = BTreeMap::new();
        for workload in self.inputs.workloads {
            for address in &workload.addresses {
                claims.entry(*address).or_default().push(workload);
            }
        }
        for address in self.inputs.host_addresses.iter().filter(|address| !address.is_loopback()) {
            claims.entry(*address).or_default();
        }
        claims
    }

    fn address(&mut self, address: IpAddr, claimants: &[&'a Workload]) -> Known<'a> {
        match claimants {
            [] => Known {
                identity: self.identity(&GroupSet::new(), Some(address), Some(Peer::Host)),
                workload: None,
                flags: Party::HOST,
            },
            [workload] => {
                let identity = self.identity(&self.members[&workload.name], Some(address), None);
                self.check_slots(workload, Some(address));
                Known { identity, workload: Some(&workload.name), flags: if workload.local { Party::LOCAL } else { 0 } }
            }
            [first, rest @ ..] => {
                // Only what holds for all of them is safe to say of the address.
                let mut common = self.members[&first.name].clone();
                for workload in rest {
                    common.retain(|group| self.members[&workload.name].contains(group));
                }
                let names: Vec<&str> = claimants.iter().map(|workload| workload.name.as_str()).collect();
                self.warnings.push(format!(
                    "address {address} is claimed by {}: as a peer it has only the groups that all of them share; give each \
                     its own address",
                    names.join(" and ")
                ));
                Known { identity: self.identity(&common, Some(address), None), workload: None, flags: 0 }
            }
        }
    }

    /// The identity of a set of groups at an address: as a subject its rows, as a peer its slots, the most telling first.
    fn identity(&self, groups: &GroupSet, address: Option<IpAddr>, entity: Option<Peer>) -> Identity {
        let entity_slot = entity.and_then(|entity| self.policy.slots.get(&entity).copied());
        self.with_slots(groups, self.slots(groups, address).into_iter().chain(entity_slot))
    }

    fn slots(&self, groups: &GroupSet, address: Option<IpAddr>) -> Vec<u16> {
        let group_slots = groups.iter().filter_map(|group| self.policy.slots.get(&Peer::Group(*group)).copied());
        group_slots.chain(address.map(|address| self.cover.slots(address)).unwrap_or_default()).collect()
    }

    fn with_slots(&self, groups: &GroupSet, slots: impl Iterator<Item = u16>) -> Identity {
        let (subject, flags) = match self.policy.subjects.get(groups) {
            Some(subject) => *subject,
            None if groups.is_empty() => (0, 0),
            // Rows for this set did not fit, or the set is that of remote workloads alone, which nobody looks up as a subject.
            None => (0, Identity::GOVERNED | Identity::FULL),
        };
        let mut identity = Identity { subject, flags, ..Identity::NOBODY };
        for slot in slots {
            let Some(free) = identity.slots.get_mut(usize::from(identity.count)) else {
                if !groups.is_empty() {
                    identity.flags |= Identity::GOVERNED | Identity::FULL;
                }
                break;
            };
            *free = slot;
            identity.count += 1;
        }
        identity
    }

    fn check_slots(&mut self, workload: &Workload, address: Option<IpAddr>) {
        if self.slots(&self.members[&workload.name], address).len() > MAX_IDENTITY_SLOTS {
            self.warnings.push(format!(
                "workload {} is in more than {MAX_IDENTITY_SLOTS} groups and CIDRs that rules name: it is denied \
                 altogether; have it selected by fewer groups",
                workload.name
            ));
        }
    }
}

// The entities' slots are fixed, whether named or not.
const _: () = assert!(SLOT_WORLD == 0 && SLOT_HOST == 1);

#[cfg(test)]
mod tests;
