//! No packet is judged by half a policy: the agent's own code flips from one random policy to the next, thousands of times,
//! while other threads run packets through the programs.
//!
//! The policies differ in all that has a number in the kernel: the order of peers (slots), the groups of workloads
//! (identities, subjects), the CIDRs, and where ranges of ports begin and end (classes). Each allows flow F, one by a group,
//! another by a CIDR, and denies flow G, of another peer or to another port, which rules of its own nearly allow. Half of one
//! and half of another would deny F or allow G.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::{Program, TestRun, TestRunOptions};
use bulkhead::desired::{Inputs, Numbers, desired};
use bulkhead::kernel::clock::jiffies_per_second;
use bulkhead::kernel::load::{load, load_programs};
use bulkhead::kernel::pin::Pins;
use bulkhead::kernel::tables::Tables;
use bulkhead::workload::cluster::Cluster;
use bulkhead::workload::{CgroupRef, InterfaceRef};
use bulkhead_ebpf::abi::{Count, Settings, Verdict, counter_parts};
use bulkhead_ebpf::packet::tcp::SYN;
use bulkhead_tests::check::slowed;
use bulkhead_tests::lab::cgroup;
use bulkhead_tests::packet::{Ip, ethernet, tcp};
use bulkhead_tests::world::Random;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use states::{DISTANT, GUEST, LOCAL, OTHER, PEER, STRANGER, State, alike};

#[path = "atomic/states.rs"]
mod states;

/// How long to flip.
const TIME: Duration = Duration::from_secs(10);
/// Policies to choose the next one from, each with two sets of workloads.
const POLICIES: usize = 32;
/// Fewer flips than any machine makes in that time prove nothing.
const MIN_FLIPS: u64 = 1_000;
/// New flows come without end, and the oldest give way.
const FLOWS: u32 = 1 << 14;

/// Whether a policy lets a packet pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    Always,
    Never,
    /// Where a label says so.
    InSome,
}

/// A packet at a hook.
struct Probe {
    name: String,
    program: &'static str,
    frame: Vec<u8>,
    source_port_at: usize,
    passes: Passes,
    /// Whether each one is a flow of its own.
    is_new: bool,
}

#[test]
fn no_packet_is_judged_by_half_a_policy() {
    flip_under_traffic(false);
}

#[test]
fn a_workload_that_comes_or_goes_with_a_policy_is_who_that_policy_says() {
    flip_under_traffic(true);
}

/// With or without [`GUEST`].
fn flip_under_traffic(has_guest: bool) {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut stage = Stage::new();
    let mut random = Random::new(seed);
    let states: Vec<State> =
        (0..POLICIES).flat_map(|_| states::states(&mut random, &stage.links, &stage.cgroup, has_guest)).collect();
    let probes = probes(has_guest);

    // Each of them alone.
    for (number, state) in states.iter().enumerate() {
        stage.apply(state);
        for probe in &probes {
            let expected = probe.expected(state);
            assert_eq!(stage.programs.passes(probe, 1), expected, "{} in state {number} alone", probe.name);
        }
    }

    // The hooks take turns: at those that are flooded with what never passes, a single packet that does shows in the counters.
    let mut flips = 0;
    for flooded in ["tc", "cgroup"] {
        let (flood, others): (Vec<&Probe>, Vec<&Probe>) =
            probes.iter().partition(|probe| probe.program.starts_with(flooded));
        let flood: Vec<&Probe> = flood.into_iter().filter(|probe| probe.passes == Passes::Never).collect();
        let before = stage.passed(flooded);
        let (flipped, failures) = stage.flips(&states, &mut random, &others, &flood);
        assert!(failures.is_empty(), "after {flipped} flips:\n  {}", failures.join("\n  "));
        let passed = stage.passed(flooded) - before;
        assert_eq!(passed, 0, "of what floods {flooded} after {flipped} flips");
        flips += flipped;
    }
    assert!(flips >= MIN_FLIPS, "only {flips} flips");
}

/// What the threads know of one another.
#[derive(Default)]
struct Watch {
    /// Odd while a policy is being changed; the next bit says whether the one in force [`State::allows_some`].
    force: AtomicU64,
    stop: AtomicBool,
    failures: Mutex<Vec<String>>,
}

impl Watch {
    fn changing(&self) {
        self.force.fetch_or(1, Ordering::SeqCst);
    }

    /// Every time another number.
    fn settle(&self, state: &State) {
        let round = (self.force.load(Ordering::SeqCst) >> 2) + 1;
        self.force.store(round << 2 | u64::from(state.allows_some) << 1, Ordering::SeqCst);
    }

