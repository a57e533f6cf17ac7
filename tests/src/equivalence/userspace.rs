//! The user-space decision: the packet path's own code over tables in memory, called as the hooks call it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bulkhead::desired::memory::MemoryTables;
use bulkhead::desired::tombstones::{TOMBSTONES, Tombstones};
use bulkhead::desired::{Contents, Desired, Held, Inputs, Nothing, Numbers, desired};
use bulkhead::kernel::tables::failsafe_words;
use bulkhead::policy::model::PolicySet;
use bulkhead::source::{NodeFact, Told};
use bulkhead::workload::cluster::Cluster;
use bulkhead_ebpf::abi::{Direction, Hook, Party, RULE_NONE, Reason, Settings, Verdict};
use bulkhead_ebpf::judge::{Judgement, Local, Seen, judge, known, undecidable};
use bulkhead_ebpf::packet::{self, Frame, Network, Part, network};
use bulkhead_ebpf::tables::Tables;

use super::{Implementation, Outcome, wire};
use crate::model::{Packet, RuleName, Spot, World};
use crate::world::Stage;

const HZ: u32 = 100;
/// A case has a few conversations of one flow or two.
const ROOM_FOR_FLOWS: usize = 64;
/// Long after the time-outs, so that time can be counted back.
const START: u64 = 1_000_000;

/// Of a tombstone: longer than any case.
const LASTING: Duration = Duration::from_secs(1 << 30);

/// How often each verdict was given at each hook, for each reason.
pub type Counts = BTreeMap<(Hook, Verdict, Reason), u64>;

/// Turns worlds into contents of tables, as the agent does.
#[derive(Debug, Default)]
pub(super) struct Compiler {
    numbers: Numbers,
    policy: Option<Arc<PolicySet>>,
    /// The rule behind each number.
    pub(super) rules: BTreeMap<u32, RuleName>,
}

impl Compiler {
    /// A world about whose past nothing is known.
    pub(super) fn start(&mut self, world: &World, held: &impl Held) -> Desired {
        self.numbers.tombstones = Tombstones::default();
        let desired = self.compile(world, held);
        self.numbers.tombstones = Tombstones::new(LASTING, TOMBSTONES);
        desired
    }

    pub(super) fn has_tombstones(&self) -> bool {
        !self.numbers.tombstones.is_empty()
    }

    /// The world that follows on the one before.
    pub(super) fn compile(&mut self, world: &World, held: &impl Held) -> Desired {
        let is_new = self.policy.as_ref().is_none_or(|policy| **policy != world.policy);
        if is_new {
            self.policy = Some(Arc::new(world.policy.clone()));
        }
        let policy = self.policy.as_ref().expect("set above");
        let scopes: Vec<_> = world.scopes.iter().map(|scope| (scope.cgroup.clone(), scope.denies)).collect();
        let host_addresses: BTreeSet<_> = world.host.iter().copied().collect();
        let mut cluster = Cluster::default();
        let node = |address: &IpAddr| NodeFact { name: address.to_string(), addresses: vec![*address] };
        cluster.tell_nodes(Told::All(world.nodes.iter().map(node).collect()));
        cluster.tell_services(Told::All(world.services.clone()));
        let inputs = Inputs {
            policy,
            policy_is_new: is_new,
            workloads: &world.workloads,
            host_addresses: &host_addresses,
            scopes: &scopes,
            cluster: &cluster,
        };
        let desired = desired(inputs, &mut self.numbers, held).expect("a small policy fits");
        self.rules = self.numbers.rules.iter().map(|(place, number)| (number, place.clone())).collect();
        desired
    }
}

/// The decision over tables in memory.
#[derive(Debug)]
pub struct Userspace {
    stage: Stage,
    compiler: Compiler,
    world: World,
    tables: MemoryTables,
    counts: Counts,
}

impl Userspace {
    /// With an empty world.
    #[must_use]
    pub fn new(stage: Stage) -> Self {
        let world = World::default();
        let mut compiler = Compiler::default();
        let contents = compiler.compile(&world, &Nothing).contents;
        let tables = MemoryTables::new(contents, Settings::defaults(HZ), ROOM_FOR_FLOWS, START);
        Self { stage, compiler, world, tables, counts: Counts::new() }
    }

