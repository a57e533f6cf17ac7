//! A change of single workloads, as the few entries that it changes: its cost does not grow with what else there is.
//!
//! A patch ends where [`super::desired`] would. Where it can't (a set of groups whose rows are not compiled, an address that
//! several claim) it says so, and everything is computed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use bulkhead_ebpf::abi::{Address, Backends, Frontend, IDENTITIES, IDENTITY_WORLD, Identity, Party, Place};

use super::meaning::Meanings;
use super::services::resolve_one;
use super::{Held, Member, Numbers, State, numbers, party, service_flag, source_flags};
use crate::workload::Workload;
use crate::workload::registry::{Registry, Touched};

/// Entries to write (`Some`) and to remove, in the copy in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// `IDENTITIES`: new ones.
    pub identities: Vec<(u32, Identity)>,
    /// `ADDRESSES`.
    pub addresses: HashMap<Address, Option<Party>>,
    /// `SERVICES`.
    pub services: HashMap<Frontend, Option<Backends>>,
    /// `CGROUPS`.
    pub cgroups: BTreeMap<u64, Option<Place>>,
    /// `INTERFACES`.
    pub interfaces: BTreeMap<u32, Option<Place>>,
}

/// The change is not one of single entries: everything has to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooWide;

impl State {
    /// Whether a workload has this number.
    #[must_use]
    pub fn is_somebody(&self, number: u32) -> bool {
        self.by_number.contains_key(&number)
    }

    /// Takes what was touched, and returns the entries that change.
    ///
    /// # Errors
    /// [`TooWide`]; the state is of no further use then.
    pub fn patch(
        &mut self,
        touched: &Touched,
        registry: &Registry,
        numbers: &mut Numbers,
        held: &impl Held,
    ) -> Result<Patch, TooWide> {
        if touched.everything || numbers.identities.count() > IDENTITIES as usize / 4 {
            return Err(TooWide);
        }
        let (rows, cover) = (self.rows.clone(), self.cover.clone());
        let meanings = Meanings::new(&rows, cover);
        let mut patcher = Patcher { meanings, registry, numbers, held, patch: Patch::default(), news: Vec::new() };
        let mut addresses: BTreeSet<IpAddr> = touched.host_addresses.clone();
        for name in &touched.workloads {
            let old = self.workloads.remove(name.as_str());
            let new = registry.workload(name);
            if let Some((workload, member)) = &old {
                addresses.extend(workload.addresses.iter());
                self.by_number.remove(&member.number);
                self.by_source.entry(workload.source).and_modify(|count| *count -= 1);
                patcher.vacate(workload);
            }
            if let Some(workload) = new {
                addresses.extend(workload.addresses.iter());
                let member = patcher.settle(self, &workload)?;
                self.by_number.insert(member.number, workload.name.clone());
                *self.by_source.entry(workload.source).or_default() += 1;
                self.workloads.insert(workload.name.clone(), (workload, member));
            } else {
                patcher.numbers.forget(name);
            }
        }
        // Found once: to look through all that was touched for each address would cost a large batch a second.
        let mut claims: HashMap<IpAddr, Vec<&str>> = HashMap::new();
        for name in &touched.workloads {
            for address in self.workloads.get(name.as_str()).iter().flat_map(|(workload, _)| workload.addresses.iter())
            {
                let claimants = claims.entry(*address).or_default();
                if claimants.last() != Some(&name.as_str()) {
                    claimants.push(name);
                }
            }
        }
        let mut services = touched.services.clone();
        for address in addresses.into_iter().filter(|address| !address.is_loopback()) {
            let of_touched = claims.get(&address).map_or(&[][..], Vec::as_slice);
            patcher.readdress(self, address, &touched.workloads, of_touched)?;
            services.extend(registry.cluster().services_before(&address).map(str::to_owned));
        }
        let cluster = registry.cluster();
        if services.iter().filter_map(|name| cluster.service(name)).any(|fact| cluster.is_contested(fact)) {
            return Err(TooWide);
        }
        for name in &services {
            patcher.resolve(&mut self.frontends, name);
        }
        let Patcher { mut patch, news, .. } = patcher;
        patch.services.retain(|frontend, backends| held.backends(frontend) != *backends);
        patch.cgroups.retain(|id, place| held.cgroup(*id) != *place);
        patch.interfaces.retain(|index, place| held.interface(*index) != *place);
        self.warnings.extend(news);
        Ok(patch)
    }
}

struct Patcher<'a, H> {
    meanings: Meanings<'a>,
    registry: &'a Registry,
    numbers: &'a mut Numbers,
    held: &'a H,
    patch: Patch,
    news: Vec<String>,
}