    fn has_failed(&self) -> bool {
        !self.failures.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Runs packets that never pass until it is told to stop, and returns how many.
    fn flood(&self, programs: &Programs, probes: &[&Probe]) -> u64 {
        /// Of each before the next: the kernel then does little else.
        const REPEAT: u32 = 256;
        let mut count = 0;
        while !self.stop.load(Ordering::Relaxed) {
            for probe in probes {
                programs.run(probe, 1, REPEAT);
                count += u64::from(REPEAT);
            }
        }
        count
    }

    /// Runs packets until it is told to stop, and returns how many.
    fn packets(&self, programs: &Programs, probes: &[&Probe]) -> u64 {
        let mut count: u64 = 0;
        while !self.stop.load(Ordering::Relaxed) {
            for probe in probes {
                let port = if probe.is_new { 1_024 + (count % 60_000) as u16 } else { 1 };
                let before = self.force.load(Ordering::SeqCst);
                let passed = programs.passes(probe, port);
                let after = self.force.load(Ordering::SeqCst);
                count += 1;
                let expected = match probe.passes {
                    Passes::Always => true,
                    Passes::Never => false,
                    // It is known what was in force only where nothing changed meanwhile.
                    Passes::InSome if before == after && before & 1 == 0 => before & 2 != 0,
                    Passes::InSome => continue,
                };
                if passed != expected {
                    let said = if passed { "passed" } else { "did not pass" };
                    let when = if before == after && before & 1 == 0 { "in peace" } else { "during a change" };
                    let failure = format!("packet {count}: {} {said} {when}", probe.name);
                    self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                }
            }
        }
        count
    }
}

impl Probe {
    const fn expected(&self, state: &State) -> bool {
        match self.passes {
            Passes::Always => true,
            Passes::Never => false,
            Passes::InSome => state.allows_some,
        }
    }
}

fn probes(has_guest: bool) -> Vec<Probe> {
    use Passes::{Always, InSome, Never};
    let mut probes = Vec::new();
    for is_v6 in [false, true] {
        let address = |text: &str| if is_v6 { alike(text) } else { text.to_owned() };
        for (from, to, port, passes) in [
            (PEER, LOCAL, 80, Always),
            (STRANGER, LOCAL, 80, Always),
            (LOCAL, PEER, 443, Always),
            (LOCAL, STRANGER, 443, Always),
            (GUEST, LOCAL, 80, Always),
            (LOCAL, GUEST, 443, Always),
            (GUEST, LOCAL, 81, Never),
            (LOCAL, GUEST, 444, Never),
            (PEER, LOCAL, 81, Never),
            (OTHER, LOCAL, 80, Never),
            (DISTANT, LOCAL, 80, Never),
            (STRANGER, LOCAL, 81, Never),
            (LOCAL, PEER, 444, Never),
            (LOCAL, OTHER, 443, Never),
            (LOCAL, DISTANT, 443, Never),
            (PEER, LOCAL, 90, InSome),
            (LOCAL, PEER, 490, InSome),
        ] {
            if !has_guest && [from, to].contains(&GUEST) {
                continue;
            }
            let hooks = if to == LOCAL { ["tc_ingress", "cgroup_ingress"] } else { ["tc_egress", "cgroup_egress"] };
            for program in hooks {
                for is_new in [false, true] {
                    let packet = Ip::new(&address(from), &address(to), tcp(1, port, SYN)).bytes();
                    let flow = if is_new { "a new flow" } else { "a flow" };
                    probes.push(Probe {
                        name: format!("{flow} from {} to {}:{port} at {program}", address(from), address(to)),
                        program,
                        frame: ethernet(&[], &packet),
                        source_port_at: 14 + if is_v6 { 40 } else { 20 },
                        passes,
                        is_new,
                    });
                }
            }
        }
    }
    probes
}

/// The loaded programs.
struct Programs {
    ebpf: Ebpf,
    link: u32,
}

impl Programs {
    fn passes(&self, probe: &Probe, source_port: u16) -> bool {
        let answer = self.run(probe, source_port, 1);
        if probe.program.starts_with("cgroup") { answer == 1 } else { answer != 2 }
    }

    /// What the program answers the last time.
    fn run(&self, probe: &Probe, source_port: u16, repeat: u32) -> u32 {
        /// Of `ifindex` in `struct __sk_buff` (include/uapi/linux/bpf.h).
        const IFINDEX: usize = 40;
        let mut frame = probe.frame.clone();
        frame[probe.source_port_at..probe.source_port_at + 2].copy_from_slice(&source_port.to_be_bytes());
        let mut context = [0; 192];
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&self.link.to_ne_bytes());
        let options = TestRunOptions { data_in: Some(&frame), ctx_in: Some(&context), repeat, ..TestRunOptions::new() };
        match self.ebpf.program(probe.program).expect("a program of the object") {
            Program::CgroupSkb(program) => program.test_run(options).expect("it runs").return_value,
            Program::SchedClassifier(program) => program.test_run(options).expect("it runs").return_value,
            other => panic!("{} is of type {:?}", probe.program, other.prog_type()),
        }
    }
}

