//! What the kernel's tables shall hold: policy and workloads together, as plain data.
//!
//! Pure: the same inputs and the same tables before give the same tables, numbers aside, which stay with whoever had them
//! ([`Numbers`]).

mod cover;
mod meaning;
mod members;
pub mod memory;
mod numbers;
pub mod patch;
mod prefixes;
mod services;
pub mod tombstones;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_ebpf::abi::{Address, Backends, Frontend, IDENTITY_WORLD, Identity, MAX_IDENTITY, Party, Place};

use crate::kernel::mirror::PrefixKey;
use crate::policy::compile::{CompiledPolicy, GroupSet, TooLarge};
use crate::policy::model::{Peer, PolicySet};
use crate::workload::cluster::Cluster;
use crate::workload::identity::Holding;
use crate::workload::{CgroupRef, SourceKind, Workload};
use cover::Cover;
use meaning::{Claim, Claims, Meanings, claims};
use members::Members;
pub use numbers::Numbers;
pub use prefixes::Lengths;
use services::Resolved;

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
    /// Nodes and services of the cluster.
    pub cluster: &'a Cluster,
}

/// What the tables hold today: numbers stay with whoever has them there.
pub trait Held {
    /// Who is behind an address, by an exact entry.
    fn address(&self, address: &Address) -> Option<Party>;
    /// Every address that has an exact entry, and who is behind it.
    fn addresses(&self) -> impl Iterator<Item = (Address, Party)>;
    /// Who is behind a prefix: the entry itself, or the longest one that covers it.
    fn prefix(&self, prefix: &PrefixKey) -> Option<Party>;
    /// The workload at a cgroup.
    fn cgroup(&self, id: u64) -> Option<Place>;
    /// The workload at an interface.
    fn interface(&self, index: u32) -> Option<Place>;
    /// Whom a service stands for.
    fn backends(&self, frontend: &Frontend) -> Option<Backends>;
    /// What an identity means in the copy in force.
    fn meaning(&self, identity: u32) -> Option<Identity>;
}

/// Tables that hold nothing yet.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Held for Nothing {
    fn address(&self, _: &Address) -> Option<Party> {
        None
    }

    fn addresses(&self) -> impl Iterator<Item = (Address, Party)> {
        std::iter::empty()
    }

    fn prefix(&self, _: &PrefixKey) -> Option<Party> {
        None
    }

    fn cgroup(&self, _: u64) -> Option<Place> {
        None
    }

    fn interface(&self, _: u32) -> Option<Place> {
        None
    }

    fn backends(&self, _: &Frontend) -> Option<Backends> {
        None
    }

    fn meaning(&self, _: u32) -> Option<Identity> {
        None
    }
}

/// What the tables shall hold.
#[derive(Clone, Debug)]
pub struct Contents {
    /// `ADDRESSES`.
    pub addresses: HashMap<Address, Party>,
    /// What is in `ADDRESSES` and goes together with a change of policy, and the identity of what covers it from then on.
    pub leaving: HashMap<Address, u32>,
    /// `CIDRS`.
    pub cidrs: HashMap<PrefixKey, Party>,
    /// `SERVICES`.
    pub services: HashMap<Frontend, Backends>,
    /// `CGROUPS`.
    pub cgroups: HashMap<u64, Place>,
    /// `INTERFACES`.
    pub interfaces: HashMap<u32, Place>,
    /// `IDENTITIES` of the copy in force.
    pub identities: HashMap<u32, Identity>,
    /// `ROWS`, `RULE_REFS` and `PORT_CLASSES` of the copy in force.
    pub policy: Arc<CompiledPolicy>,
}

/// What is known of a workload beside what it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its groups.
    pub groups: GroupSet,
    /// Its number.
    pub number: u32,
    /// The identity by which its cgroup and interface are known; the world's where it is not local.
    pub identity: u32,
}

