//! Writing the maps: only what changed, and a change of policy as one flip of the generation.
//!
//! The order of writes is what keeps a packet from seeing half a change:
//!
//! 1. the idle copy is filled: rows, rule references, port classes, identities
//! 2. identities that are new get the meaning in the active copy that their holders have there today
//! 3. holders that change their number are pointed at it; nothing means anything else yet
//! 4. the generation flips
//! 5. holders come and go
//!
//! Without a change of policy only the last step is needed, and the generation then grows by two: the same copy holds, and
//! flows are judged again.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use aya::maps::{Array, HashMap as KernelHash, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use bulkhead_ebpf::abi::{
    Address, Control, IDENTITY_WORLD, Identity, IdentityKey, Party, Place, Row, RowKey, RuleKey, RuleRef, Settings,
};

use super::error::KernelError;
use super::mirror::Mirror;
use super::pin::{Pins, file};
use super::port_table::PortTable;
use crate::desired::Contents;
use crate::policy::compile::CompiledPolicy;

type Hash<K, V> = Mirror<K, V, KernelHash<MapData, K, V>>;

/// The agent's hand on the maps. There is one.
pub struct Tables {
    control: Array<MapData, Control>,
    settings: Settings,
    generation: u32,
    addresses: Hash<Address, Party>,
    cidrs: Mirror<(u32, Address), Party, LpmTrie<MapData, Address, Party>>,
    cgroups: Hash<u64, Place>,
    interfaces: Hash<u32, Place>,
    identities: Hash<IdentityKey, Identity>,
    rows: Hash<RowKey, Row>,
    rules: Hash<RuleKey, RuleRef>,
    ports: PortTable,
    hits: PerCpuArray<MapData, u64>,
    cpus: usize,
    policy: Option<Arc<CompiledPolicy>>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The maps held it already.
    Unchanged,
    /// Workloads changed; the policy is the same.
    Workloads,
    /// Another policy holds.
    Policy,
}

impl Tables {
    /// Opens the pinned maps and reads what they hold.
    ///
    /// # Errors
    /// [`KernelError::Map`], [`KernelError::File`].
    pub fn open(pins: &Pins, settings: Settings) -> Result<Self, KernelError> {
        let control: Array<_, Control> = open(pins, "CONTROL")?;
        let generation = control
            .get(&0, 0)
            .map_err(|source| KernelError::Map { map: "CONTROL", operation: "reading", source })?
            .generation;
        let ports = MapData::from_pin(pins.map("PORT_CLASSES")).map_err(|source| KernelError::Map {
            map: "PORT_CLASSES",
            operation: "opening",
            source,
        })?;
        Ok(Self {
            control,
            settings,
            generation,
            addresses: Mirror::read("ADDRESSES", open(pins, "ADDRESSES")?)?,
            cidrs: Mirror::read("CIDRS", open(pins, "CIDRS")?)?,
            cgroups: Mirror::read("CGROUPS", open(pins, "CGROUPS")?)?,
            interfaces: Mirror::read("INTERFACES", open(pins, "INTERFACES")?)?,
            identities: Mirror::read("IDENTITIES", open(pins, "IDENTITIES")?)?,
            rows: Mirror::read("ROWS", open(pins, "ROWS")?)?,
            rules: Mirror::read("RULE_REFS", open(pins, "RULE_REFS")?)?,
            ports: PortTable::map(&ports)?,
            hits: open(pins, "RULE_HITS")?,
            cpus: nr_cpus()
                .map_err(|(_, source)| file("reading", Path::new("/sys/devices/system/cpu/possible"), source))?,
            policy: None,
        })
    }

    /// The highest numbers of a workload and of an identity that an earlier agent left in the maps.
    #[must_use]
    pub fn highest_numbers(&self) -> (u32, u32) {
        let parties = self.addresses.content().values().chain(self.cidrs.content().values());
        let places = self.cgroups.content().values().chain(self.interfaces.content().values());
        let numbers = parties
            .map(|party| (party.workload, party.identity))
            .chain(places.map(|place| (place.workload, place.identity)));
        let identities = self.identities.content().keys().map(|key| (0, key.identity));
        numbers.chain(identities).fold((0, 0), |(a, b), (workload, identity)| (a.max(workload), b.max(identity)))
    }

