//! Random changes in the middle of a case: of the policy, of labels, of who is there and who is still unidentified.

use std::net::IpAddr;
use std::sync::Arc;

use bulkhead::workload::{CgroupRef, InterfaceRef, SourceKind, Workload};

use super::services::services;
use super::{Random, Stage, ip, labels, policy};
use crate::model::{Scope, World};

/// Addresses that those have who come later: some are in [`super::WORLD`] until then, some were another workload's.
const NEWCOMERS: [&str; 7] = ["10.0.0.77", "192.0.2.7", "10.0.0.8", "10.0.0.1", "10.0.0.2", "fd00::77", "fd00::2"];

/// What changes in one case, and what has.
pub(super) struct Changes<'a> {
    stage: &'a Stage,
    /// Cgroups that send and receive in this case without being anybody's: who is named later is there.
    rooms: Vec<CgroupRef>,
    /// Addresses that talk in this case: it is mostly their holders who leave.
    ends: Vec<IpAddr>,
    /// Workloads that have left.
    left: Vec<Workload>,
}

impl<'a> Changes<'a> {
    pub(super) const fn new(stage: &'a Stage, rooms: Vec<CgroupRef>, ends: Vec<IpAddr>) -> Self {
        Self { stage, rooms, ends, left: Vec::new() }
    }

    /// Whether somebody who has left may come back.
    pub(super) const fn is_awaiting(&self) -> bool {
        !self.left.is_empty()
    }

    /// The world after the next change.
    pub(super) fn next(&mut self, random: &mut Random, world: &World) -> World {
        let mut world = world.clone();
        let count = world.workloads.len();
        if self.is_awaiting() && random.chance(60) {
            self.comes_back(random, &mut world);
            return world;
        }
        match random.below(12) {
            0..=2 if count > 0 => world.workloads[random.below(count)].labels = labels(random),
            3 | 4 if count > 0 => self.leaves(random, &mut world),
            5 => world.workloads.extend(self.newcomer(random, &world)),
            // One goes and another one has its place and addresses at once.
            6 if count > 0 => {
                let former = world.workloads.remove(random.below(count));
                let mut heir = Workload { name: name(random).into(), labels: labels(random), ..former.clone() };
                if random.chance(30) {
                    heir.addresses = heir.addresses.split_last().map_or_else(Arc::default, |(_, others)| others.into());
                }
                world.workloads.push(heir);
                self.left.push(former);
            }
            7 => change_scopes(random, self.stage, &mut world.scopes),
            8 if !world.services.is_empty() => world.services = services(random, &world),
            _ => policy::change(random, &mut world.policy),
        }
        world
    }

    /// The worlds in which somebody who talks leaves, and is there again.
    pub(super) fn absence(&mut self, random: &mut Random, world: &World) -> [World; 2] {
        let mut without = world.clone();
        if !without.workloads.is_empty() {
            self.leaves(random, &mut without);
        }
        let mut again = without.clone();
        if self.is_awaiting() {
            self.comes_back(random, &mut again);
        }
        [without, again]
    }

    fn leaves(&mut self, random: &mut Random, world: &mut World) {
        let count = world.workloads.len();
        let talks = |workload: &Workload| workload.addresses.iter().any(|address| self.ends.contains(address));
        let talking: Vec<usize> = (0..count).filter(|index| talks(&world.workloads[*index])).collect();
        let anyone = talking.is_empty() || random.chance(20);
        let leaving = if anyone { random.below(count) } else { *random.pick(&talking) };
        self.left.push(world.workloads.remove(leaving));
    }

    /// A workload that was not there before, where there is room: in a cgroup, behind a link or elsewhere, with addresses that
    /// were nobody's.
    fn newcomer(&self, random: &mut Random, world: &World) -> Option<Workload> {
        let mut addresses = free_addresses(world);
        addresses.retain(|_| random.chance(40));
        let (cgroup, interface) = match random.below(5) {
            0..=2 => (self.free_cgroup(random, world), None),
            3 => (None, self.free_interface(world)),
            _ => (None, None),
        };
        let source = SourceKind::File;
        let labels = labels(random);
        somewhere(Workload {
            name: name(random).into(),
            source,
            labels,
            cgroup,
            interface,
            addresses: addresses.into(),
            local: false,
        })
    }