/// Contents, and what people want to know of them.
#[derive(Clone, Debug)]
pub struct Desired {
    /// What the tables shall hold.
    pub contents: Contents,
    /// Every workload, and who they are; with it, later changes of single workloads are patches.
    pub state: State,
}

/// Who the workloads are, as computed last.
#[derive(Clone, Debug)]
pub struct State {
    /// The policy.
    pub policy: Arc<PolicySet>,
    rows: Arc<CompiledPolicy>,
    members: Arc<Members>,
    cover: Arc<Cover>,
    /// Every workload, by name.
    pub workloads: BTreeMap<Arc<str>, (Workload, Member)>,
    /// How many of them each source told of.
    pub by_source: BTreeMap<SourceKind, u64>,
    by_number: HashMap<u32, Arc<str>>,
    /// Where each service is that somebody stands behind.
    frontends: HashMap<String, Vec<Frontend>>,
    /// What deserves attention.
    pub warnings: Vec<String>,
}

/// Computes the tables.
///
/// # Errors
/// [`TooLarge`] where a new policy does not fit; nothing is changed then.
pub fn desired(inputs: Inputs<'_>, numbers: &mut Numbers, held: &impl Held) -> Result<Desired, TooLarge> {
    let members = Arc::new(Members::new(inputs.policy));
    let groups: Vec<GroupSet> = inputs.workloads.iter().map(|workload| members.groups_of(workload)).collect();
    let of_local = inputs.workloads.iter().zip(&groups).filter(|(workload, _)| workload.local);
    let sets: BTreeSet<GroupSet> = of_local.map(|(_, groups)| groups.clone()).collect();
    let (policy, flips, mut warnings) = numbers.compile(inputs.policy, inputs.policy_is_new, sets)?;
    let cover = Arc::new(Cover::new(&policy));
    let meanings = Meanings::new(&policy, cover.clone());
    let claims = claims(inputs.workloads, inputs.host_addresses, inputs.cluster);

    // First everyone's holding, then the numbers, then the tables: who shares a number depends on all of them.
    let places: Vec<Option<Holding>> = inputs
        .workloads
        .iter()
        .zip(&groups)
        .map(|(workload, groups)| {
            let meaning = meanings.of_groups(groups, &mut warnings, &workload.name);
            workload.local.then(|| (held_identity(workload, held), meaning))
        })
        .collect();
    let nets: Vec<(PrefixKey, Holding)> = meanings
        .nets()
        .into_iter()
        .map(|(key, meaning)| {
            let old = held.prefix(&key).map_or(IDENTITY_WORLD, |party| party.identity);
            (key, (Some(old), meaning))
        })
        .collect();
    // Who comes together with a policy is, until it is in force, who its address says today.
    let identity_at = |address: Address| {
        let covering = || held.prefix(&PrefixKey::exact(address)).unwrap_or(Party::WORLD);
        let party = held.address(&address).or_else(|| flips.then(covering));
        party.map(|party| party.identity)
    };
    let holding_of = |address: IpAddr, claim: &Claim, warnings: &mut Vec<String>| -> Holding {
        let meaning = meanings.of_claim(address, claim, inputs.workloads, &groups, warnings);
        (identity_at(Address::from(address)), meaning)
    };
    let buried = bury(&claims, numbers, held);
    let services = services::resolve(inputs.cluster, &mut warnings, |address| match claims.get(&address) {
        Some(claim) => meanings.of_claim(address, &claim, inputs.workloads, &groups, &mut Vec::new()),
        None if buried.binary_search(&address).is_ok() => meanings.of_nobody(address),
        None => meanings.of_stranger(address),
    });
    let services: Vec<(Resolved, Holding)> = services
        .into_iter()
        .map(|(resolved, meaning)| {
            let held = resolved.frontends.first().and_then(|frontend| held.backends(frontend));
            (resolved, (held.map(|backends| backends.identity), meaning))
        })
        .collect();
    let mut holdings: BTreeSet<Holding> =
        places.iter().flatten().chain(nets.iter().map(|(_, of)| of)).copied().collect();
    holdings.extend(services.iter().map(|(_, holding)| *holding));
    for (address, claim) in claims.iter() {
        holdings.insert(holding_of(address, &claim, &mut warnings));
    }
    let holding_of_buried =
        |address: &IpAddr| -> Holding { (identity_at(Address::from(*address)), meanings.of_nobody(*address)) };
    holdings.extend(buried.iter().map(holding_of_buried));
    let leaving: Vec<(Address, Holding)> = if flips { leaving(&claims, numbers, held, &meanings) } else { Vec::new() };
    holdings.extend(leaving.iter().map(|(_, holding)| *holding));
    let assignment = numbers.identities.assign(&holdings, |number| held.meaning(number), flips);
    if assignment.unnumbered > 0 {
        warnings.push(format!(
            "{} sets of groups and CIDRs have no identity, as all {MAX_IDENTITY} are taken: who is in them is denied \
             altogether; use fewer groups or CIDRs in rules",
            assignment.unnumbered
        ));
    }
    let number_of = |workload: &Workload, numbers: &mut Numbers| numbers.workload(&workload.name);

    numbers.adopt(inputs.workloads, held);
    let mut contents = Contents {
        addresses: HashMap::with_capacity(claims.len()),
        leaving: leaving.iter().map(|(address, holding)| (*address, assignment.number(holding))).collect(),
        cidrs: HashMap::new(),
        services: HashMap::new(),
        cgroups: HashMap::new(),
        interfaces: HashMap::new(),
        identities: HashMap::new(),
        policy: policy.clone(),
    };
    for (address, claim) in claims.iter() {
        let identity = assignment.number(&holding_of(address, &claim, &mut Vec::new()));
        let party = match claim {
            Claim::Host => Party { identity, workload: 0, flags: Party::HOST },
            Claim::One(index, is_hosts) => {
                let workload = &inputs.workloads[index];
                party(workload, number_of(workload, numbers), identity, is_hosts)
            }
            Claim::Several(_) => Party { identity, workload: 0, flags: Party::SHARED },
            Claim::Service => Party { identity, workload: 0, flags: 0 },
            Claim::Node => Party { identity, workload: 0, flags: Party::NODE },
        };
        let flags = party.flags | service_flag(inputs.cluster, &address);
        contents.addresses.insert(Address::from(address), Party { flags, ..party });
    }
    let mut frontends: HashMap<String, Vec<Frontend>> = HashMap::new();
    for (resolved, holding) in services {
        let backends = Backends { identity: assignment.number(&holding), service: resolved.service };
        contents.services.extend(resolved.frontends.iter().map(|frontend| (*frontend, backends)));
        frontends.entry(resolved.name).or_default().extend(resolved.frontends);
    }
    for address in &buried {
        let identity = assignment.number(&holding_of_buried(address));
        contents.addresses.insert(Address::from(*address), Party { identity, workload: 0, flags: Party::TOMBSTONE });
    }
    for (key, holding) in &nets {
        let identity = assignment.number(holding);
        contents.cidrs.insert(*key, Party { identity, workload: 0, flags: 0 });
    }
    let mut workloads = Vec::with_capacity(inputs.workloads.len());
    let mut by_source = BTreeMap::new();
    for ((workload, groups), holding) in inputs.workloads.iter().zip(&groups).zip(&places) {
        let number = number_of(workload, numbers);
        let identity = holding.as_ref().map_or(IDENTITY_WORLD, |holding| assignment.number(holding));
        let member = Member { groups: groups.clone(), number, identity };
        *by_source.entry(workload.source).or_default() += 1;
        workloads.push((workload.name.clone(), (workload.clone(), member)));
        if holding.is_some() {
            let owns =
                |address: &Address| contents.addresses.get(address).is_some_and(|party| party.workload == number);
            let flags = source_flags(workload, owns) | numbers::mark(&workload.name);
            let place = Place { workload: number, identity, flags };
            contents.cgroups.extend(workload.cgroup.iter().map(|cgroup| (cgroup.id, place)));
            contents.interfaces.extend(workload.interface.iter().map(|interface| (interface.index, place)));
        }
    }
    for (cgroup, denies) in inputs.scopes {
        // A slice is a workload itself, and yet what is not known below it is not taken for it.
        contents.cgroups.entry(cgroup.id).or_insert(Place::HOST).flags |= scope_flags(*denies);
    }
    contents.identities = assignment.meanings;
    contents.identities.insert(IDENTITY_WORLD, meanings.of_entity(Peer::World));
    numbers.retain(inputs.workloads);
    // Made in one piece, the tree has no gaps.
    let workloads: BTreeMap<_, _> = workloads.into_iter().collect();
    let by_number = workloads.iter().map(|(name, (_, member))| (member.number, name.clone())).collect();
    let state = State {
        policy: inputs.policy.clone(),
        rows: policy,
        members,
        cover,
        workloads,
        by_source,
        by_number,
        frontends,
        warnings,
    };
    Ok(Desired { contents, state })
}

