//! The tables in memory: what the kernel's maps would hold, so that the very same decision runs in user space.
//!
//! Nothing here is shared with the packet path in the kernel: flows and fragments are this table's own, and time is what
//! the caller says it is.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bulkhead_ebpf::abi::{
    Address, Backends, Control, Flow, FlowKey, Fragment, FragmentKey, Frontend, Identity, IdentityKey, Party, Place,
    PortIndex, Row, RowKey, RuleKey, RuleRef, Settings,
};
use bulkhead_ebpf::judge::Seen;
use bulkhead_ebpf::tables::Tables;
use bulkhead_ebpf::track::FlowCell;

use super::prefixes::Lengths;
use super::{Contents, Held};
use crate::kernel::mirror::PrefixKey;

/// Tables that hold [`Contents`].
#[derive(Debug)]
pub struct MemoryTables {
    contents: Contents,
    lengths: Lengths,
    control: Control,
    failsafe: Vec<u64>,
    now: u64,
    flows: FlowSlots,
    embryos: FlowSlots,
    fragments: RefCell<HashMap<FragmentKey, Fragment>>,
}

impl MemoryTables {
    /// Tables with room for `flows` established flows and as many others, at `now` jiffies.
    #[must_use]
    pub fn new(contents: Contents, settings: Settings, flows: usize, now: u64) -> Self {
        Self {
            lengths: Lengths::of(&contents.cidrs),
            contents,
            control: Control { generation: 1, settings },
            failsafe: Vec::new(),
            now,
            flows: FlowSlots::new(flows),
            embryos: FlowSlots::new(flows),
            fragments: RefCell::default(),
        }
    }

    /// Makes the tables hold `contents`. As in the kernel, flows are judged again if anything changed.
    pub fn apply(&mut self, contents: Contents) {
        if self.contents.is_same(&contents) {
            return;
        }
        self.lengths = Lengths::of(&contents.cidrs);
        self.contents = contents;
        self.control.generation = self.control.generation.wrapping_add(1);
    }

    /// Sets the failsafe ports, as the words of the map `FAILSAFE`.
    pub fn set_failsafe(&mut self, words: Vec<u64>) {
        self.failsafe = words;
    }

    /// Sets time-outs and what else an agent reads when it starts.
    pub const fn set_settings(&mut self, settings: Settings) {
        self.control.settings = settings;
    }

    /// Lets time pass.
    pub const fn wait(&mut self, jiffies: u64) {
        self.now += jiffies;
    }

    /// Forgets every flow and fragment.
    pub fn forget(&mut self) {
        self.flows.clear();
        self.embryos.clear();
        self.fragments.get_mut().clear();
    }

    /// Who owns a cgroup, as the packet path finds it: the first that is known of the cgroup and its ancestors, nearest first.
    #[must_use]
    pub fn cgroup_owner(&self, lineage: &[u64]) -> Option<Place> {
        lineage.iter().enumerate().find_map(|(distance, id)| {
            let place = self.contents.cgroups.get(id)?;
            Some(if distance == 0 { place.of_itself() } else { place.of_below() })
        })
    }

    /// Who owns an interface.
    #[must_use]
    pub fn link_owner(&self, index: u32) -> Option<Place> {
        self.contents.interfaces.get(&index).copied()
    }
}

impl Contents {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy)
            // Numbers beside those that are used mean nothing to anybody.
            && other.identities.iter().all(|(number, meaning)| self.identities.get(number) == Some(meaning))
            && self.addresses == other.addresses
            && self.cidrs == other.cidrs
            && self.services == other.services
            && self.cgroups == other.cgroups
            && self.interfaces == other.interfaces
    }
}

impl Held for MemoryTables {
    fn address(&self, address: &Address) -> Option<Party> {
        self.contents.addresses.get(address).copied()
    }

    fn addresses(&self) -> impl Iterator<Item = (Address, Party)> {
        self.contents.addresses.iter().map(|(address, party)| (*address, *party))
    }

    fn prefix(&self, prefix: &PrefixKey) -> Option<Party> {
        self.lengths.covering(&self.contents.cidrs, *prefix)
    }

    fn cgroup(&self, id: u64) -> Option<Place> {
        self.contents.cgroups.get(&id).copied()
    }

    fn interface(&self, index: u32) -> Option<Place> {
        self.contents.interfaces.get(&index).copied()
    }

    fn backends(&self, frontend: &Frontend) -> Option<Backends> {
        self.contents.services.get(frontend).copied()
    }

