//! The programs in the kernel, by `BPF_PROG_TEST_RUN`, over maps that the agent's own code has written.
//!
//! Nothing is attached, so that no packet but the test's is touched. The network namespace, links, cgroups and bpffs are
//! the test's own. A test run of a cgroup program makes a socket for its caller, whose cgroup is what the program sees: so
//! there is a process in each cgroup of the stage that makes the call.

mod test_run;
mod worker;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::programs::Program;
use aya::{Ebpf, Pod};
use bulkhead::desired::Contents;
use bulkhead::kernel::clock::jiffies_per_second;
use bulkhead::kernel::load::{load, load_programs};
use bulkhead::kernel::pin::Pins;
use bulkhead::kernel::tables::Tables;
use bulkhead::workload::{CgroupRef, InterfaceRef};
use bulkhead_ebpf::abi::{Control, Count, Direction, Flow, FlowKey, Fragment, FragmentKey, Settings, counter_parts};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};

use super::userspace::{Compiler, Counts};
use super::{Implementation, Outcome, wire};
use crate::model::{Packet, Spot, World};
use crate::world::{FAILSAFE, Stage};
use test_run::test_run;
use worker::Worker;

/// A case has a few flows; iterating over a small table is quick.
const FLOWS: u32 = 1_024;
const XDP_PASS: u32 = 2;
const TC_ACT_SHOT: u32 = 2;
/// The device that every new network namespace has.
const LOOPBACK: u32 = 1;

/// The programs, their maps, and where they run.
pub struct Kernel {
    programs: Programs,
    // Above the maps' directory, so that workers are gone before it goes.
    workers: BTreeMap<String, Worker>,
    compiler: Compiler,
    world: World,
    tables: Tables,
    control: Array<MapData, Control>,
    /// Established flows, and the others.
    flows: [HashMap<MapData, FlowKey, Flow>; 2],
    fragments: HashMap<MapData, FragmentKey, Fragment>,
    has_fragments: bool,
    counters: PerCpuArray<MapData, Count>,
    counted: Counts,
    hz: u32,
    link: u32,
    _ebpf: Ebpf,
    _lab: Lab,
}

struct Programs {
    cgroup_egress: i32,
    cgroup_ingress: i32,
    tc_egress: i32,
    tc_ingress: i32,
    uplink: i32,
}

impl Kernel {
    /// Makes a stage in the kernel and loads the programs. The calling thread moves to a network namespace of its own.
    ///
    /// # Errors
    /// Not root, no cgroup v2, or what the kernel refuses.
    pub fn new() -> Result<(Self, Stage)> {
        let (lab, stage) = Lab::new()?;
        let pins = Pins::prepare(&lab.bpffs)?;
        let mut ebpf = load(&pins, FLOWS, false)?;
        load_programs(&mut ebpf, |_| true)?;
        let hz = jiffies_per_second(&mut ebpf)?;
        let settings = Settings { events_per_second: 0, ..Settings::defaults(hz) };
        let tables = Tables::open(&pins, settings, &FAILSAFE)?;
        let programs = Programs {
            cgroup_egress: descriptor(&ebpf, "cgroup_egress")?,
            cgroup_ingress: descriptor(&ebpf, "cgroup_ingress")?,
            tc_egress: descriptor(&ebpf, "tc_egress")?,
            tc_ingress: descriptor(&ebpf, "tc_ingress")?,
            uplink: descriptor(&ebpf, "uplink")?,
        };
        let workers = stage
            .all_cgroups()
            .map(|cgroup| Ok((cgroup.path.clone(), Worker::start(&lab.cgroup_root.join(&cgroup.path))?)))
            .collect::<Result<_>>()?;
        let counters = PerCpuArray::try_from(Map::PerCpuArray(MapData::from_pin(pins.map("COUNTERS"))?))?;
        let kernel = Self {
            programs,
            workers,
            compiler: Compiler::default(),
            world: World::default(),
            tables,
            control: Array::try_from(Map::Array(MapData::from_pin(pins.map("CONTROL"))?))?,
            flows: [lru(&pins, "FLOWS")?, lru(&pins, "EMBRYOS")?],
            fragments: lru(&pins, "FRAGMENTS")?,
            has_fragments: false,
            counters,
            counted: Counts::new(),
            hz,
            link: stage.interfaces[0].index,
            _ebpf: ebpf,
            _lab: lab,
        };
        Ok((kernel, stage))
    }

