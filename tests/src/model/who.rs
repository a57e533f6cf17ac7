//! Who is who: whose rules a spot asks, who holds an address, and whether it is still the same one.

use std::net::IpAddr;
use std::sync::Arc;

use bulkhead::workload::Workload;
use bulkhead_ebpf::abi::Direction;

use super::{Model, Packet, Spot};

/// One workload, from its coming to its going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    name: Arc<str>,
    /// How many of that name came before it.
    before: u32,
}

/// Whose rules are asked: a workload (its index in the world) or nobody, at one end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub workload: Option<usize>,
    /// Nobody has said who it is, and a managed scope stands in: whether that denies it.
    pub unidentified: Option<bool>,
    pub direction: Direction,
    /// Whether its packets come and go through a link of its own.
    pub linked: bool,
}

impl Subject {
    const fn of(workload: Option<usize>, direction: Direction) -> Self {
        Self { workload, unidentified: None, direction, linked: false }
    }
}

impl Model {
    /// Whose rules this spot asks.
    pub(super) fn subjects(&self, packet: &Packet) -> Vec<Subject> {
        match &packet.spot {
            Spot::CgroupEgress { cgroup, .. } => {
                vec![self.in_cgroup(cgroup, Direction::Egress)]
            }
            Spot::CgroupIngress { cgroup, .. } => {
                vec![self.in_cgroup(cgroup, Direction::Ingress)]
            }
            Spot::TcEgress { interface } => self.on_link(*interface, Direction::Egress),
            Spot::TcIngress { interface } => self.on_link(*interface, Direction::Ingress),
            Spot::Xdp => packet
                .readable()
                .and_then(|(_, destination)| self.holder(destination))
                .filter(|receiver| self.world.workloads[*receiver].local)
                .map(|receiver| Subject::of(Some(receiver), Direction::Ingress))
                .into_iter()
                .collect(),
        }
    }

    pub(super) fn who(&self, subject: Subject) -> Option<Who> {
        subject.workload.map(|workload| self.called(workload))
    }

    /// The workload that holds an address.
    pub(super) fn held_by(&self, address: IpAddr) -> Option<Who> {
        self.holder(address).map(|workload| self.called(workload))
    }

    fn called(&self, workload: usize) -> Who {
        let name = self.world.workloads[workload].name.clone();
        Who { before: self.arrivals.get(&name).copied().unwrap_or(0), name }
    }

    /// The workload that has this address.
    pub(super) fn holder(&self, address: IpAddr) -> Option<usize> {
        self.world.workloads.iter().position(|workload| workload.addresses.contains(&address))
    }

    /// Who the processes of a cgroup are: the workload that it is; else what the nearest cgroup above makes of it.
    fn in_cgroup(&self, path: &str, direction: Direction) -> Subject {
        let workload_at = |path: &str| {
            let is_at = |workload: &Workload| workload.cgroup.as_ref().is_some_and(|cgroup| cgroup.path == path);
            self.world.workloads.iter().position(is_at)
        };
        if let Some(workload) = workload_at(path) {
            return Subject::of(Some(workload), direction);
        }
        let parts: Vec<&str> = path.split('/').collect();
        for length in (1..=parts.len()).rev() {
            let above = parts[..length].join("/");
            // A scope before the workload that it may be as well: who is below and not named is not taken for that one.
            if let Some(scope) = self.world.scopes.iter().find(|scope| scope.cgroup.path == above) {
                return Subject { unidentified: Some(scope.denies), ..Subject::of(None, direction) };
            }
            if let Some(workload) = workload_at(&above) {
                return Subject::of(Some(workload), direction);
            }
        }
        Subject::of(None, direction)
    }

    fn on_link(&self, interface: u32, direction: Direction) -> Vec<Subject> {
        let owner = self
            .world
            .workloads
            .iter()
            .position(|workload| workload.interface.as_ref().is_some_and(|link| link.index == interface));
        owner.map(|owner| Subject { linked: true, ..Subject::of(Some(owner), direction) }).into_iter().collect()
    }
}