    fn meaning(&self, identity: u32) -> Option<Identity> {
        self.contents.identities.get(&identity).copied()
    }
}

impl Tables for MemoryTables {
    fn control(&self) -> &Control {
        &self.control
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn party(&self, address: &Address) -> Party {
        if let Some(party) = self.contents.addresses.get(address) {
            return *party;
        }
        self.prefix(&PrefixKey::exact(*address)).unwrap_or(Party::WORLD)
    }

    fn backends(&self, frontend: &Frontend) -> Option<Backends> {
        self.contents.services.get(frontend).copied()
    }

    fn place(&self, seen: Seen) -> Option<Place> {
        match seen {
            Seen::Cgroup(id) => self.contents.cgroups.get(&id).copied(),
            Seen::Interface(index) => self.link_owner(index),
            Seen::Address => None,
        }
    }

    fn identity(&self, key: &IdentityKey) -> Option<&Identity> {
        self.contents.identities.get(&key.identity)
    }

    fn port_class(&self, _copy: u32, index: PortIndex) -> u16 {
        self.contents.policy.ports.class(index)
    }

    fn failsafe(&self, word: u32) -> u64 {
        self.failsafe.get(word as usize).copied().unwrap_or(0)
    }

    fn row(&self, key: &RowKey) -> Option<&Row> {
        self.contents.policy.rows.get(&RowKey { copy: 0, ..*key })
    }

    fn rule(&self, key: &RuleKey) -> Option<&RuleRef> {
        self.contents.policy.rules.get(&RuleKey { row: RowKey { copy: 0, ..key.row }, ..*key })
    }

    fn flow(&self, key: &FlowKey) -> Option<&FlowCell> {
        self.flows.get(key)
    }

    fn embryo(&self, key: &FlowKey) -> Option<&FlowCell> {
        self.embryos.get(key)
    }

    fn insert_embryo(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.embryos.insert(key, flow)
    }

    /// The embryo stays, for it may be lent out; nobody looks at it any more.
    fn establish(&self, key: &FlowKey, flow: &FlowCell) {
        self.flows.insert(key, &flow.flow());
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.fragments.borrow().get(key).copied()
    }

    fn remember_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.fragments.borrow_mut().insert(*key, *fragment);
    }
}

/// A hash table that only grows: flows are handed out by reference while others are added.
#[derive(Debug)]
struct FlowSlots {
    slots: Box<[OnceCell<(FlowKey, FlowCell)>]>,
    hasher: RandomState,
}

impl FlowSlots {
    fn new(room: usize) -> Self {
        Self { slots: (0..room).map(|_| OnceCell::new()).collect(), hasher: RandomState::new() }
    }

    /// The slots that may hold `key`, in the order in which they are tried.
    fn candidates(&self, key: &FlowKey) -> impl Iterator<Item = &OnceCell<(FlowKey, FlowCell)>> {
        let room = self.slots.len();
        let start = self.hasher.hash_one(key) as usize % room.max(1);
        (0..room).map(move |step| &self.slots[(start + step) % room])
    }

    fn get(&self, key: &FlowKey) -> Option<&FlowCell> {
        self.candidates(key).map_while(OnceCell::get).find(|(of, _)| of == key).map(|(_, flow)| flow)
    }

    fn insert(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.candidates(key)
            .map_while(|slot| match slot.get() {
                Some((of, _)) if of == key => None,
                Some(_) => Some(false),
                None => Some(slot.set((*key, FlowCell::new(*flow))).is_ok()),
            })
            .any(|inserted| inserted)
    }

    fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_ebpf::abi::End;

    use super::*;

    fn key(port: u16) -> FlowKey {
        let address = Address::v4([10, 0, 0, 1]);
        FlowKey::new(6, (&address, port), (&address, 0)).0
    }

    #[test]
    fn flows_are_found_until_they_are_forgotten_and_a_full_table_takes_no_more() {
        let mut slots = FlowSlots::new(4);
        let flow = Flow::new(End::Low, PortIndex(80), 0);
        for port in 0..4 {
            assert!(slots.insert(&key(port), &flow));
            assert!(!slots.insert(&key(port), &flow), "an entry is not overwritten");
        }
        assert!(!slots.insert(&key(4), &flow));
        assert!((0..4).all(|port| slots.get(&key(port)).is_some()) && slots.get(&key(4)).is_none());
        slots.clear();
        assert!(slots.get(&key(0)).is_none());
    }
}