    /// What the programs counted since they were last asked.
    ///
    /// # Panics
    /// Where the counters can't be read.
    pub fn take_counts(&mut self) -> Counts {
        let mut total = Counts::new();
        for index in 0..self.counters.len() {
            let per_cpu = self.counters.get(&index, 0).expect("the counters can be read");
            let packets = per_cpu.iter().map(|count| count.packets).sum::<u64>();
            if packets > 0 {
                total.insert(counter_parts(index).expect("an index of the map"), packets);
            }
        }
        let before = std::mem::replace(&mut self.counted, total.clone());
        total
            .into_iter()
            .map(|(key, packets)| (key, packets - before.get(&key).copied().unwrap_or(0)))
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }

    fn hold(&mut self, contents: &Contents, world: &World) {
        self.tables.apply(contents).expect("a small world fits");
        // An agent reads it once, when it starts.
        let mut control = self.control.get(&0, 0).expect("the map can be read");
        if (control.settings.denies_midstream != 0) != world.denies_midstream {
            control.settings.denies_midstream = world.denies_midstream.into();
            self.control.set(0, control, 0).expect("the map can be written");
        }
        self.world.clone_from(world);
    }

    fn forget(&mut self) {
        for flows in &mut self.flows {
            let keys: Vec<FlowKey> = flows.keys().map(|key| key.expect("flows can be listed")).collect();
            for key in keys {
                let _ = flows.remove(&key);
            }
        }
        if std::mem::take(&mut self.has_fragments) {
            let keys: Vec<FragmentKey> =
                self.fragments.keys().map(|key| key.expect("fragments can be listed")).collect();
            for key in keys {
                let _ = self.fragments.remove(&key);
            }
        }
    }

    fn at_cgroup(&self, packet: &Packet, path: &str, loopback: bool, direction: Direction) -> bool {
        let program = match direction {
            Direction::Egress => self.programs.cgroup_egress,
            Direction::Ingress => self.programs.cgroup_ingress,
        };
        let interface = if loopback { LOOPBACK } else { self.link };
        let frame = wire::as_frame(&wire::packet(packet).expect("only IP gets to a cgroup's hook"));
        let passed = self.workers[path].test_run(program, interface, &frame).expect("the program runs");
        passed == 1
    }

    fn at_link(&self, packet: &Packet, interface: u32, direction: Direction) -> bool {
        let program = match direction {
            Direction::Egress => self.programs.tc_egress,
            Direction::Ingress => self.programs.tc_ingress,
        };
        let frame = wire::ethernet_frame(packet);
        test_run(program, Some(interface), &frame).expect("the program runs") != TC_ACT_SHOT
    }
}

impl Implementation for Kernel {
    fn name(&self) -> &'static str {
        "the program in the kernel"
    }

    fn start(&mut self, world: &World) {
        if self.world != *world || self.compiler.has_tombstones() {
            let contents = self.compiler.start(world, &self.tables).contents;
            self.hold(&contents, world);
        }
        self.forget();
    }

    fn change(&mut self, world: &World) {
        if self.world != *world {
            let contents = self.compiler.compile(world, &self.tables).contents;
            self.hold(&contents, world);
        }
    }

    /// Time can't be moved, so the flows are made older.
    fn wait(&mut self, seconds: u64) {
        for flows in &mut self.flows {
            let entries: Vec<(FlowKey, Flow)> = flows.iter().map(|entry| entry.expect("flows can be listed")).collect();
            for (key, flow) in entries {
                let seen = flow.seen - seconds * u64::from(self.hz);
                flows.insert(key, Flow { seen, ..flow }, 0).expect("the entry is there");
            }
        }
    }

    fn judge(&mut self, packet: &Packet) -> Outcome {
        self.has_fragments |= packet.fragment.is_some();
        let passes = match &packet.spot {
            Spot::CgroupEgress { cgroup, loopback } => self.at_cgroup(packet, cgroup, *loopback, Direction::Egress),
            Spot::CgroupIngress { cgroup, loopback } => self.at_cgroup(packet, cgroup, *loopback, Direction::Ingress),
            Spot::TcEgress { interface } => self.at_link(packet, *interface, Direction::Egress),
            Spot::TcIngress { interface } => self.at_link(packet, *interface, Direction::Ingress),
            Spot::Xdp => {
                let frame = wire::ethernet_frame(packet);
                test_run(self.programs.uplink, None, &frame).expect("the program runs") == XDP_PASS
            }
        };
        Outcome { passes, verdict: None, rule: None }
    }
}

