//! Random cases: a world, and packets, waits and changes that happen in it.
//!
//! A small cast of addresses, ports and labels keeps rules and packets meeting each other: uniformly random ones would be
//! denied nearly always, and alike.

mod change;
mod policy;
mod random;
mod services;
mod traffic;

pub use random::Random;

use std::net::IpAddr;
use std::sync::Arc;

use bulkhead::config::failsafe::FailsafePort;
use bulkhead::policy::model::{Origin, PolicySet};
use bulkhead::workload::{CgroupRef, InterfaceRef, Labels, SourceKind, Workload};

use crate::model::{Packet, Scope, World};
use bulkhead_ebpf::abi::Direction;

/// One case: what happens in a world, in order.
#[derive(Clone, Debug)]
pub struct Case {
    /// The world at the start.
    pub world: World,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A packet is met somewhere.
    Packet(Packet),
    /// The same packet is met further on its way, if it got so far.
    Onward(Packet),
    /// Seconds pass.
    Wait(u64),
    /// The world is another from here on.
    Change(Box<World>),
}

/// The cgroups and interfaces of this host that workloads may have.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Cgroups that may be a workload's.
    pub cgroups: Vec<CgroupRef>,
    /// A cgroup below each of them, which few workloads are in.
    pub inner: Vec<CgroupRef>,
    /// A cgroup that is nobody's.
    pub stranger: CgroupRef,
    /// The cgroup that all of these are below.
    pub base: CgroupRef,
    /// Links that may be a workload's.
    pub interfaces: Vec<InterfaceRef>,
}

impl Stage {
    /// A stage without a kernel: paths and numbers alone.
    #[must_use]
    pub fn imagined() -> Self {
        let cgroup = |path: String, id| CgroupRef { path, id };
        Self {
            cgroups: (0..3).map(|number| cgroup(format!("stage/w{number}"), 100 + number)).collect(),
            inner: (0..3).map(|number| cgroup(format!("stage/w{number}/inner"), 200 + number)).collect(),
            stranger: cgroup("stage/stranger".to_owned(), 300),
            base: cgroup("stage".to_owned(), 301),
            interfaces: (0..3)
                .map(|number| InterfaceRef { name: format!("link{number}"), index: 10 + number })
                .collect(),
        }
    }

    /// Every cgroup of the stage.
    pub fn all_cgroups(&self) -> impl Iterator<Item = &CgroupRef> {
        self.cgroups.iter().chain(&self.inner).chain([&self.stranger, &self.base])
    }

    /// The cgroups that may be managed scopes.
    fn possible_scopes(&self) -> Vec<&CgroupRef> {
        [&self.base].into_iter().chain(&self.cgroups).collect()
    }
}

const APPS: [&str; 4] = ["web", "api", "db", "batch"];
const ENVIRONMENTS: [&str; 2] = ["prod", "test"];

/// The host's own addresses.
const HOST: [&str; 2] = ["10.0.0.254", "fd00::fe"];
/// Failsafe ports of every world, among those that rules and packets are about.
pub const FAILSAFE: [FailsafePort; 3] = [
    FailsafePort { direction: Direction::Ingress, protocol: 6, port: 80 },
    FailsafePort { direction: Direction::Egress, protocol: 6, port: 443 },
    FailsafePort { direction: Direction::Egress, protocol: 17, port: 53 },
];
/// Those of other nodes, where there are any.
const NODES: [&str; 2] = ["198.51.100.9", "2001:db8::7"];
/// Addresses that no workload holds, some of them among those that workloads hold.
const WORLD: [&str; 6] = ["192.0.2.7", "198.51.100.9", "10.0.0.77", "2001:db8::7", "fd00::77", "10.0.0.3"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal")
}

fn origin() -> Origin {
    Origin { file: Arc::new("random.yaml".into()), line: 1, column: 1 }
}

/// A random world on a stage.
#[must_use]
pub fn world(random: &mut Random, stage: &Stage) -> World {
    let mut world = world_without_scopes(random, stage);
    if random.chance(50) {
        let cgroups = stage.possible_scopes().into_iter().filter(|_| random.chance(35)).cloned().collect::<Vec<_>>();
        world.scopes = cgroups.into_iter().map(|cgroup| Scope { cgroup, denies: random.chance(60) }).collect();
    }
    if random.chance(25) {
        let cgroup = Some(random.pick(&stage.inner).clone());
        let mut addresses = vec![ip("10.0.0.9"), ip("fd00::9")];
        addresses.retain(|_| random.chance(70));
        let name = "nested8";
        let (source, labels, addresses) = (SourceKind::File, labels(random), addresses.into());
        world.workloads.push(Workload {
            name: name.into(),
            source,
            labels,
            cgroup,
            interface: None,
            addresses,
            local: true,
        });
    }
    world.denies_midstream = random.chance(40);
    if random.chance(50) {
        world.nodes = NODES.iter().filter(|_| random.chance(70)).map(|address| ip(address)).collect();
        world.services = services::services(random, &world);
    }
    world
}

/// A random world in which the operator has set nothing: no managed scopes, no workload in another's cgroup, connections that are
/// older than the agent go on.
#[must_use]
pub fn world_without_scopes(random: &mut Random, stage: &Stage) -> World {
    let mut workloads = Vec::new();
    // One of each kind, and a second one of some: in a cgroup, in a cgroup behind a link, behind a link, elsewhere.
    for (number, kind) in ["cgroup", "both", "link", "remote", "cgroup", "link", "remote"].into_iter().enumerate() {
        if number >= 4 && random.chance(50) {
            continue;
        }
        let cgroup = match (number, kind) {
            (0, _) => Some(0),
            (1, _) => Some(1),
            (4, _) => Some(2),
            _ => None,
        };
        let interface = match number {
            1 => Some(0),
            2 => Some(1),
            5 => Some(2),
            _ => None,
        };
        let mut addresses = vec![ip(&format!("10.0.0.{}", number + 1))];
        if random.chance(80) {
            addresses.push(ip(&format!("fd00::{}", number + 1)));
        }
        if random.chance(20) {
            addresses.push(ip(&format!("10.0.1.{}", number + 1)));
        }
        if kind == "cgroup" && random.chance(25) {
            addresses.clear();
        }
        addresses.sort();
        workloads.push(Workload {
            name: format!("{kind}{number}").into(),
            source: SourceKind::File,
            labels: labels(random),
            cgroup: cgroup.map(|index: usize| stage.cgroups[index].clone()),
            interface: interface.map(|index: usize| stage.interfaces[index].clone()),
            addresses: addresses.into(),
            local: kind != "remote",
        });
    }
    let policy =
        PolicySet { groups: policy::groups(random), guardrails: policy::guardrails(random), ..PolicySet::default() };
    let (host, failsafe) = (HOST.map(ip).to_vec(), FAILSAFE.to_vec());
    World { policy, workloads, host, failsafe, ..World::default() }
}

fn labels(random: &mut Random) -> Arc<Labels> {
    let mut labels = Labels::new();
    labels.insert("app".to_owned(), (*random.pick(&APPS)).to_owned());
    if random.chance(60) {
        labels.insert("env".to_owned(), (*random.pick(&ENVIRONMENTS)).to_owned());
    }
    Arc::new(labels)
}

/// A random case in a world.
#[must_use]
pub fn case(random: &mut Random, stage: &Stage, world: &World) -> Case {
    Case { world: world.clone(), steps: traffic::steps(random, stage, world) }
}
