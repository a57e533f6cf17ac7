//! The merged view: what the sources and the policy's documents together know of workloads.
//!
//! Pure: facts go in, workloads come out. A document's word wins over what was discovered, and what a document claims is not
//! discovered a second time. Level-triggered: a resync replaces everything that its source said before.

mod pods;
mod sources;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::Cluster;
use super::port::PortNumbers;
use super::{CgroupRef, DeclaredWorkload, InterfaceRef, Labels, SourceKind, Workload, alias};
use crate::config::ManagedScope;
use crate::policy::model::PolicySet;
use crate::source::{Change, LinkFact};
pub use pods::{NAMESPACE, POD};
use pods::{Pods, is_class, pod_cgroup};

/// The label that carries a systemd unit's name.
pub const UNIT: &str = "unit";
/// Begins the name of a workload that a cgroup below a managed scope is; its path follows.
const CGROUP: &str = "cgroup:";
/// Begins the name of a workload that a link with labels is; its name follows.
const INTERFACE: &str = "interface:";
/// The label that carries the name of the slice that a unit is in, or that a slice is.
pub const SLICE: &str = "slice";

/// As many workloads may change one by one, however few there are.
const FEW: usize = 1_024;

/// Everything that the sources said, newest word only, and the documents of the policy in force.
#[derive(Debug, Default)]
pub struct Registry {
    scopes: Vec<ManagedScope>,
    cgroups: BTreeMap<String, u64>,
    links: BTreeMap<u32, LinkFact>,
    link_names: HashMap<String, u32>,
    host_addresses: BTreeMap<IpAddr, usize>,
    declared: Declared,
    /// `None` where no Kubernetes API is asked: a pod's cgroup is one as any other then.
    pods: Option<Pods>,
    cluster: Cluster,
}

/// The policy's documents, by what they claim.
#[derive(Debug, Default)]
struct Declared {
    policy: Arc<PolicySet>,
    by_name: HashMap<String, usize>,
    by_cgroup: HashMap<String, usize>,
    by_interface: HashMap<String, usize>,
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

/// What a source's word may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Anything at all.
    pub everything: bool,
    /// Workloads, by name.
    pub workloads: BTreeSet<String>,
    /// Addresses that the host, another node or a service may have gained or lost, or whose tombstone is gone.
    pub host_addresses: BTreeSet<IpAddr>,
    /// Services, by name.
    pub services: BTreeSet<String>,
}

impl Touched {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.everything && self.workloads.is_empty() && self.host_addresses.is_empty() && self.services.is_empty()
    }

    /// Both.
    pub fn add(&mut self, other: Self) {
        self.everything |= other.everything;
        self.workloads.extend(other.workloads);
        self.host_addresses.extend(other.host_addresses);
        self.services.extend(other.services);
    }
}

impl Registry {
    /// A registry that has been told nothing yet.
    #[must_use]
    pub fn new(scopes: Vec<ManagedScope>) -> Self {
        Self { scopes, ..Self::default() }
    }

    /// Knows pods' cgroups from others: what is in one of them is that pod, or nobody.
    #[must_use]
    pub fn with_pods(self) -> Self {
        Self { pods: Some(Pods::default()), ..self }
    }

    /// Takes the documents of another policy.
    pub fn declare(&mut self, policy: &Arc<PolicySet>) {
        let documents = || policy.workloads.iter().enumerate();
        self.declared = Declared {
            policy: policy.clone(),
            by_name: documents().map(|(index, one)| (one.name.clone(), index)).collect(),
            by_cgroup: documents().filter_map(|(index, one)| Some((one.cgroup.clone()?, index))).collect(),
            by_interface: documents().filter_map(|(index, one)| Some((one.interface.clone()?, index))).collect(),
        };
    }