fn descriptor(ebpf: &Ebpf, name: &str) -> Result<i32> {
    use std::os::fd::{AsFd, AsRawFd};
    let program = ebpf.program(name).with_context(|| format!("the object has no program {name}"))?;
    let fd = match program {
        Program::CgroupSkb(program) => program.fd()?,
        Program::SchedClassifier(program) => program.fd()?,
        Program::Xdp(program) => program.fd()?,
        other => bail!("{name} is of type {:?}", other.prog_type()),
    };
    Ok(fd.as_fd().as_raw_fd())
}

fn lru<K: Pod, V: Pod>(pins: &Pins, name: &str) -> Result<HashMap<MapData, K, V>> {
    Ok(HashMap::try_from(Map::LruHashMap(MapData::from_pin(pins.map(name))?))?)
}

/// What was made on this host, and goes when this goes.
struct Lab {
    cgroup_root: PathBuf,
    /// Below the root, parents first.
    cgroups: Vec<PathBuf>,
    bpffs: PathBuf,
    /// Holds the mount point of the bpffs.
    directory: Option<tempfile::TempDir>,
}

impl Lab {
    fn new() -> Result<(Self, Stage)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir()?;
        let mut lab = Self {
            cgroup_root: cgroup_root()?,
            cgroups: Vec::new(),
            bpffs: directory.path().join("bpf"),
            directory: Some(directory),
        };
        // The namespace goes with the thread, and its links with it.
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace (the kernel's tests need root)")?;
        let interfaces = (0..3).map(link).collect::<Result<_>>()?;
        let base = format!("bulkhead-equivalence-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let at_base = lab.cgroup(base.clone())?;
        let stage = Stage {
            cgroups: (0..3).map(|number| lab.cgroup(format!("{base}/w{number}"))).collect::<Result<_>>()?,
            inner: (0..3).map(|number| lab.cgroup(format!("{base}/w{number}/inner"))).collect::<Result<_>>()?,
            stranger: lab.cgroup(format!("{base}/stranger"))?,
            base: at_base,
            interfaces,
        };
        Ok((lab, stage))
    }

    fn cgroup(&mut self, path: String) -> Result<CgroupRef> {
        use std::os::unix::fs::MetadataExt;
        let directory = self.cgroup_root.join(&path);
        fs::create_dir(&directory).with_context(|| format!("making the cgroup {}", directory.display()))?;
        self.cgroups.push(directory.clone());
        Ok(CgroupRef { path, id: fs::metadata(&directory)?.ino() })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for cgroup in self.cgroups.iter().rev() {
            let _ = fs::remove_dir(cgroup);
        }
        let _ = umount2(&self.bpffs, MntFlags::MNT_DETACH);
        drop(self.directory.take());
    }
}

fn link(number: u32) -> Result<InterfaceRef> {
    let name = format!("equal{number}");
    let status = Command::new("ip")
        .args(["link", "add", &name, "type", "veth", "peer", "name", &format!("peer{number}")])
        .status()
        .context("running ip (Debian's package iproute2)")?;
    ensure!(status.success(), "ip could not make the link {name}");
    let index = nix::net::if_::if_nametoindex(name.as_str())?;
    Ok(InterfaceRef { name, index })
}

fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| Path::new(path).to_owned())
    });
    root.context("no cgroup v2 is mounted")
}
