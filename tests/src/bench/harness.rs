//! The programs in the kernel without an agent: loaded, their maps filled with a small policy, run by `BPF_PROG_TEST_RUN`.
//!
//! Everything happens on one thread that has entered a network namespace of its own, with a pair of veths: a test run of a
//! cgroup program on `lo` would take the way of loopback, which is never looked at.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, HashMap as KernelHash, Map, PerCpuArray};
use aya::programs::{Program, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader, Pod};
use bulkhead::kernel::load::{OBJECT, set_judges};
use bulkhead_ebpf::abi::{
    Address, CLASS_ANY, COUNTERS, Control, Count, Direction, Flow, FlowKey, Hook, IDENTITY_WORLD, Identity,
    IdentityKey, Party, Place, PortIndex, Reason, Row, RowKey, RuleKey, RuleRef, Settings, Verdict, counter_parts,
};
use nix::sched::{CloneFlags, unshare};

/// The object that the bench compares with.
pub(super) static BASELINE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/baseline"));

/// The workload that is local: `10.0.0.1` and `fd00::1`.
pub const LOCAL: u8 = 1;
/// A remote workload that rules name: `10.0.0.2` and `fd00::2`.
pub const PEER: u8 = 2;
/// The port that the rules of both directions allow.
pub const PORT: u16 = 80;

/// Established flows, and the others.
const FLOW_TABLES: [&str; 2] = ["FLOWS", "EMBRYOS"];

/// The slot of [`PEER`] in the rules.
pub const SLOT_PEER: u16 = 12;

/// The class of [`PORT`].
const CLASS: u16 = 1;

/// The loaded programs and the numbers by which they know the local workload.
pub struct Harness {
    programs: Ebpf,
    baseline: Ebpf,
    /// Index of a veth of the namespace.
    pub interface: u32,
}