/// Buries the addresses that no workload and not the host has any more, and returns all that are buried.
fn bury(claims: &Claims, numbers: &mut Numbers, held: &impl Held) -> Vec<IpAddr> {
    let tombstones = &mut numbers.tombstones;
    let claimed: Vec<IpAddr> = tombstones.iter().filter(|address| claims.contain(address)).collect();
    claimed.iter().for_each(|address| tombstones.claim(address));
    for (address, party) in held.addresses() {
        let address = IpAddr::from(address);
        if party.workload != 0 && !claims.contain(&address) {
            tombstones.bury(address);
        }
    }
    tombstones.iter().collect()
}

/// What has an entry today and shall have none, not even as buried.
fn leaving(claims: &Claims, numbers: &Numbers, held: &impl Held, meanings: &Meanings<'_>) -> Vec<(Address, Holding)> {
    let leaves = |address: &IpAddr| !claims.contain(address) && !numbers.tombstones.holds(address);
    let entries = held.addresses().filter(|(address, _)| leaves(&IpAddr::from(*address)));
    entries.map(|(key, party)| (key, (Some(party.identity), meanings.of_stranger(key.into())))).collect()
}

/// A workload at an address that it alone claims, of the host's or not.
fn party(workload: &Workload, number: u32, identity: u32, is_hosts: bool) -> Party {
    let local = if workload.local { Party::LOCAL } else { 0 };
    let host = if is_hosts { Party::HOST } else { 0 };
    Party { identity, workload: number, flags: local | host | numbers::mark(&workload.name) }
}

/// The identity of a workload's cgroup or interface today.
fn held_identity(workload: &Workload, held: &impl Held) -> Option<u32> {
    let by_cgroup = workload.cgroup.as_ref().and_then(|cgroup| held.cgroup(cgroup.id));
    let by_interface = || workload.interface.as_ref().and_then(|interface| held.interface(interface.index));
    by_cgroup.or_else(by_interface).filter(|place| place.workload != 0).map(|place| place.identity)
}

/// A workload that has addresses and shares none can be held to them.
fn source_flags(workload: &Workload, owns: impl Fn(&Address) -> bool) -> u32 {
    let is_strict =
        !workload.addresses.is_empty() && workload.addresses.iter().all(|address| owns(&Address::from(*address)));
    if is_strict { Place::STRICT_SOURCE } else { 0 }
}

/// At a service's address, whoever has it beside the service, the packet path looks for who stands behind the port.
fn service_flag(cluster: &Cluster, address: &IpAddr) -> u32 {
    if cluster.is_service_address(address) { Party::SERVICE } else { 0 }
}

const fn scope_flags(denies: bool) -> u32 {
    if denies { Place::SCOPE | Place::SCOPE_DENIES } else { Place::SCOPE }
}

#[cfg(test)]
mod tests;
