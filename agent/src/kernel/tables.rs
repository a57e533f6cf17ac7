//! Writing the maps: only what changed, and a change of policy as one flip of the generation.
//!
//! The order of writes is what keeps a packet from seeing half a change:
//!
//! 1. the idle copy is filled, once no packet reads it any more: rows, rule references, port classes, identities
//! 2. identities that are new get the meaning in the active copy that their holders have there today
//! 3. holders that change their number are pointed at it, and addresses that come or go with the policy get entries of their
//!    own; nothing means anything else yet
//! 4. the generation flips
//! 5. holders come and go
//!
//! Without a change of policy only the last step is needed, and the generation then grows by two: the same copy holds, and
//! flows are judged again.

mod entries;
mod exempt;
mod held;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData, MapError};
use bulkhead_ebpf::abi::{
    Address, Backends, Control, FAILSAFE, Frontend, IDENTITY_NONE, Identity, IdentityKey, PORT_INDEXES, Party, Place,
    Row, RowKey, RuleKey, RuleRef, Settings,
};

use super::error::KernelError;
use super::grace::let_packets_end;
use super::identity_table::IdentityTable;
use super::mirror::{Mirror, PrefixKey};
use super::pin::Pins;
use super::shared::Shared;
use crate::config::failsafe::FailsafePort;
use crate::desired::patch::Patch;
use crate::desired::{Contents, Lengths};
use crate::policy::compile::CompiledPolicy;
use entries::{copied, first_error, removed, renumbered, written};

/// The agent's hand on the maps. There is one.
pub struct Tables {
    control: Array<MapData, Control>,
    settings: Settings,
    generation: u32,
    /// When the generation was last changed, if by this agent: what an earlier one changed is long over.
    changed: Option<Instant>,
    addresses: Mirror<Address, Party>,
    cidrs: Mirror<PrefixKey, Party>,
    /// Of `cidrs`.
    lengths: Lengths,
    services: Mirror<Frontend, Backends>,
    cgroups: Mirror<u64, Place>,
    /// The agent's own cgroup.
    exempt: Option<u64>,
    interfaces: Mirror<u32, Place>,
    identities: Mirror<IdentityKey, Identity, IdentityTable>,
    /// Identities of the copy in force that nobody has had since the last change.
    unused: HashSet<IdentityKey>,
    rows: Mirror<RowKey, Row>,
    rules: Mirror<RuleKey, RuleRef>,
    ports: Shared<u16>,
    failsafe: (Shared<u64>, Vec<u64>),
    hits: Array<MapData, u64>,
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
    /// Opens the pinned maps and reads what they hold. The failsafe ports are set at once: nothing else depends on them.
    ///
    /// # Errors
    /// [`KernelError::Map`], [`KernelError::File`].
    pub fn open(pins: &Pins, settings: Settings, failsafe: &[FailsafePort]) -> Result<Self, KernelError> {
        let control: Array<_, Control> = open(pins, "CONTROL")?;
        let generation = control
            .get(&0, 0)
            .map_err(|source| KernelError::Map { map: "CONTROL", operation: "reading", source })?
            .generation;
        let cidrs = Mirror::open(pins, "CIDRS")?;
        let failsafe = failsafe_words(failsafe);
        let mut failsafe_map = Shared::open(pins, "FAILSAFE", FAILSAFE as usize)?;
        failsafe_map.write(0, &failsafe);
        Ok(Self {
            control,
            settings,
            generation,
            changed: None,
            addresses: Mirror::open(pins, "ADDRESSES")?,
            lengths: Lengths::of(cidrs.content()),
            cidrs,
            services: Mirror::open(pins, "SERVICES")?,
            cgroups: Mirror::open(pins, "CGROUPS")?,
            exempt: None,
            interfaces: Mirror::open(pins, "INTERFACES")?,
            identities: Mirror::open(pins, "IDENTITIES")?,
            unused: HashSet::new(),
            rows: Mirror::open(pins, "ROWS")?,
            rules: Mirror::open(pins, "RULE_REFS")?,
            failsafe: (failsafe_map, failsafe),
            ports: Shared::open(pins, "PORT_CLASSES", 2 * PORT_INDEXES as usize)?,
            hits: open(pins, "RULE_HITS")?,
            policy: None,
        })
    }