impl Harness {
    /// Enters a new network namespace with this thread and loads everything.
    ///
    /// # Errors
    /// Without the rights for that, or where the verifier refuses a program.
    pub fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("entering a network namespace of its own (this needs root)")?;
        let made =
            Command::new("ip").args(["link", "add", "bench0", "type", "veth", "peer", "name", "bench1"]).status();
        ensure!(made.context("running ip")?.success(), "ip could not make a pair of veths");
        let interface = nix::net::if_::if_nametoindex("bench0").context("finding bench0")?;
        let mut harness = Self { programs: load(OBJECT)?, baseline: load(BASELINE)?, interface };
        harness.fill()?;
        Ok(harness)
    }

    /// A policy by which `LOCAL` and `PEER` reach each other's [`PORT`], and nothing else.
    fn fill(&mut self) -> Result<()> {
        let settings = Settings { events_per_second: 0, ..Settings::defaults(1_000) };
        self.control(Control { generation: 1, settings })?;
        let (local, peer) =
            (Party { identity: 1, workload: 1, flags: Party::LOCAL }, Party { identity: 2, workload: 2, flags: 0 });
        for version in [4, 6] {
            self.set("ADDRESSES", address(version, LOCAL), local)?;
            self.set("ADDRESSES", address(version, PEER), peer)?;
        }
        let place = Place { workload: 1, identity: 1, flags: Place::STRICT_SOURCE };
        self.set("CGROUPS", own_cgroup()?, place)?;
        self.set("INTERFACES", self.interface, place)?;
        let peer = |slot: u16| {
            let mut identity = Identity { count: 1, ..Identity::NOBODY };
            identity.slots[0] = slot;
            identity
        };
        let subject = Identity { subject: 1, flags: Identity::GOVERNED | Identity::RESTRICTED_EGRESS, ..peer(11) };
        for (identity, meaning) in [(IDENTITY_WORLD, peer(0)), (1, subject), (2, peer(SLOT_PEER))] {
            self.set_identity(identity, meaning)?;
        }
        let mut row = Row::EMPTY;
        row.allow(SLOT_PEER);
        for (rule, direction) in [(0, Direction::Ingress), (1, Direction::Egress)] {
            let key = RowKey::new(1, 1, direction, CLASS);
            self.set("ROWS", key, row)?;
            self.set("ROWS", RowKey { class: CLASS_ANY, ..key }, Row::EMPTY)?;
            self.set("RULE_REFS", RuleKey { row: key, slot: SLOT_PEER, reserved: 0 }, RuleRef { rule, flags: 0 })?;
        }
        let index = PortIndex::new(6, PORT).0;
        let mut classes = [0u16; 4];
        classes[(index % 4) as usize] = CLASS;
        let mut ports: Array<_, [u16; 4]> = Array::try_from(self.map("PORT_CLASSES")?)?;
        let copy = ports.len() / 2;
        ports.set(copy + index / 4, classes, 0).context("writing PORT_CLASSES")
    }

    /// Writes the generation and the settings.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn control(&mut self, control: Control) -> Result<()> {
        Array::try_from(self.map("CONTROL")?)?.set(0, control, 0).context("writing CONTROL")
    }

    /// Writes one entry of a hash map of the programs.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn set<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) -> Result<()> {
        let mut map_ref: KernelHash<_, K, V> = self.map(map)?.try_into()?;
        map_ref.insert(key, value, 0).with_context(|| format!("writing {map}"))
    }

    /// Writes what an identity means in the copy in force.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn set_identity(&mut self, identity: u32, meaning: Identity) -> Result<()> {
        let meaning = Identity { flags: meaning.flags | Identity::KNOWN, ..meaning };
        let mut identities: Array<_, Identity> = self.map("IDENTITIES")?.try_into()?;
        identities.set(IdentityKey { identity, copy: 1 }.index(), meaning, 0).context("writing IDENTITIES")
    }

    /// Writes an entry of the baseline's table.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn set_tuple(&mut self, tuple: [u32; 10]) -> Result<()> {
        let map = self.baseline.map_mut("TUPLES").context("the baseline has a table")?;
        let mut map: KernelHash<_, [u32; 10], u64> = map.try_into()?;
        map.insert(tuple, 1, 0).context("writing TUPLES")
    }

    /// A flow of either table.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn flow(&mut self, key: &FlowKey) -> Result<Option<Flow>> {
        for map in FLOW_TABLES {
            let flows: KernelHash<_, FlowKey, Flow> = self.map(map)?.try_into()?;
            match flows.get(key, 0) {
                Ok(flow) => return Ok(Some(flow)),
                Err(aya::maps::MapError::KeyNotFound) => {}
                Err(error) => return Err(error).with_context(|| format!("reading {map}")),
            }
        }
        Ok(None)
    }

    /// Forgets every flow.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn forget_flows(&mut self) -> Result<()> {
        for map in FLOW_TABLES {
            let mut flows: KernelHash<_, FlowKey, Flow> = self.map(map)?.try_into()?;
            let keys: Vec<_> = flows.keys().collect::<Result<_, _>>()?;
            for key in keys {
                flows.remove(&key)?;
            }
        }
        Ok(())
    }

    /// What the counters hold, summed over all CPUs.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn counts(&mut self) -> Result<HashMap<(Hook, Verdict, Reason), Count>> {
        let counters: PerCpuArray<_, Count> = self.map("COUNTERS")?.try_into()?;
        let mut counts = HashMap::new();
        for index in 0..COUNTERS {
            let mut sum = Count::default();
            for count in counters.get(&index, 0)?.iter() {
                sum.packets += count.packets;
                sum.bytes += count.bytes;
            }
            if let Some(parts) = counter_parts(index).filter(|_| sum.packets > 0) {
                counts.insert(parts, sum);
            }
        }
        Ok(counts)
    }

    /// Hits of a rule.
    ///
    /// # Errors
    /// [`aya::maps::MapError`].
    pub fn hits(&mut self, rule: u32) -> Result<u64> {
        let hits: Array<_, u64> = self.map("RULE_HITS")?.try_into()?;
        Ok(hits.get(&rule, 0)?)
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.programs.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }

    /// Runs a program over one frame, `repeat` times: its answer, and the time of one run.
    ///
    /// # Errors
    /// [`aya::programs::ProgramError`].
    pub fn run(&self, program: &str, frame: &[u8], repeat: u32) -> Result<(i32, Duration)> {
        let object = if program.starts_with("baseline") { &self.baseline } else { &self.programs };
        let program = object.program(program).with_context(|| format!("no program {program}"))?;
        let context = skb_context(self.interface);
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let with_context =
            TestRunOptions { data_in: Some(frame), ctx_in: Some(&context), repeat, ..TestRunOptions::new() };
        let result = match program {
            Program::CgroupSkb(program) => program.test_run(with_context)?,
            Program::SchedClassifier(program) => program.test_run(with_context)?,
            Program::Xdp(program) => program.test_run(options)?,
            other => bail!("programs of type {:?} can't be run", other.prog_type()),
        };
        Ok((result.return_value as i32, result.duration))
    }

    /// Instructions that the verifier walked through, and the size of the machine code, by program.
    ///
    /// # Errors
    /// [`aya::programs::ProgramError`].
    pub fn sizes(&self) -> Result<Vec<(String, u32, u32)>> {
        let mut sizes = Vec::new();
        for (name, program) in self.programs.programs() {
            let info = program.info()?;
            sizes.push((name.to_owned(), info.verified_instruction_count().unwrap_or(0), info.size_jitted()));
        }
        sizes.sort();
        Ok(sizes)
    }
}

/// Loads an object and all its programs, with maps of its own.
fn load(object: &[u8]) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().load(object).context("loading the eBPF object")?;
    for (name, program) in ebpf.programs_mut() {
        match program {
            Program::CgroupSkb(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            Program::Xdp(program) => program.load(),
            other => bail!("no program of type {:?} is expected", other.prog_type()),
        }
        .with_context(|| format!("loading program {name}"))?;
    }
    set_judges(&mut ebpf)?;
    Ok(ebpf)
}

/// A `struct __sk_buff` (include/uapi/linux/bpf.h) that only says which interface the packet belongs to.
fn skb_context(interface: u32) -> [u8; 192] {
    const IFINDEX: usize = 40;
    let mut context = [0; 192];
    context[IFINDEX..IFINDEX + 4].copy_from_slice(&interface.to_ne_bytes());
    context
}

/// The cgroup of this process: the socket that a test run makes for its packet is this process's.
fn own_cgroup() -> Result<u64> {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").context("reading /proc/self/cgroup")?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::")).context("this process is in no cgroup v2")?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let root = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find_map(|fields| (fields.get(2) == Some(&"cgroup2")).then(|| fields[1].to_owned()))
        .context("cgroup2 is not mounted")?;
    let directory = Path::new(&root).join(path.trim_start_matches('/'));
    Ok(std::fs::metadata(&directory).with_context(|| format!("looking at {}", directory.display()))?.ino())
}

/// An address of one of the parties.
#[must_use]
pub fn address(version: u8, party: u8) -> Address {
    text(version, party).parse::<std::net::IpAddr>().expect("built below").into()
}

/// The same as text.
#[must_use]
pub fn text(version: u8, party: u8) -> String {
    if version == 4 { format!("10.0.0.{party}") } else { format!("fd00::{party}") }
}