    /// What was decided since it was last asked.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    fn hold(&mut self, contents: Contents, world: &World) {
        self.tables.apply(contents);
        self.tables.set_failsafe(failsafe_words(&world.failsafe));
        let denies_midstream = world.denies_midstream.into();
        self.tables.set_settings(Settings { denies_midstream, ..Settings::defaults(HZ) });
        self.world.clone_from(world);
    }

    /// Judges bytes at a hook: from the IP header on at cgroups' hooks, an Ethernet frame elsewhere.
    pub fn judge_bytes(&mut self, spot: &Spot, bytes: &[u8]) -> Outcome {
        let (hook, judgement) = match spot {
            Spot::CgroupEgress { cgroup, loopback } => {
                (Hook::CgroupEgress, Some(self.at_cgroup(bytes, cgroup, *loopback, Direction::Egress)))
            }
            Spot::CgroupIngress { cgroup, loopback } => {
                (Hook::CgroupIngress, Some(self.at_cgroup(bytes, cgroup, *loopback, Direction::Ingress)))
            }
            Spot::TcEgress { interface } => (Hook::TcEgress, Some(self.at_link(bytes, *interface, Direction::Egress))),
            Spot::TcIngress { interface } => {
                (Hook::TcIngress, Some(self.at_link(bytes, *interface, Direction::Ingress)))
            }
            Spot::Xdp => (Hook::Xdp, self.at_uplink(bytes)),
        };
        let Some(judgement) = judgement else {
            return Outcome { passes: true, verdict: Some((Verdict::Allow, Reason::Deferred)), rule: None };
        };
        *self.counts.entry((hook, judgement.verdict, judgement.reason)).or_default() += 1;
        Outcome {
            passes: judgement.verdict != Verdict::Deny,
            verdict: Some((judgement.verdict, judgement.reason)),
            rule: (judgement.rule != RULE_NONE).then(|| self.compiler.rules[&judgement.rule].clone()),
        }
    }
    /// A cgroup and its ancestors, the nearest first.
    fn lineage(&self, path: &str) -> Vec<u64> {
        let id = |path: &str| self.stage.all_cgroups().find(|cgroup| cgroup.path == path).map(|cgroup| cgroup.id);
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        let mut lineage: Vec<u64> = ends.filter_map(|end| id(&path[..end])).collect();
        lineage.reverse();
        lineage
    }

    /// As `bpf/cgroup_skb.rs`.
    fn at_cgroup(&self, bytes: &[u8], path: &str, loopback: bool, direction: Direction) -> Judgement {
        if loopback {
            return Judgement::loopback(direction);
        }
        let lineage = self.lineage(path);
        let seen = Seen::Cgroup(lineage[0]);
        let network = if bytes.first().is_some_and(|byte| byte >> 4 == 6) { Network::Ip6 } else { Network::Ip4 };
        let parsed = packet::parse(bytes, 0, network);
        let generation = self.tables.generation();
        let owner = self.tables.cgroup_owner(&lineage);
        let local = owner.map_or(Local::host(generation, seen), |place| Local::at(generation, place, seen));
        self.decide(bytes, (network, 0), parsed, &local, direction)
    }

    /// As `bpf/tc.rs`.
    fn at_link(&self, bytes: &[u8], interface: u32, direction: Direction) -> Judgement {
        let seen = Seen::Interface(interface);
        let (place, parsed) = match network(bytes) {
            Some(Frame::Ip(network, at)) => ((network, at), packet::parse(bytes, at, network)),
            Some(Frame::Arp) => return Judgement::never_cut(direction),
            Some(Frame::Other) => ((Network::Ip4, 0), Err(Reason::NotIp)),
            None => ((Network::Ip4, 0), Err(Reason::Malformed)),
        };
        let generation = self.tables.generation();
        let owner = self.tables.link_owner(interface);
        let local = owner.map_or(Local::unnamed(generation, seen), |place| Local::at(generation, place, seen));
        self.decide(bytes, place, parsed, &local, direction)
    }

    fn decide(
        &self,
        bytes: &[u8],
        (network, at): (Network, u32),
        parsed: Result<packet::Packet, Reason>,
        local: &Local,
        direction: Direction,
    ) -> Judgement {
        match parsed {
            Ok(packet) => packet::plain(bytes, at, network)
                .and_then(|plain| known(&self.tables, &plain, local.seen, direction).passes())
                .unwrap_or_else(|| judge(&self.tables, bytes, packet, local, direction)),
            Err(reason) => undecidable(&self.tables, local, direction, reason),
        }
    }

    /// As `bpf/xdp.rs`. `None` where the program passes without counting.
    fn at_uplink(&self, bytes: &[u8]) -> Option<Judgement> {
        let Some(Frame::Ip(network, at)) = network(bytes) else { return None };
        let packet = packet::parse(bytes, at, network).ok()?;
        if let Some(plain) = packet::plain(bytes, at, network)
            && let Some(judgement) = known(&self.tables, &plain, Seen::Address, Direction::Ingress).passes()
        {
            return Some(judgement);
        }
        let generation = self.tables.generation();
        let receiver = self.tables.party(packet.destination());
        let local = Local::behind(generation, &receiver);
        Some(if receiver.flags & Party::LOCAL == 0 {
            Judgement::not_local(Direction::Ingress)
        } else if packet.part == Part::Later {
            Judgement::deferred(Direction::Ingress)
        } else {
            judge(&self.tables, bytes, packet, &local, Direction::Ingress)
        })
    }
}

impl Implementation for Userspace {
    fn name(&self) -> &'static str {
        "the user-space decision"
    }

    fn start(&mut self, world: &World) {
        if self.world != *world || self.compiler.has_tombstones() {
            let contents = self.compiler.start(world, &self.tables).contents;
            self.hold(contents, world);
        }
        self.tables.forget();
    }

    fn change(&mut self, world: &World) {
        if self.world != *world {
            let contents = self.compiler.compile(world, &self.tables).contents;
            self.hold(contents, world);
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.tables.wait(seconds * u64::from(HZ));
    }

    fn judge(&mut self, packet: &Packet) -> Outcome {
        let bytes = match packet.spot {
            Spot::CgroupEgress { .. } | Spot::CgroupIngress { .. } => {
                wire::packet(packet).expect("only IP gets to a cgroup's hook")
            }
            _ => wire::ethernet_frame(packet),
        };
        self.judge_bytes(&packet.spot, &bytes)
    }
}
