//! Reading counters and sizes out of the maps, through handles of their own.

mod standing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use aya::maps::{Array, HashMap as KernelHash, MapData, PerCpuArray};
use bulkhead_ebpf::abi::{
    self, COUNTERS, Count, End, Flow, FlowKey, Fragment, FragmentKey, Hook, Reason, Settings, Stamp, State, Verdict,
    counter_parts,
};

use super::Readings;
use super::batch::{BatchMap, Walk};
use super::error::KernelError;
use super::mirror::Store;
use super::pin::Pins;
use super::tables::open;
use crate::desired::tombstones::TOMBSTONES;
use crate::view::MapView;
use crate::view::plan::{ConnectionView, ConnectionsView};

pub use standing::{Standing, Standings};

/// A table of flows, read many at a time: one by one each costs two system calls, and one that goes meanwhile starts the kernel's
/// walk over.
struct FlowTable {
    map: BatchMap<FlowKey, Flow>,
    capacity: u32,
}

impl FlowTable {
    fn open(pins: &Pins, map: &'static str) -> Result<Self, KernelError> {
        let opened = MapData::from_pin(pins.map(map)).and_then(|data| {
            let capacity = data.info()?.max_entries();
            Ok(Self { map: BatchMap::new(data)?, capacity })
        });
        opened.map_err(|source| KernelError::Map { map, operation: "opening", source })
    }

    fn each(&self, mut look: impl FnMut(FlowKey, Flow)) -> std::io::Result<()> {
        let mut walk = Walk::default();
        loop {
            self.map.some(&mut walk)?.into_iter().for_each(|(key, flow)| look(key, flow));
            if walk.is_over() {
                return Ok(());
            }
        }
    }

    /// Entries, as far as the kernel lets them be read.
    fn count(&self) -> u64 {
        let mut count = 0;
        let _ = self.each(|_, _| count += 1);
        count
    }
}

/// The kernel's counters, and the sizes of its maps.
pub struct KernelReadings {
    counters: PerCpuArray<MapData, Count>,
    rule_hits: Array<MapData, u64>,
    /// Second and number of events sent, in one word; events lost.
    budget: PerCpuArray<MapData, [u64; 2]>,
    flows: FlowTable,
    embryos: FlowTable,
    fragments: KernelHash<MapData, FragmentKey, Fragment>,
    settings: Settings,
    /// The newest packet that was seen in the tables, in jiffies, and when that was.
    newest: Mutex<(u64, Instant)>,
    written: Mutex<BTreeMap<&'static str, u64>>,
    rules: AtomicU32,
}

impl KernelReadings {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn open(pins: &Pins, settings: Settings) -> Result<Self, KernelError> {
        Ok(Self {
            counters: open(pins, "COUNTERS")?,
            rule_hits: open(pins, "RULE_HITS")?,
            budget: open(pins, "EVENT_BUDGET")?,
            flows: FlowTable::open(pins, "FLOWS")?,
            embryos: FlowTable::open(pins, "EMBRYOS")?,
            fragments: open(pins, "FRAGMENTS")?,
            settings,
            newest: Mutex::new((0, Instant::now())),
            written: Mutex::default(),
            rules: AtomicU32::new(0),
        })
    }

    /// Flows that are remembered: those in the tables whose time-out is not over. Which it is shows in the newest packet of all,
    /// for nobody takes a flow out of a table before its room is needed.
    ///
    /// # Errors
    /// The kernel refuses to read a table.
    pub fn remembered(&self) -> std::io::Result<[MapView; 2]> {
        let named = [("flows", &self.flows), ("embryonic_flows", &self.embryos)];
        let (mut newest, mut idle_until) = (0, [Vec::new(), Vec::new()]);
        for ((_, table), ends) in named.iter().zip(&mut idle_until) {
            table.each(|key, flow| {
                newest = newest.max(flow.seen);
                ends.push(flow.seen + u64::from(Flow::time_out(&self.settings, key.protocol(), flow.course.state())));
            })?;
        }
        Ok(std::array::from_fn(|table| MapView {
            map: named[table].0.to_owned(),
            entries: idle_until[table].iter().filter(|end| **end >= newest).count() as u64,
            capacity: named[table].1.capacity.into(),
        }))
    }