impl<H: Held> Patcher<'_, H> {
    /// Takes away the workload's places, unless it or another one is put there.
    fn vacate(&mut self, old: &Workload) {
        if let Some(cgroup) = &old.cgroup {
            self.patch.cgroups.entry(cgroup.id).or_insert(None);
        }
        if let Some(interface) = &old.interface {
            self.patch.interfaces.entry(interface.index).or_insert(None);
        }
    }

    /// Puts the workload where it is.
    fn settle(&mut self, state: &State, workload: &Workload) -> Result<Member, TooWide> {
        let groups = state.members.groups_of(workload);
        let number = self.numbers.workload(&workload.name);
        let mut member = Member { groups, number, identity: IDENTITY_WORLD };
        if !workload.local {
            return Ok(member);
        }
        if !member.groups.is_empty() && !state.rows.subjects.contains_key(&member.groups) {
            return Err(TooWide);
        }
        let meaning = self.meanings.of_groups(&member.groups, &mut self.news, &workload.name);
        member.identity = self.intern(meaning);
        // No address is shared, or the patch is given up below: it is the workload's own.
        let place = Place {
            workload: number,
            identity: member.identity,
            flags: source_flags(workload, |_| true) | numbers::mark(&workload.name),
        };
        if let Some(cgroup) = &workload.cgroup {
            let scope = self.held.cgroup(cgroup.id).map_or(0, |held| held.flags & (Place::SCOPE | Place::SCOPE_DENIES));
            self.patch.cgroups.insert(cgroup.id, Some(Place { flags: place.flags | scope, ..place }));
        }
        if let Some(interface) = &workload.interface {
            self.patch.interfaces.insert(interface.index, Some(place));
        }
        Ok(member)
    }

    /// Finds out who is behind an address now; of those that were touched, `of_touched` claim it.
    fn readdress(
        &mut self,
        state: &State,
        address: IpAddr,
        touched: &BTreeSet<String>,
        of_touched: &[&str],
    ) -> Result<(), TooWide> {
        let key = Address::from(address);
        let before = self.held.address(&key);
        if before.is_some_and(|party| party.flags & Party::SHARED != 0) {
            return Err(TooWide);
        }
        let holder = before.filter(|party| party.workload != 0).and_then(|party| state.by_number.get(&party.workload));
        let untouched = holder.map(AsRef::as_ref).filter(|name: &&str| !touched.contains(*name));
        let claimants: Vec<&str> = untouched.into_iter().chain(of_touched.iter().copied()).collect();
        let party = match claimants.as_slice() {
            [] if self.registry.is_host_address(&address) => {
                let identity = self.intern(self.meanings.of_host(address));
                Some(Party { identity, workload: 0, flags: Party::HOST })
            }
            [] if self.registry.cluster().is_node_address(&address) => {
                let identity = self.intern(self.meanings.of_node(address));
                Some(Party { identity, workload: 0, flags: Party::NODE })
            }
            [] if self.registry.cluster().is_service_address(&address) => {
                let identity = self.intern(self.meanings.of_nobody(address));
                Some(Party { identity, workload: 0, flags: 0 })
            }
            [] => {
                if before.is_some_and(|party| party.workload != 0) {
                    self.numbers.tombstones.bury(address);
                }
                let identity = self.numbers.tombstones.holds(&address).then(|| self.meanings.of_nobody(address));
                identity.map(|meaning| Party { identity: self.intern(meaning), workload: 0, flags: Party::TOMBSTONE })
            }
            [name] => {
                let (workload, member) = &state.workloads[*name];
                let meaning = self.meanings.of_member(address, workload, &member.groups, &mut self.news);
                let is_hosts = self.registry.is_host_address(&address);
                Some(party(workload, member.number, self.intern(meaning), is_hosts))
            }
            _ => return Err(TooWide),
        };
        let flag = service_flag(self.registry.cluster(), &address);
        let party = party.map(|party| Party { flags: party.flags | flag, ..party });
        if party.is_some_and(|party| party.flags & Party::TOMBSTONE == 0) {
            self.numbers.tombstones.claim(&address);
        }
        if party != before {
            self.patch.addresses.insert(key, party);
        }
        Ok(())
    }

    /// Finds out whom a service stands for now.
    fn resolve(&mut self, frontends: &mut HashMap<String, Vec<Frontend>>, name: &str) {
        for frontend in frontends.remove(name).unwrap_or_default() {
            self.patch.services.entry(frontend).or_insert(None);
        }
        let Some(fact) = self.registry.cluster().service(name) else { return };
        let mut news = Vec::new();
        let ports = resolve_one(fact, &mut news, |address| self.meaning_at(address));
        self.news.extend(news);
        for (resolved, meaning) in ports {
            let backends = Backends { identity: self.intern(meaning), service: resolved.service };
            self.patch.services.extend(resolved.frontends.iter().map(|frontend| (*frontend, Some(backends))));
            frontends.entry(name.to_owned()).or_default().extend(resolved.frontends);
        }
    }

    /// What is behind an address, once the patch is written.
    fn meaning_at(&self, address: IpAddr) -> Identity {
        let key = Address::from(address);
        let party = self.patch.addresses.get(&key).copied().unwrap_or_else(|| self.held.address(&key));
        let Some(party) = party else { return self.meanings.of_stranger(address) };
        let new = self.patch.identities.iter().find(|(number, _)| *number == party.identity);
        // Who has no number is denied.
        new.map(|(_, meaning)| *meaning).or_else(|| self.held.meaning(party.identity)).unwrap_or(Identity::NOBODY)
    }

    fn intern(&mut self, meaning: Identity) -> u32 {
        let (number, is_new) = self.numbers.identities.intern(&meaning, |number| self.held.meaning(number));
        if is_new {
            self.patch.identities.push((number, meaning));
        }
        number
    }
}

#[cfg(test)]
mod tests;