    /// Sets the counters of these rules to zero: their numbers are given to other rules from here on.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn reset_hits(&mut self, rules: &[u32]) -> Result<(), KernelError> {
        let fail = |operation, source| KernelError::Map { map: "RULE_HITS", operation, source };
        for rule in rules {
            let zero = PerCpuValues::try_from(vec![0; self.cpus])
                .map_err(|source| fail("counting CPUs", MapError::IoError(source)))?;
            self.hits.set(*rule, zero, 0).map_err(|source| fail("writing", source))?;
        }
        Ok(())
    }

    /// How many entries the agent wrote to each of its maps, by the map's name in metrics.
    #[must_use]
    pub fn sizes(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("addresses", self.addresses.content().len() as u64),
            ("cidrs", self.cidrs.content().len() as u64),
            ("cgroups", self.cgroups.content().len() as u64),
            ("interfaces", self.interfaces.content().len() as u64),
            ("identities", self.identities.content().len() as u64),
            ("rows", self.rows.content().len() as u64),
            ("rule_refs", self.rules.content().len() as u64),
        ])
    }

    /// The generation in force; 0 before the first policy.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Makes the maps hold `contents`.
    ///
    /// # Errors
    /// [`KernelError::Map`]: a map is full. While the idle copy is filled nothing has changed yet; later on, entries that did
    /// not fit are missing, which denies.
    pub fn apply(&mut self, contents: &Contents) -> Result<Applied, KernelError> {
        let flips = self.policy.as_ref().is_none_or(|policy| !Arc::ptr_eq(policy, &contents.policy))
            || self.redefines(&contents.identities);
        if flips {
            let (active, idle) = (self.generation & 1, !self.generation & 1);
            self.fill(idle, contents)?;
            self.split(active, contents)?;
            self.commit(self.generation.wrapping_add(1))?;
            self.policy = Some(contents.policy.clone());
        } else {
            let active = self.generation & 1;
            for (identity, meaning) in &contents.identities {
                self.identities.set(&IdentityKey { identity: *identity, copy: active }, *meaning)?;
            }
        }
        let moved = self.place(contents)?;
        if moved {
            self.commit(self.generation.wrapping_add(2))?;
        }
        let active = self.generation & 1;
        let known = |key: &IdentityKey| key.copy != active || contents.identities.contains_key(&key.identity);
        self.identities.retain(known)?;
        Ok(match (flips, moved) {
            (true, _) => Applied::Policy,
            (false, true) => Applied::Workloads,
            (false, false) => Applied::Unchanged,
        })
    }

    /// Whether an identity that packets may be using would mean something else.
    fn redefines(&self, identities: &HashMap<u32, Identity>) -> bool {
        let copy = self.generation & 1;
        identities.iter().any(|(identity, meaning)| {
            self.identities.content().get(&IdentityKey { identity: *identity, copy }).is_some_and(|old| old != meaning)
        })
    }

    /// Step 1.
    fn fill(&mut self, copy: u32, contents: &Contents) -> Result<(), KernelError> {
        let policy = &contents.policy;
        let in_copy = |key: &RowKey| RowKey { copy: copy as u8, ..*key };
        let out_of_copy = |key: &RowKey| RowKey { copy: 0, ..*key };
        self.rows.retain(|key| u32::from(key.copy) != copy || policy.rows.contains_key(&out_of_copy(key)))?;
        for (key, row) in &policy.rows {
            self.rows.set(&in_copy(key), *row)?;
        }
        self.rules.retain(|key| {
            u32::from(key.row.copy) != copy
                || policy.rules.contains_key(&RuleKey { row: out_of_copy(&key.row), ..*key })
        })?;
        for (key, rule) in &policy.rules {
            self.rules.set(&RuleKey { row: in_copy(&key.row), ..*key }, *rule)?;
        }
        self.ports.write(copy, &policy.ports.table());
        self.identities.retain(|key| key.copy != copy || contents.identities.contains_key(&key.identity))?;
        for (identity, meaning) in &contents.identities {
            self.identities.set(&IdentityKey { identity: *identity, copy }, *meaning)?;
        }
        // Prefixes that go are still in the trie when the generation flips: until then they must mean, in the new copy,
        // what covers them there.
        let going: Vec<(u32, u32)> = self
            .cidrs
            .content()
            .iter()
            .filter(|(key, party)| {
                !contents.cidrs.contains_key(key) && !contents.identities.contains_key(&party.identity)
            })
            .map(|(key, party)| (party.identity, covering(&contents.cidrs, *key).identity))
            .collect();
        for (identity, stands_for) in going {
            if let Some(meaning) = contents.identities.get(&stands_for) {
                self.identities.set(&IdentityKey { identity, copy }, *meaning)?;
            }
        }
        Ok(())
    }

    /// Steps 2 and 3.
    fn split(&mut self, active: u32, contents: &Contents) -> Result<(), KernelError> {
        for (address, party) in &contents.addresses {
            if let Some(old) = self.addresses.content().get(address).copied() {
                self.precede(active, old.identity, party.identity)?;
                self.addresses.set(address, Party { identity: party.identity, ..old })?;
            }
        }
        for (key, party) in &contents.cidrs {
            let old = self.cidrs.content().get(key).copied();
            let old = old.unwrap_or_else(|| covering(self.cidrs.content(), *key));
            self.precede(active, old.identity, party.identity)?;
            self.cidrs.set(key, *party)?;
        }
        for (cgroup, place) in &contents.cgroups {
            if let Some(old) = self.cgroups.content().get(cgroup).copied() {
                self.precede(active, old.identity, place.identity)?;
                self.cgroups.set(cgroup, Place { identity: place.identity, ..old })?;
            }
        }
        for (interface, place) in &contents.interfaces {
            if let Some(old) = self.interfaces.content().get(interface).copied() {
                self.precede(active, old.identity, place.identity)?;
                self.interfaces.set(interface, Place { identity: place.identity, ..old })?;
            }
        }
        Ok(())
    }

    /// Gives a new number the meaning of the old one in the active copy.
    fn precede(&mut self, copy: u32, old: u32, new: u32) -> Result<(), KernelError> {
        let key = IdentityKey { identity: new, copy };
        if old == new || self.identities.content().contains_key(&key) {
            return Ok(());
        }
        let meaning = self.identities.content().get(&IdentityKey { identity: old, copy }).copied();
        self.identities.set(&key, meaning.unwrap_or(Identity::NOBODY))?;
        Ok(())
    }

    /// Step 5: who is where. Additions first, so that what moves is never nowhere.
    fn place(&mut self, contents: &Contents) -> Result<bool, KernelError> {
        let mut moved = false;
        for (cgroup, place) in &contents.cgroups {
            moved |= self.cgroups.set(cgroup, *place)?;
        }
        for (interface, place) in &contents.interfaces {
            moved |= self.interfaces.set(interface, *place)?;
        }
        for (address, party) in &contents.addresses {
            moved |= self.addresses.set(address, *party)?;
        }
        for (key, party) in &contents.cidrs {
            moved |= self.cidrs.set(key, *party)?;
        }
        moved |= self.addresses.retain(|address| contents.addresses.contains_key(address))?;
        moved |= self.cidrs.retain(|key| contents.cidrs.contains_key(key))?;
        moved |= self.cgroups.retain(|cgroup| contents.cgroups.contains_key(cgroup))?;
        moved |= self.interfaces.retain(|interface| contents.interfaces.contains_key(interface))?;
        Ok(moved)
    }

    /// Step 4: the one word.
    fn commit(&mut self, generation: u32) -> Result<(), KernelError> {
        self.control.set(0, Control { generation, settings: self.settings }, 0).map_err(|source| KernelError::Map {
            map: "CONTROL",
            operation: "writing",
            source,
        })?;
        self.generation = generation;
        Ok(())
    }
}

/// What the longest proper prefix of `key` says, or the world.
fn covering(cidrs: &HashMap<(u32, Address), Party>, key: (u32, Address)) -> Party {
    let (bits, network) = key;
    let network = u128::from_be_bytes(network.octets());
    (0..bits)
        .rev()
        .find_map(|bits| {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            cidrs.get(&(bits, Address::v6((network & mask).to_be_bytes()))).copied()
        })
        .unwrap_or(Party { identity: IDENTITY_WORLD, ..Party::WORLD })
}

/// Opens a pinned map as its type.
pub(super) fn open<T: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &'static str) -> Result<T, KernelError> {
    MapData::from_pin(pins.map(name))
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(|source| KernelError::Map { map: name, operation: "opening", source })
}