    /// The highest number of a workload, and the numbers of identities, that an earlier agent left in the maps.
    #[must_use]
    pub fn numbers_in_use(&self) -> (u32, HashSet<u32>) {
        let parties = self.addresses.content().values().chain(self.cidrs.content().values());
        let places = self.cgroups.content().values().chain(self.interfaces.content().values());
        let numbers = parties
            .map(|party| (party.workload, party.identity))
            .chain(places.map(|place| (place.workload, place.identity)));
        let (mut last, mut identities) = (0, HashSet::new());
        identities.extend(self.identities.content().keys().map(|key| key.identity));
        identities.extend(self.services.content().values().map(|backends| backends.identity));
        for (workload, identity) in numbers {
            last = last.max(workload);
            identities.insert(identity);
        }
        (last, identities)
    }

    /// Sets the counters of these rules to zero: their numbers are given to other rules from here on.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn reset_hits(&mut self, rules: &[u32]) -> Result<(), KernelError> {
        for rule in rules {
            let failed = |source| KernelError::Map { map: "RULE_HITS", operation: "writing", source };
            self.hits.set(*rule, 0, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// How many entries the agent wrote to each of its maps, by the map's name in metrics.
    #[must_use]
    pub fn sizes(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("addresses", self.addresses.content().len() as u64),
            ("cidrs", self.cidrs.content().len() as u64),
            ("services", self.services.content().len() as u64),
            ("cgroups", self.cgroups.content().len() as u64),
            ("interfaces", self.interfaces.content().len() as u64),
            ("identities", self.identities.content().len() as u64),
            ("rows", self.rows.content().len() as u64),
            ("rule_refs", self.rules.content().len() as u64),
        ])
    }

    /// For how long an idle flow may be remembered at most.
    #[must_use]
    pub fn longest_time_out(&self) -> Duration {
        let settings = &self.settings;
        let tcp = settings.tcp_embryonic.max(settings.tcp_established).max(settings.tcp_closing);
        let udp = settings.udp_one_way.max(settings.udp_stream);
        let longest = tcp.max(udp).max(settings.icmp).max(settings.other);
        Duration::from_secs(u64::from(longest.div_ceil(settings.hz.max(1))))
    }

    /// The generation in force; 0 before the first policy.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Makes the maps hold `contents`.
    ///
    /// # Errors
    /// [`KernelError::Full`], [`KernelError::Map`]: a map is full. While the idle copy is filled nothing has changed yet; later on, entries that did
    /// not fit are missing, which denies.
    pub fn apply(&mut self, contents: &Contents) -> Result<Applied, KernelError> {
        let flips = self.policy.as_ref().is_none_or(|policy| !Arc::ptr_eq(policy, &contents.policy))
            || self.redefines(&contents.identities);
        if flips {
            let (active, idle) = (self.generation & 1, !self.generation & 1);
            // The idle copy was in force before that.
            self.changed.into_iter().for_each(let_packets_end);
            self.fill(idle, contents)?;
            self.split(active, contents)?;
            self.commit(self.generation.wrapping_add(1))?;
            self.policy = Some(contents.policy.clone());
        } else {
            let active = self.generation & 1;
            let meanings = contents.identities.iter();
            self.identities.set_all(
                meanings.map(|(identity, meaning)| (IdentityKey { identity: *identity, copy: active }, *meaning)),
            )?;
        }
        let (moved, placed) = self.place(contents);
        if moved {
            self.commit(self.generation.wrapping_add(2))?;
        }
        placed?;
        self.remove_unused(contents)?;
        Ok(match (flips, moved) {
            (true, _) => Applied::Policy,
            (false, true) => Applied::Workloads,
            (false, false) => Applied::Unchanged,
        })
    }