    /// Takes a source's word, and says what it may have changed.
    pub fn take(&mut self, change: Change) -> Touched {
        match change {
            Change::CgroupResync(all) => {
                let all = all.into_iter().map(|cgroup| (cgroup.path, cgroup.id)).collect();
                if !replace(&mut self.cgroups, all) {
                    return Touched::default();
                }
                self.find_pods();
                Touched::everything()
            }
            Change::CgroupAppeared(cgroup) => {
                let touched = self.touched_by_cgroup(&cgroup.path, true);
                let known = self.cgroups.insert(cgroup.path, cgroup.id) == Some(cgroup.id);
                if known { Touched::default() } else { touched }
            }
            Change::CgroupGone(path) => {
                if self.cgroups.remove(&path).is_some() {
                    self.touched_by_cgroup(&path, false)
                } else {
                    Touched::default()
                }
            }
            Change::LinkResync(all) => {
                let all: BTreeMap<u32, LinkFact> = all.into_iter().map(|link| (link.index, link)).collect();
                if self.links == all {
                    return Touched::default();
                }
                for index in self.links.keys().copied().collect::<Vec<_>>() {
                    self.forget_link(index);
                }
                for link in all.into_values() {
                    self.note_link(link);
                }
                Touched::everything()
            }
            Change::LinkChanged(link) => {
                if self.links.get(&link.index) == Some(&link) {
                    return Touched::default();
                }
                let mut touched = self.forget_link(link.index);
                touched.add(self.note_link(link));
                touched
            }
            Change::LinkGone(index) => self.forget_link(index),
            Change::Pods(told) => self.tell_pods(|pods| pods.tell(told)),
            Change::Namespaces(told) => self.tell_pods(|pods| pods.tell_namespaces(told)),
            Change::Nodes(told) => few(self.cluster.tell_nodes(told)),
            Change::Services(told) => few(self.cluster.tell_services(told)),
        }
    }

    /// The links that exist, by index.
    #[must_use]
    pub const fn links(&self) -> &BTreeMap<u32, LinkFact> {
        &self.links
    }

    /// Nodes and services of the cluster.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The numbers that named ports of pods have.
    #[must_use]
    pub fn port_numbers(&self) -> PortNumbers {
        self.pods.as_ref().map(Pods::port_numbers).unwrap_or_default()
    }

    /// The same, where it changed since this was last asked.
    pub fn take_new_port_numbers(&mut self) -> Option<PortNumbers> {
        let pods = self.pods.as_mut()?;
        pods.take_change_of_ports().then(|| pods.port_numbers())
    }

    /// Whether an address is the host's own.
    #[must_use]
    pub fn is_host_address(&self, address: &IpAddr) -> bool {
        self.host_addresses.contains_key(address)
    }

    /// Merges everything with the documents of the policy in force.
    #[must_use]
    pub fn view(&self) -> View {
        let declared = self.declared.policy.workloads.iter().map(|one| Cow::from(&one.name));
        let units = self.scopes.iter().flat_map(|scope| self.units_below(scope));
        let units = units.map(|path| Cow::from(format!("{CGROUP}{path}")));
        let links = self.links.values().map(|link| Cow::from(format!("{INTERFACE}{}", link.name)));
        let pods = self.pods.iter().flat_map(Pods::names).map(|name| Cow::from(&**name));
        let names: BTreeSet<Cow<'_, str>> = declared.chain(units).chain(links).chain(pods).collect();
        View {
            workloads: names.iter().filter_map(|name| self.workload(name)).collect(),
            host_addresses: self.host_addresses.keys().copied().collect(),
            scopes: self.scopes.iter().flat_map(|scope| self.scopes_below(scope)).collect(),
        }
    }

    /// One workload as it stands now, if it is one.
    #[must_use]
    pub fn workload(&self, name: &str) -> Option<Workload> {
        if let Some(index) = self.declared.by_name.get(name) {
            return Some(self.declared(&self.declared.policy.workloads[*index]));
        }
        if let Some(path) = name.strip_prefix(CGROUP) {
            return self.unit(path);
        }
        if name.starts_with(POD) {
            return self.pod(name);
        }
        let link = self.link(name.strip_prefix(INTERFACE)?)?;
        if self.declared.by_interface.contains_key(&link.name) { None } else { labelled_link(link) }
    }

    fn link(&self, name: &str) -> Option<&LinkFact> {
        self.links.get(self.link_names.get(name)?)
    }

    fn note_link(&mut self, link: LinkFact) -> Touched {
        let touched = self.touched_by_link(&link);
        for address in &link.host_addresses {
            *self.host_addresses.entry(*address).or_default() += 1;
        }
        self.link_names.insert(link.name.clone(), link.index);
        self.links.insert(link.index, link);
        touched
    }

