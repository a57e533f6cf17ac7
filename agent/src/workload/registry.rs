//! The merged view: what the sources and the policy's documents together know of workloads.
//!
//! Pure: facts go in, workloads come out. A document's word wins over what was discovered, and what a document claims is not
//! discovered a second time. Level-triggered: a resync replaces everything that its source said before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::{CgroupRef, DeclaredWorkload, InterfaceRef, Labels, SourceKind, Workload, alias};
use crate::config::ManagedScope;
use crate::source::{Change, LinkFact};

/// The label that carries a systemd unit's name.
pub const UNIT: &str = "unit";
/// The label that carries the name of the slice that a unit is in, or that a slice is.
pub const SLICE: &str = "slice";

/// Everything that the sources said, newest word only.
#[derive(Debug, Default)]
pub struct Registry {
    scopes: Vec<ManagedScope>,
    cgroups: BTreeMap<String, u64>,
    links: BTreeMap<u32, LinkFact>,
}

/// What the registry makes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Every workload, by name.
    pub workloads: Vec<Workload>,
    /// The host's own addresses.
    pub host_addresses: BTreeSet<IpAddr>,
    /// Managed scopes that exist with the slices below them, and whether what is unidentified there is denied.
    pub scopes: Vec<(CgroupRef, bool)>,
}

impl Registry {
    /// A registry that has been told nothing yet.
    #[must_use]
    pub const fn new(scopes: Vec<ManagedScope>) -> Self {
        Self { scopes, cgroups: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// Takes a source's word. False where it was known already.
    pub fn take(&mut self, change: Change) -> bool {
        match change {
            Change::CgroupResync(all) => {
                let all = all.into_iter().map(|cgroup| (cgroup.path, cgroup.id)).collect();
                replace(&mut self.cgroups, all)
            }
            Change::CgroupAppeared(cgroup) => self.cgroups.insert(cgroup.path, cgroup.id) != Some(cgroup.id),
            Change::CgroupGone(path) => self.cgroups.remove(&path).is_some(),
            Change::LinkResync(all) => {
                replace(&mut self.links, all.into_iter().map(|link| (link.index, link)).collect())
            }
            Change::LinkChanged(link) => {
                let known = self.links.get(&link.index) == Some(&link);
                self.links.insert(link.index, link);
                !known
            }
            Change::LinkGone(index) => self.links.remove(&index).is_some(),
        }
    }

    /// The links that exist, by index.
    #[must_use]
    pub const fn links(&self) -> &BTreeMap<u32, LinkFact> {
        &self.links
    }

    /// The managed scopes.
    #[must_use]
    pub fn scopes(&self) -> &[ManagedScope] {
        &self.scopes
    }

    /// Merges everything with the documents of the policy in force.
    #[must_use]
    pub fn view(&self, declared: &[DeclaredWorkload]) -> View {
        let by_name: HashMap<&str, &LinkFact> = self.links.values().map(|link| (link.name.as_str(), link)).collect();
        let claimed_cgroups: HashSet<&str> = declared.iter().filter_map(|one| one.cgroup.as_deref()).collect();
        let claimed_links: HashSet<&str> = declared.iter().filter_map(|one| one.interface.as_deref()).collect();
        let mut workloads: Vec<Workload> = declared.iter().map(|one| self.declared(one, &by_name)).collect();
        let mut scopes = Vec::new();
        for scope in &self.scopes {
            self.scope(scope, &claimed_cgroups, &mut workloads, &mut scopes);
        }
        let unclaimed = self.links.values().filter(|link| !claimed_links.contains(link.name.as_str()));
        workloads.extend(unclaimed.filter_map(labelled_link));
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        workloads.dedup_by(|a, b| a.name == b.name);
        let host_addresses = self.links.values().flat_map(|link| link.host_addresses.iter().copied()).collect();
        View { workloads, host_addresses, scopes }
    }

    fn declared(&self, one: &DeclaredWorkload, links: &HashMap<&str, &LinkFact>) -> Workload {
        let cgroup = one
            .cgroup
            .as_ref()
            .and_then(|path| self.cgroups.get(path).map(|id| CgroupRef { path: path.clone(), id: *id }));
        let link = one.interface.as_deref().and_then(|name| links.get(name));
        let mut labels = link.and_then(|link| link.alias.as_deref()).and_then(alias::labels).unwrap_or_default();
        labels.extend(one.labels.clone());
        let behind = link.into_iter().flat_map(|link| link.peer_addresses.iter());
        let addresses: BTreeSet<IpAddr> = one.addresses.iter().chain(behind).copied().collect();
        Workload {
            name: one.name.clone(),
            source: SourceKind::File,
            labels,
            cgroup,
            interface: link.map(|link| InterfaceRef { name: link.name.clone(), index: link.index }),
            addresses: addresses.into_iter().collect(),
            local: one.cgroup.is_some() || one.interface.is_some(),
        }
    }

    /// Units and slices below one scope. A unit's own cgroups belong to the unit; a slice is looked into.
    fn scope(
        &self,
        scope: &ManagedScope,
        claimed: &HashSet<&str>,
        workloads: &mut Vec<Workload>,
        scopes: &mut Vec<(CgroupRef, bool)>,
    ) {
        let reference = |path: &str, id: u64| CgroupRef { path: path.to_owned(), id };
        if let Some(id) = self.cgroups.get(&scope.path) {
            scopes.push((reference(&scope.path, *id), scope.denies));
        }
        let prefix = format!("{}/", scope.path);
        for (path, id) in self.cgroups.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
            let below = &path[prefix.len()..];
            let (parent, name) = below.rsplit_once('/').unwrap_or(("", below));
            if parent.split('/').any(|part| !part.is_empty() && !is_slice(part)) {
                continue;
            }
            if is_slice(name) {
                scopes.push((reference(path, *id), scope.denies));
            }
            if claimed.contains(path.as_str()) {
                continue;
            }
            let slice = parent.rsplit('/').next().filter(|part| !part.is_empty());
            let slice = slice.or_else(|| scope.path.rsplit('/').next()).unwrap_or_default();
            workloads.push(Workload {
                name: format!("cgroup:{path}"),
                source: SourceKind::Cgroup,
                labels: unit_labels(name, slice),
                cgroup: Some(reference(path, *id)),
                interface: None,
                addresses: Vec::new(),
                local: true,
            });
        }
    }
}

fn replace<K: PartialEq, V: PartialEq>(known: &mut BTreeMap<K, V>, all: BTreeMap<K, V>) -> bool {
    let changed = *known != all;
    *known = all;
    changed
}

fn is_slice(name: &str) -> bool {
    name.ends_with(".slice")
}

fn unit_labels(name: &str, slice: &str) -> Labels {
    if is_slice(name) {
        return Labels::from([(SLICE.to_owned(), name.to_owned())]);
    }
    Labels::from([(UNIT.to_owned(), name.to_owned()), (SLICE.to_owned(), slice.to_owned())])
}

fn labelled_link(link: &LinkFact) -> Option<Workload> {
    let labels = alias::labels(link.alias.as_deref()?)?;
    let addresses: BTreeSet<IpAddr> = link.peer_addresses.iter().copied().collect();
    Some(Workload {
        name: format!("interface:{}", link.name),
        source: SourceKind::Netlink,
        labels,
        cgroup: None,
        interface: Some(InterfaceRef { name: link.name.clone(), index: link.index }),
        addresses: addresses.into_iter().collect(),
        local: true,
    })
}

#[cfg(test)]
mod tests;