/// Programs and tables of its own, in a network namespace of the test's thread.
struct Stage {
    programs: Programs,
    tables: Tables,
    numbers: Numbers,
    counters: PerCpuArray<MapData, Count>,
    links: Vec<InterfaceRef>,
    cgroup: CgroupRef,
    _bpffs: Bpffs,
}

struct Bpffs(tempfile::TempDir);

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = umount2(&self.0.path().join("bpf"), MntFlags::MNT_DETACH);
    }
}

impl Stage {
    fn new() -> Self {
        let bpffs = Bpffs(tempfile::tempdir().expect("a directory"));
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        let links = ["atomic0", "atomic1"].map(|name| {
            let made = Command::new("ip").args(["link", "add", name, "type", "veth"]).status();
            assert!(made.expect("iproute2 is installed").success(), "ip could not make {name}");
            let index = nix::net::if_::if_nametoindex(name).expect("it was made");
            InterfaceRef { name: name.to_owned(), index }
        });
        let pins = Pins::prepare(&bpffs.0.path().join("bpf")).expect("a bpffs");
        let mut ebpf = load(&pins, FLOWS, false).expect("the programs load");
        load_programs(&mut ebpf, |_| true).expect("all of them");
        let hz = jiffies_per_second(&mut ebpf).expect("the kernel tells");
        let settings = Settings { events_per_second: 0, ..Settings::defaults(hz) };
        let tables = Tables::open(&pins, settings, &[]).expect("the maps are pinned");
        let counters = MapData::from_pin(pins.map("COUNTERS")).expect("the maps are pinned");
        Self {
            programs: Programs { ebpf, link: links[0].index },
            tables,
            numbers: Numbers::default(),
            counters: Map::PerCpuArray(counters).try_into().expect("they are of every CPU"),
            links: links.into(),
            cgroup: own_cgroup(),
            _bpffs: bpffs,
        }
    }

    /// Packets that the hooks of this name let pass so far.
    fn passed(&self, hooks: &str) -> u64 {
        let is_passed = |index| {
            counter_parts(index)
                .is_some_and(|(hook, verdict, _)| hook.as_str().starts_with(hooks) && verdict != Verdict::Deny)
        };
        let counters = (0..self.counters.len()).filter(|index| is_passed(*index));
        counters
            .flat_map(|index| {
                self.counters.get(&index, 0).expect("the counters can be read").iter().copied().collect::<Vec<_>>()
            })
            .map(|count| count.packets)
            .sum()
    }

    /// Flips for half of [`TIME`] while packets run: how often, and what was judged wrongly.
    fn flips(
        &mut self,
        states: &[State],
        random: &mut Random,
        others: &[&Probe],
        flood: &[&Probe],
    ) -> (u64, Vec<String>) {
        let watch = Watch::default();
        watch.changing();
        let Self { programs, tables, numbers, .. } = self;
        let (programs, watching) = (&*programs, &watch);
        let flips = thread::scope(|scope| {
            let single = scope.spawn(move || watching.packets(programs, others));
            let many = scope.spawn(move || watching.flood(programs, flood));
            let deadline = Instant::now() + slowed(TIME) / 2;
            let (mut flips, mut at) = (0, 0);
            // On a busy machine it takes as long as it takes.
            while (Instant::now() < deadline || flips < MIN_FLIPS / 2) && !watch.has_failed() {
                // The two of one policy lie side by side.
                at = if random.chance(30) { at ^ 1 } else { random.below(states.len()) };
                let state = &states[at];
                watch.changing();
                apply(tables, numbers, state);
                watch.settle(state);
                flips += 1;
                // Long enough for a few packets under what is in force, in some cases.
                if random.chance(30) {
                    thread::sleep(Duration::from_micros(200));
                }
            }
            watch.stop.store(true, Ordering::Relaxed);
            let ran = [single, many].map(|thread| thread.join().expect("the programs run"));
            println!("{flips} flips, {} packets one by one and {} in a flood", ran[0], ran[1]);
            flips
        });
        (flips, watch.failures.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&mut self, state: &State) {
        apply(&mut self.tables, &mut self.numbers, state);
    }
}

fn apply(tables: &mut Tables, numbers: &mut Numbers, state: &State) {
    let inputs = Inputs {
        policy: &state.policy,
        policy_is_new: true,
        workloads: &state.workloads,
        host_addresses: &BTreeSet::new(),
        scopes: &[],
        cluster: &Cluster::default(),
    };
    let desired = desired(inputs, numbers, tables).expect("a small policy fits");
    tables.apply(&desired.contents).expect("it fits the maps");
}

/// The cgroup of this process: a test run of a cgroup program is a packet of its caller.
fn own_cgroup() -> CgroupRef {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").expect("procfs");
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).expect("cgroup2 is mounted").to_owned();
    let directory = cgroup::mount_point().expect("cgroup2 is mounted").join(&path);
    let id = std::fs::metadata(directory).expect("the cgroup is there").ino();
    CgroupRef { path, id }
}