    /// One that has left is there again under its name: where it was, if there is still room, with its addresses or others, which
    /// may have been another's until this moment.
    fn comes_back(&mut self, random: &mut Random, world: &mut World) {
        let mut returning = self.left.remove(random.below(self.left.len()));
        let is_held = |address: &IpAddr| world.workloads.iter().any(|other| other.addresses.contains(address));
        returning.addresses = match random.below(4) {
            0 => free_addresses(world).into_iter().filter(|_| random.chance(40)).collect(),
            1 if !world.workloads.is_empty() => {
                let robbed = random.below(world.workloads.len());
                std::mem::take(&mut world.workloads[robbed].addresses)
            }
            _ => returning.addresses.iter().copied().filter(|address| !is_held(address)).collect(),
        };
        world.workloads.retain(|other| other.local || !other.addresses.is_empty());
        if returning.cgroup.is_some() && (random.chance(20) || !self.is_free(world, returning.cgroup.as_ref())) {
            returning.cgroup = self.free_cgroup(random, world);
        }
        if world.workloads.iter().any(|other| other.interface.is_some() && other.interface == returning.interface) {
            returning.interface = self.free_interface(world);
        }
        if random.chance(60) {
            returning.labels = labels(random);
        }
        world.workloads.extend(somewhere(returning));
        // What was promised to it before shows where the policy no longer allows it.
        if random.chance(50) {
            policy::change(random, &mut world.policy);
        }
    }

    fn is_free(&self, world: &World, cgroup: Option<&CgroupRef>) -> bool {
        world.workloads.iter().all(|workload| workload.cgroup.as_ref() != cgroup)
    }

    fn free_cgroup(&self, random: &mut Random, world: &World) -> Option<CgroupRef> {
        let is_free = |cgroup: &&CgroupRef| self.is_free(world, Some(cgroup));
        let rooms: Vec<&CgroupRef> = self.rooms.iter().filter(is_free).collect();
        if !rooms.is_empty() && random.chance(60) {
            return Some((*random.pick(&rooms)).clone());
        }
        let nested = random.chance(25);
        let cgroups = if nested { &self.stage.inner } else { &self.stage.cgroups };
        cgroups.iter().find(is_free).cloned()
    }

    fn free_interface(&self, world: &World) -> Option<InterfaceRef> {
        let is_free =
            |link: &&InterfaceRef| world.workloads.iter().all(|workload| workload.interface.as_ref() != Some(*link));
        self.stage.interfaces.iter().find(is_free).cloned()
    }
}

fn free_addresses(world: &World) -> Vec<IpAddr> {
    let is_held = |address: &IpAddr| world.workloads.iter().any(|workload| workload.addresses.contains(address));
    let mut free: Vec<IpAddr> = NEWCOMERS.map(ip).into_iter().filter(|address| !is_held(address)).collect();
    free.sort();
    free
}

/// The workload as local as its place says; nothing where it has neither place nor address.
fn somewhere(workload: Workload) -> Option<Workload> {
    let local = workload.cgroup.is_some() || workload.interface.is_some();
    (local || !workload.addresses.is_empty()).then_some(Workload { local, ..workload })
}

/// A name that nobody had before.
fn name(random: &mut Random) -> String {
    format!("new{:08x}", random.next() as u32)
}

/// A scope comes, goes or thinks better of it: an agent that starts anew, or a cgroup that is made or removed.
fn change_scopes(random: &mut Random, stage: &Stage, scopes: &mut Vec<Scope>) {
    let possible = stage.possible_scopes();
    let cgroup = (*random.pick(&possible)).clone();
    match scopes.iter().position(|scope| scope.cgroup == cgroup) {
        None => scopes.push(Scope { cgroup, denies: random.chance(60) }),
        Some(place) if random.chance(50) => drop(scopes.remove(place)),
        Some(place) => scopes[place].denies = !scopes[place].denies,
    }
}