    fn forget_link(&mut self, index: u32) -> Touched {
        let Some(link) = self.links.remove(&index) else { return Touched::default() };
        for address in &link.host_addresses {
            if let Some(count) = self.host_addresses.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    self.host_addresses.remove(address);
                }
            }
        }
        // Another link may have taken the name by now.
        if self.link_names.get(&link.name) == Some(&index) {
            self.link_names.remove(&link.name);
        }
        self.touched_by_link(&link)
    }

    fn touched_by_link(&self, link: &LinkFact) -> Touched {
        let declared = self.declared.by_interface.get(&link.name);
        let name = declared.map(|index| self.declared.policy.workloads[*index].name.clone());
        Touched {
            workloads: [name.unwrap_or_else(|| format!("{INTERFACE}{}", link.name))].into(),
            host_addresses: link.host_addresses.iter().copied().collect(),
            ..Touched::default()
        }
    }

    fn touched_by_cgroup(&mut self, path: &str, is_there: bool) -> Touched {
        let is_scope = self.scopes.iter().any(|scope| scope.path == path);
        if is_scope || (self.is_looked_into(path) && self.scope_of(path).is_some()) {
            return Touched::everything();
        }
        if let Some((pod, uid)) = self.pod_at(path)
            && let Some(pods) = &mut self.pods
        {
            let is_pods = pod == path;
            let name = match is_there {
                true if is_pods => pods.found(uid, path),
                false if is_pods => pods.lost(&uid, path),
                _ => None,
            };
            let names = name.map(|name| name.to_string()).into_iter().chain(self.declarer(path));
            return Touched { workloads: names.collect(), ..Touched::default() };
        }
        let name = self.declarer(path).or_else(|| self.scope_of(path).map(|_| format!("{CGROUP}{path}")));
        Touched { workloads: name.into_iter().collect(), ..Touched::default() }
    }

    /// The workload whose document claims the cgroup at `path`.
    fn declarer(&self, path: &str) -> Option<String> {
        let declared = self.declared.by_cgroup.get(path);
        declared.map(|index| self.declared.policy.workloads[*index].name.clone())
    }

    fn tell_pods(&mut self, tell: impl FnOnce(&mut Pods) -> BTreeSet<Arc<str>>) -> Touched {
        let Some(pods) = &mut self.pods else { return Touched::default() };
        let changed = tell(pods);
        if changed.len() > FEW.max(pods.len() / 4) {
            return Touched::everything();
        }
        let workloads = changed.iter().map(ToString::to_string).collect();
        Touched { workloads, ..Touched::default() }
    }

    /// Looks for pods among the cgroups that exist.
    fn find_pods(&mut self) {
        let Some(mut pods) = self.pods.take() else { return };
        pods.forget_places();
        self.pods = Some(Pods::default());
        for path in self.cgroups.keys() {
            if let Some((pod, uid)) = self.pod_at(path)
                && pod == path
            {
                pods.found(uid, path);
            }
        }
        self.pods = Some(pods);
    }

    /// The cgroup of a pod that the one at `path` is or is in, by a managed scope's word: elsewhere anyone may name a cgroup so.
    fn pod_at<'a>(&self, path: &'a str) -> Option<(&'a str, String)> {
        self.pods.as_ref()?;
        let (pod, uid) = pod_cgroup(path)?;
        self.scopes.iter().any(|scope| below(pod, &scope.path).is_some()).then_some((pod, uid))
    }

    /// A pod, unless a document claims its cgroup.
    fn pod(&self, name: &str) -> Option<Workload> {
        let pods = self.pods.as_ref()?;
        if pods.place(name).is_some_and(|path| self.declared.by_cgroup.contains_key(path)) {
            return None;
        }
        pods.workload(name, |path| self.cgroups.get(path).copied())
    }

    fn declared(&self, one: &DeclaredWorkload) -> Workload {
        let cgroup = one
            .cgroup
            .as_ref()
            .and_then(|path| self.cgroups.get(path).map(|id| CgroupRef { path: path.clone(), id: *id }));
        let link = one.interface.as_deref().and_then(|name| self.link(name));
        let mut labels = link.and_then(|link| link.alias.as_deref()).and_then(alias::labels).unwrap_or_default();
        labels.extend(one.labels.clone());
        let behind = link.map(|link| link.peer_addresses.as_slice()).unwrap_or_default();
        let addresses = if behind.is_empty() {
            one.addresses.clone()
        } else {
            let addresses: BTreeSet<IpAddr> = one.addresses.iter().chain(behind).copied().collect();
            addresses.into_iter().collect()
        };
        Workload {
            name: one.name.as_str().into(),
            source: SourceKind::File,
            labels: Arc::new(labels),
            cgroup,
            interface: link.map(|link| InterfaceRef { name: link.name.clone(), index: link.index }),
            addresses,
            local: one.cgroup.is_some() || one.interface.is_some(),
        }
    }

    /// The scope that makes a unit or slice of the cgroup at `path`: a unit's own cgroups belong to the unit, a slice is
    /// looked into, and a pod's cgroup is no unit.
    fn scope_of(&self, path: &str) -> Option<&ManagedScope> {
        let scope = self.scopes.iter().find(|scope| {
            below(path, &scope.path).is_some_and(|below| {
                let mut end = path.len() - below.len();
                let parents = below.split('/').map(|part| {
                    end += part.len() + 1;
                    &path[..end - 1]
                });
                parents.into_iter().take_while(|parent| parent.len() < path.len()).all(|it| self.is_looked_into(it))
            })
        })?;
        self.pod_at(path).is_none().then_some(scope)
    }

    /// Whether what is in the cgroup at `path` is not all one workload.
    fn is_looked_into(&self, path: &str) -> bool {
        let mut parts = path.rsplit('/');
        let (name, parent) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        self.pod_at(path).is_none() && (is_slice(name) || (self.pods.is_some() && is_class(name, parent)))
    }

    /// The unit or slice at `path`, unless a document claims it.
    fn unit(&self, path: &str) -> Option<Workload> {
        let id = *self.cgroups.get(path)?;
        self.scope_of(path)?;
        if self.declared.by_cgroup.contains_key(path) {
            return None;
        }
        let (parent, name) = path.rsplit_once('/')?;
        let slice = parent.rsplit('/').next().unwrap_or(parent);
        Some(Workload {
            name: format!("{CGROUP}{path}").into(),
            source: SourceKind::Cgroup,
            labels: Arc::new(unit_labels(name, slice)),
            cgroup: Some(CgroupRef { path: path.to_owned(), id }),
            interface: None,
            addresses: Arc::default(),
            local: true,
        })
    }

    fn units_below<'a>(&'a self, scope: &'a ManagedScope) -> impl Iterator<Item = &'a String> + use<'a> {
        let prefix = format!("{}/", scope.path);
        let below = self.cgroups.range(prefix.clone()..).map(|(path, _)| path);
        below.take_while(move |path| path.starts_with(&prefix)).filter(|path| self.scope_of(path).is_some())
    }

    fn scopes_below<'a>(&'a self, scope: &'a ManagedScope) -> impl Iterator<Item = (CgroupRef, bool)> + use<'a> {
        let slices = self.units_below(scope).filter(|path| self.is_looked_into(path));
        let paths = [&scope.path].into_iter().chain(slices);
        paths.filter_map(|path| {
            let id = *self.cgroups.get(path)?;
            Some((CgroupRef { path: path.clone(), id }, scope.denies))
        })
    }
}

/// What is more than a few is computed as a whole.
fn few(touched: Touched) -> Touched {
    if touched.host_addresses.len() + touched.services.len() > FEW { Touched::everything() } else { touched }
}

fn replace<K: PartialEq, V: PartialEq>(known: &mut BTreeMap<K, V>, all: BTreeMap<K, V>) -> bool {
    let changed = *known != all;
    *known = all;
    changed
}

/// What of `path` is below `scope`, if it is.
fn below<'a>(path: &'a str, scope: &str) -> Option<&'a str> {
    path.strip_prefix(scope)?.strip_prefix('/')
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
        name: format!("interface:{}", link.name).into(),
        source: SourceKind::Netlink,
        labels: Arc::new(labels),
        cgroup: None,
        interface: Some(InterfaceRef { name: link.name.clone(), index: link.index }),
        addresses: addresses.into_iter().collect(),
        local: true,
    })
}

#[cfg(test)]
mod tests;