    /// Established flows whose time-out is not over, `limit` of them at most, and how many there are beside.
    ///
    /// # Errors
    /// The kernel refuses to read the table.
    pub fn connections(&self, limit: usize) -> std::io::Result<ConnectionsView> {
        let (mut newest, mut flows) = (0, Vec::new());
        self.flows.each(|key, flow| {
            newest = newest.max(flow.seen);
            flows.push((key, flow));
        })?;
        flows.retain(|(key, flow)| {
            let time_out = Flow::time_out(&self.settings, key.protocol(), flow.course.state());
            flow.course.state() == State::Established && flow.seen + u64::from(time_out) >= newest
        });
        let omitted = flows.len().saturating_sub(limit) as u64;
        flows.truncate(limit);
        Ok(ConnectionsView { connections: flows.iter().map(connection).collect(), omitted })
    }

    /// Notes how many entries the agent wrote to each of its own maps, and how many rule numbers it gave.
    pub fn note(&self, written: BTreeMap<&'static str, u64>, rules: u32) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = written;
        self.rules.store(rules, Ordering::Relaxed);
    }
}

/// A flow as its initiator sees it.
fn connection((key, flow): &(FlowKey, Flow)) -> ConnectionView {
    let source = flow.course.initiator();
    let destination = source.other();
    let cgroup = |end: End| {
        let side = flow.sides[end as usize];
        (side.stamp != Stamp::NONE).then_some(side.owner)
    };
    ConnectionView {
        protocol: key.protocol(),
        source: (*key.address(source)).into(),
        source_port: u16::from_be(key.port(source)),
        destination: (*key.address(destination)).into(),
        destination_port: flow.course.service().parts().1,
        source_cgroup: cgroup(source),
        destination_cgroup: cgroup(destination),
    }
}

impl Readings for KernelReadings {
    fn counts(&self) -> Vec<(Hook, Verdict, Reason, Count)> {
        (0..COUNTERS)
            .filter_map(|index| {
                let (hook, verdict, reason) = counter_parts(index)?;
                let per_cpu = self.counters.get(&index, 0).ok()?;
                let count = per_cpu.iter().fold(Count::default(), |sum, count| Count {
                    packets: sum.packets + count.packets,
                    bytes: sum.bytes + count.bytes,
                });
                (count.packets > 0).then_some((hook, verdict, reason, count))
            })
            .collect()
    }

    fn rule_hits(&self) -> Vec<(u32, u64)> {
        (0..self.rules.load(Ordering::Relaxed))
            .filter_map(|rule| {
                let hits = self.rule_hits.get(&rule, 0).ok()?;
                (hits > 0).then_some((rule, hits))
            })
            .collect()
    }

    fn maps(&self) -> Vec<MapView> {
        // An entry that goes while its neighbour is asked for starts the kernel's walk over: hence the bound.
        let fragments = self.fragments.keys().take(abi::FRAGMENTS as usize).filter(Result::is_ok).count();
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let own = [
            ("addresses", abi::ADDRESSES),
            ("cidrs", abi::CIDRS),
            ("services", abi::SERVICES),
            ("cgroups", abi::CGROUPS),
            ("interfaces", abi::INTERFACES),
            ("identities", abi::IDENTITIES),
            ("rows", abi::ROWS),
            ("rule_refs", abi::RULE_REFS),
            ("tombstones", TOMBSTONES as u32),
        ]
        .map(|(map, capacity)| (map, written.get(map).copied().unwrap_or_default(), capacity));
        own.into_iter()
            .chain([
                ("flows", self.flows.count(), self.flows.capacity),
                ("embryonic_flows", self.embryos.count(), self.embryos.capacity),
                ("fragments", fragments as u64, abi::FRAGMENTS),
                ("rule_hits", u64::from(self.rules.load(Ordering::Relaxed)), abi::MAX_RULES),
            ])
            .map(|(map, entries, capacity)| MapView { map: map.to_owned(), entries, capacity: u64::from(capacity) })
            .collect()
    }

    fn events_lost(&self) -> u64 {
        self.budget.get(&0, 0).map_or(0, |per_cpu| per_cpu.iter().map(|[_, lost]| lost).sum())
    }
}