    /// Removes identities that nobody has had since the last time: a packet may have read such a number just before.
    fn remove_unused(&mut self, contents: &Contents) -> Result<(), KernelError> {
        let active = self.generation & 1;
        let is_unused = |key: &&IdentityKey| key.copy == active && !contents.identities.contains_key(&key.identity);
        let unused: HashSet<IdentityKey> = self.identities.content().keys().filter(is_unused).copied().collect();
        let before = std::mem::take(&mut self.unused);
        self.identities.unset_all(before.intersection(&unused).copied())?;
        self.unused = unused.difference(&before).copied().collect();
        Ok(())
    }

    /// Holds the maps against what the agent wrote, large ones part by part, and mends what differs. Returns how many entries
    /// did, by the map's name in metrics; where packets may have been judged by them, flows are judged again.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn audit(&mut self) -> Result<BTreeMap<&'static str, u64>, KernelError> {
        let mut differences = BTreeMap::from([
            ("addresses", self.addresses.audit()?),
            ("cidrs", self.cidrs.audit()?),
            ("services", self.services.audit()?),
            ("cgroups", self.cgroups.audit()?),
            ("interfaces", self.interfaces.audit()?),
            ("identities", self.identities.audit()?),
            ("rows", self.rows.audit()?),
            ("rule_refs", self.rules.audit()?),
        ]);
        let copy = self.generation as usize & 1;
        if let Some(policy) = &self.policy {
            let differ = self.ports.write(copy * PORT_INDEXES as usize, &policy.ports.table());
            differences.insert("port_classes", differ.into());
        }
        let (map, words) = &mut self.failsafe;
        differences.insert("failsafe", map.write(0, words).into());
        let control = Control { generation: self.generation, settings: self.settings };
        let reading = |source| KernelError::Map { map: "CONTROL", operation: "reading", source };
        differences.insert("control", (self.control.get(&0, 0).map_err(reading)? != control).into());
        differences.retain(|_, count| *count > 0);
        if !differences.is_empty() {
            self.commit(self.generation.wrapping_add(2))?;
        }
        Ok(differences)
    }

    /// Writes a few entries of the copy in force.
    ///
    /// # Errors
    /// [`KernelError::Full`], [`KernelError::Map`]: a map is full; what was not written is missing, which denies.
    pub fn patch(&mut self, patch: &Patch) -> Result<Applied, KernelError> {
        let copy = self.generation & 1;
        self.identities.set_all(
            patch.identities.iter().map(|(identity, meaning)| (IdentityKey { identity: *identity, copy }, *meaning)),
        )?;
        // In the order of [`Self::place`].
        let before = self.writes();
        let added = first_error([
            self.services.set_all(written(&patch.services)),
            self.addresses.set_all(written(&patch.addresses)),
            self.cgroups.set_all(written(&patch.cgroups)),
            self.interfaces.set_all(written(&patch.interfaces)),
        ]);
        let taken = first_error([
            self.cgroups.unset_all(removed(&patch.cgroups)),
            self.interfaces.unset_all(removed(&patch.interfaces)),
            self.addresses.unset_all(removed(&patch.addresses)),
            self.services.unset_all(removed(&patch.services)),
        ]);
        if self.writes() != before {
            self.commit(self.generation.wrapping_add(2))?;
        }
        added.and(taken)?;
        Ok(if self.writes() == before { Applied::Unchanged } else { Applied::Workloads })
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
        self.rows.set_all(policy.rows.iter().map(|(key, row)| (in_copy(key), *row)))?;
        self.rules.retain(|key| {
            u32::from(key.row.copy) != copy
                || policy.rules.contains_key(&RuleKey { row: out_of_copy(&key.row), ..*key })
        })?;
        let in_rules = policy.rules.iter();
        self.rules.set_all(in_rules.map(|(key, rule)| (RuleKey { row: in_copy(&key.row), ..*key }, *rule)))?;
        self.ports.write(copy as usize * PORT_INDEXES as usize, &policy.ports.table());
        self.identities.retain(|key| key.copy != copy || contents.identities.contains_key(&key.identity))?;
        let meanings = contents.identities.iter();
        self.identities
            .set_all(meanings.map(|(identity, meaning)| (IdentityKey { identity: *identity, copy }, *meaning)))?;
        // Prefixes that go are still in the trie when the generation flips: until then they must mean, in the new copy,
        // what covers them there.
        let going = self.cidrs.content().iter().filter(|(key, party)| {
            !contents.cidrs.contains_key(key) && !contents.identities.contains_key(&party.identity)
        });
        let lengths = Lengths::of(&contents.cidrs);
        let going: Vec<(IdentityKey, Identity)> = going
            .filter_map(|(key, party)| {
                let covering = lengths.above(&contents.cidrs, *key).unwrap_or(Party::WORLD);
                let meaning = contents.identities.get(&covering.identity)?;
                Some((IdentityKey { identity: party.identity, copy }, *meaning))
            })
            .collect();
        self.identities.set_all(going)?;
        Ok(())
    }

    /// Steps 2 and 3.
    fn split(&mut self, active: u32, contents: &Contents) -> Result<(), KernelError> {
        let old_addresses = self.addresses.content();
        let old_cidrs = self.cidrs.content();
        let covering = |prefix| self.lengths.covering(old_cidrs, prefix).unwrap_or(Party::WORLD);
        let staying = contents.addresses.iter().map(|(address, party)| match old_addresses.get(address) {
            Some(old) => (*address, Party { identity: party.identity, ..*old }, old.identity),
            // It comes with the policy.
            None => (*address, *party, covering(PrefixKey::exact(*address)).identity),
        });
        let leaving = contents.leaving.iter().filter_map(|(address, identity)| {
            let old = *old_addresses.get(address)?;
            Some((*address, Party { identity: *identity, ..old }, old.identity))
        });
        let addresses: Vec<(Address, Party, u32)> = staying.chain(leaving).collect();
        let cidrs: Vec<(PrefixKey, Party, u32)> = contents
            .cidrs
            .iter()
            .map(|(key, party)| {
                let old = covering(*key);
                (*key, *party, old.identity)
            })
            .collect();
        let with = |place: &Place, identity| Place { identity, ..*place };
        let cgroups = renumbered(self.cgroups.content(), &contents.cgroups, |place| place.identity, with);
        let interfaces = renumbered(self.interfaces.content(), &contents.interfaces, |place| place.identity, with);
        let services = renumbered(
            self.services.content(),
            &contents.services,
            |backends| backends.identity,
            |backends, identity| Backends { identity, ..*backends },
        );
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        numbers.extend(addresses.iter().map(|(_, party, old)| (party.identity, *old)));
        numbers.extend(cidrs.iter().map(|(_, party, old)| (party.identity, *old)));
        numbers.extend(cgroups.iter().map(|(_, place, old)| (place.identity, *old)));
        numbers.extend(interfaces.iter().map(|(_, place, old)| (place.identity, *old)));
        numbers.extend(services.iter().map(|(_, backends, old)| (backends.identity, *old)));
        self.precede(active, &numbers)?;
        let written = self.addresses.set_all(addresses.iter().map(|(address, party, _)| (*address, *party)));
        // One that is new and does not fit stays unknown, which `place` tells.
        let is_old = |(address, party, _): &(Address, Party, u32)| {
            self.addresses.content().get(address).is_some_and(|written| written != party)
        };
        if addresses.iter().any(is_old) {
            written?;
        }
        let written = self.cidrs.set_all(cidrs.into_iter().map(|(key, party, _)| (key, party)));
        self.lengths = Lengths::of(self.cidrs.content());
        written?;
        self.cgroups.set_all(cgroups.into_iter().map(|(cgroup, place, _)| (cgroup, place)))?;
        self.interfaces.set_all(interfaces.into_iter().map(|(interface, place, _)| (interface, place)))?;
        self.services.set_all(services.into_iter().map(|(frontend, backends, _)| (frontend, backends)))?;
        Ok(())
    }

    /// Gives each new number the meaning of the old one in the active copy.
    fn precede(&mut self, copy: u32, old_of_new: &HashMap<u32, u32>) -> Result<(), KernelError> {
        let known = self.identities.content();
        let meanings: Vec<(IdentityKey, Identity)> = old_of_new
            .iter()
            // Who has no number, or had none, is denied, and nothing is to be said of it.
            .filter(|(new, old)| new != old && **new != IDENTITY_NONE && **old != IDENTITY_NONE)
            .map(|(new, old)| (IdentityKey { identity: *new, copy }, IdentityKey { identity: *old, copy }))
            .filter(|(new, _)| !known.contains_key(new))
            .map(|(new, old)| (new, known.get(&old).copied().unwrap_or(Identity::NOBODY)))
            .collect();
        self.identities.set_all(meanings)?;
        Ok(())
    }

    /// Step 5: who is where. Additions first, so that what moves is never nowhere; and a place only while its addresses are
    /// there, so that nobody is held to addresses that are not known to be its own.
    ///
    /// A table that is full keeps neither the others from being written nor itself from being emptied. True where anything was
    /// written.
    fn place(&mut self, contents: &Contents) -> (bool, Result<(), KernelError>) {
        let before = self.writes();
        let added = self.add(contents);
        let taken = first_error([
            self.cgroups.retain(|cgroup| contents.cgroups.contains_key(cgroup) || self.exempt == Some(*cgroup)),
            self.interfaces.retain(|interface| contents.interfaces.contains_key(interface)),
            self.addresses.retain(|address| contents.addresses.contains_key(address)),
            self.cidrs.retain(|key| contents.cidrs.contains_key(key)),
            self.services.retain(|frontend| contents.services.contains_key(frontend)),
        ]);
        // What went made room.
        let added = added.or_else(|_| self.add(contents));
        self.lengths = Lengths::of(self.cidrs.content());
        (self.writes() != before, added.and(taken))
    }

    fn add(&mut self, contents: &Contents) -> Result<(), KernelError> {
        first_error([
            self.services.set_all(copied(&contents.services)),
            self.addresses.set_all(copied(&contents.addresses)),
            self.cidrs.set_all(copied(&contents.cidrs)),
            self.cgroups.set_all(copied(&contents.cgroups)),
            self.interfaces.set_all(copied(&contents.interfaces)),
        ])
    }

    const fn writes(&self) -> u64 {
        self.addresses.writes()
            + self.cidrs.writes()
            + self.services.writes()
            + self.cgroups.writes()
            + self.interfaces.writes()
    }

    /// Step 4: the one word.
    fn commit(&mut self, generation: u32) -> Result<(), KernelError> {
        self.control.set(0, Control { generation, settings: self.settings }, 0).map_err(|source| KernelError::Map {
            map: "CONTROL",
            operation: "writing",
            source,
        })?;
        self.generation = generation;
        self.changed = Some(Instant::now());
        Ok(())
    }
}

/// The whole of `FAILSAFE`.
#[must_use]
pub fn failsafe_words(ports: &[FailsafePort]) -> Vec<u64> {
    let mut words = vec![0; FAILSAFE as usize];
    for port in ports {
        let (word, bit) = port.service().failsafe(port.direction);
        words[word as usize] |= 1 << bit;
    }
    words
}

/// Opens a pinned map as its type.
pub(super) fn open<T: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &'static str) -> Result<T, KernelError> {
    MapData::from_pin(pins.map(name))
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(|source| KernelError::Map { map: name, operation: "opening", source })
}
