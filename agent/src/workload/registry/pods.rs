//! Pods: who they are, by the Kubernetes API's word, and where they are, by the names that the kubelet gives to their cgroups.
//!
//! A pod is known once its namespace is: until then it has not all of its labels, and a group that should govern it might not
//! select it. Its cgroup is there before its first process and before it has an address, so neither waits for the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::replace;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use crate::source::{NamespaceFact, PodFact, Told};
use crate::workload::interned::Interned;
use crate::workload::port::{CountedPorts, PortNumbers};
use crate::workload::{CgroupRef, Labels, SourceKind, Workload};

/// Begins the name of a workload that a pod is; namespace, slash and name follow.
pub const POD: &str = "pod:";
/// The label that carries the name of a pod's namespace; with a dot and a key, a label of the namespace itself.
pub const NAMESPACE: &str = "namespace";
/// What the kubelet calls the cgroup above all pods, whatever its driver.
const KUBEPODS: &str = "kubepods";
/// Classes of service that have a cgroup below it.
const QOS: [&str; 2] = ["burstable", "besteffort"];

/// Every pod of the cluster that the API told of, and every pod's cgroup of this host.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// By the name of the workload that each is.
    pods: BTreeMap<Arc<str>, Pod>,
    namespaces: HashMap<String, Labels>,
    /// Names of local pods.
    by_uid: HashMap<Box<str>, Arc<str>>,
    /// Paths of pods' cgroups, whether or not the pod is known.
    places: HashMap<String, String>,
    interned: Interned,
    ports: CountedPorts,
}

#[derive(Debug, PartialEq, Eq)]
struct Pod {
    /// Of a local one: of others nobody asks.
    uid: Option<Box<str>>,
    /// Its own, with its namespace's where that is known.
    labels: Arc<Labels>,
    is_complete: bool,
    addresses: Arc<[IpAddr]>,
}

impl Pods {
    /// Takes word on pods, and returns the names of those that changed.
    pub(super) fn tell(&mut self, told: Told<PodFact>) -> BTreeSet<Arc<str>> {
        match told {
            Told::One(fact) => self.put(fact),
            Told::Gone(name) => self.forget(&format!("{POD}{name}")).into_iter().collect(),
            Told::All(facts) => {
                // Made in one piece, the tree has no gaps.
                let pods: BTreeMap<_, _> = facts.into_iter().map(|fact| self.read(fact)).collect();
                let by_uid = pods.iter().filter_map(|(name, pod)| Some((pod.uid.clone()?, name.clone()))).collect();
                let (before, held_before) = (replace(&mut self.pods, pods), replace(&mut self.by_uid, by_uid));
                self.pods.iter().for_each(|(name, pod)| self.ports.count(namespace_of(name), &pod.labels));
                before.iter().for_each(|(name, pod)| self.ports.discount(namespace_of(name), &pod.labels));
                let gone = before.keys().filter(|name| !self.pods.contains_key(*name));
                let differ = self.pods.iter().filter(|(name, pod)| before.get(*name) != Some(pod));
                let changed = gone.chain(differ.map(|(name, _)| name));
                changed
                    .chain(holders(&held_before, &self.by_uid))
                    .chain(holders(&self.by_uid, &held_before))
                    .cloned()
                    .collect()
            }
        }
    }

    /// Takes word on namespaces, and returns the names of pods in those that changed.
    pub(super) fn tell_namespaces(&mut self, told: Told<NamespaceFact>) -> BTreeSet<Arc<str>> {
        let changed: Vec<String> = match told {
            Told::One(fact) if self.namespaces.get(&fact.name) == Some(&fact.labels) => Vec::new(),
            Told::One(fact) => {
                self.namespaces.insert(fact.name.clone(), fact.labels);
                vec![fact.name]
            }
            Told::Gone(name) => self.namespaces.remove(&name).map(|_| name).into_iter().collect(),
            Told::All(facts) => {
                let all: HashMap<String, Labels> = facts.into_iter().map(|fact| (fact.name, fact.labels)).collect();
                let gone = self.namespaces.keys().filter(|name| !all.contains_key(*name));
                let differ = all.iter().filter(|(name, labels)| self.namespaces.get(*name) != Some(labels));
                let changed = gone.chain(differ.map(|(name, _)| name)).cloned().collect();
                self.namespaces = all;
                changed
            }
        };
        changed.iter().flat_map(|namespace| self.relabel(namespace)).collect()
    }

    /// Notes that a pod's cgroup is there, and returns the pod's name where it is known.
    pub(super) fn found(&mut self, uid: String, path: &str) -> Option<Arc<str>> {
        let name = self.by_uid.get(uid.as_str()).cloned();
        self.places.insert(uid, path.to_owned());
        name
    }

    /// Notes that a pod's cgroup is gone, and returns the pod's name where it is known.
    pub(super) fn lost(&mut self, uid: &str, path: &str) -> Option<Arc<str>> {
        if self.places.get(uid).is_some_and(|known| known == path) {
            self.places.remove(uid);
        }
        self.by_uid.get(uid).cloned()
    }

    /// Forgets where pods' cgroups are: all that exist are told next.
    pub(super) fn forget_places(&mut self) {
        self.places.clear();
    }

    /// Names of all pods that are known, as workloads.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pods.keys()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// A pod as a workload; `id_at` is the ID of the cgroup at a path.
    pub(super) fn workload(&self, name: &str, id_at: impl Fn(&str) -> Option<u64>) -> Option<Workload> {
        let (name, pod) = self.pods.get_key_value(name).filter(|(_, pod)| pod.is_complete)?;
        Some(Workload {
            name: name.clone(),
            source: SourceKind::Kubernetes,
            labels: pod.labels.clone(),
            cgroup: self.place(name).and_then(|path| Some(CgroupRef { path: path.clone(), id: id_at(path)? })),
            interface: None,
            addresses: pod.addresses.clone(),
            local: pod.uid.is_some(),
        })
    }

    /// Where a local pod's cgroup is.
    pub(super) fn place(&self, name: &str) -> Option<&String> {
        let uid = &**self.pods.get(name)?.uid.as_ref()?;
        self.places.get(uid).filter(|_| self.by_uid.get(uid).is_some_and(|holder| **holder == *name))
    }

    /// The numbers that named ports of pods have.
    pub(super) fn port_numbers(&self) -> PortNumbers {
        self.ports.numbers()
    }

    /// Whether those changed since this was last asked.
    pub(super) const fn take_change_of_ports(&mut self) -> bool {
        self.ports.take_change()
    }

    /// The pod that a fact tells of, and its name.
    fn read(&mut self, fact: PodFact) -> (Arc<str>, Pod) {
        let namespace = fact.name.split_once('/').map_or("", |(namespace, _)| namespace);
        let of_namespace = self.namespaces.get(namespace);
        let is_complete = of_namespace.is_some();
        let labels = of_namespace.map(|of| self.interned.intern(merged(&fact.labels, namespace, of)));
        let labels = labels.unwrap_or(fact.labels);
        let uid = fact.local.then(|| fact.uid.into_boxed_str());
        let addresses: BTreeSet<IpAddr> = fact.addresses.into_iter().collect();
        let pod = Pod { uid, labels, is_complete, addresses: addresses.into_iter().collect() };
        (format!("{POD}{}", fact.name).into(), pod)
    }

    fn put(&mut self, fact: PodFact) -> BTreeSet<Arc<str>> {
        let (name, pod) = self.read(fact);
        if self.pods.get(&name) == Some(&pod) {
            return BTreeSet::new();
        }
        // Another one may have had the name.
        self.forget(&name);
        // No two pods have one UID, but who says so is only told so.
        let former = pod.uid.clone().and_then(|uid| self.by_uid.insert(uid, name.clone()));
        self.ports.count(namespace_of(&name), &pod.labels);
        self.pods.insert(name.clone(), pod);
        former.into_iter().chain([name]).collect()
    }

    fn forget(&mut self, name: &str) -> Option<Arc<str>> {
        let (name, pod) = self.pods.remove_entry(name)?;
        self.ports.discount(namespace_of(&name), &pod.labels);
        if let Some(uid) = &pod.uid
            && self.by_uid.get(uid) == Some(&name)
        {
            self.by_uid.remove(uid);
        }
        Some(name)
    }

    /// Gives all pods of a namespace the labels that they have now.
    fn relabel(&mut self, namespace: &str) -> BTreeSet<Arc<str>> {
        let prefix = format!("{POD}{namespace}/");
        let of_namespace = self.namespaces.get(namespace);
        let mut changed = BTreeSet::new();
        let pods = self.pods.range_mut::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        for (name, pod) in pods.take_while(|(name, _)| name.starts_with(&prefix)) {
            let labels = of_namespace.map_or_else(|| own(&pod.labels), |of| merged(&pod.labels, namespace, of));
            let labels = self.interned.intern(labels);
            if pod.labels != labels || pod.is_complete != of_namespace.is_some() {
                (pod.labels, pod.is_complete) = (labels, of_namespace.is_some());
                changed.insert(name.clone());
            }
        }
        changed
    }
}

/// The namespace of the pod that a workload of this name is.
fn namespace_of(name: &str) -> &str {
    name.strip_prefix(POD).and_then(|pod| pod.split_once('/')).map_or("", |(namespace, _)| namespace)
}

/// Who is known by a UID here and not there.
fn holders<'a>(
    here: &'a HashMap<Box<str>, Arc<str>>,
    there: &'a HashMap<Box<str>, Arc<str>>,
) -> impl Iterator<Item = &'a Arc<str>> {
    here.iter().filter(|(uid, holder)| there.get(*uid) != Some(holder)).map(|(_, holder)| holder)
}

/// A pod's labels with its namespace's. Whoever may write a pod must not be able to say which namespace it is in: labels of its
/// own that read like the namespace's don't count.
fn merged(pods: &Labels, namespace: &str, of_namespace: &Labels) -> Labels {
    let mut labels = own(pods);
    labels.insert(NAMESPACE.to_owned(), namespace.to_owned());
    labels.extend(of_namespace.iter().map(|(key, value)| (format!("{NAMESPACE}.{key}"), value.clone())));
    labels
}

/// Those of a pod's labels that are not its namespace's.
fn own(labels: &Labels) -> Labels {
    let is_namespaces =
        |key: &str| key.strip_prefix(NAMESPACE).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    labels.iter().filter(|(key, _)| !is_namespaces(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The part of `path` that is the cgroup of a pod, and the UID that the kubelet named it by: the outermost such part, for what a
/// pod makes within itself is the pod's.
///
/// Of the kubelet's drivers, systemd makes `kubepods-burstable-podUID.slice` with `_` for `-` in the UID, and cgroupfs
/// `kubepods/burstable/podUID`; both leave the class out for guaranteed pods
/// (<https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/cm/cgroup_manager_linux.go>).
pub(super) fn pod_cgroup(path: &str) -> Option<(&str, String)> {
    let mut end = 0;
    let mut parent = "";
    for part in path.split('/') {
        let outer = &path[..end.max(1) - 1];
        end += part.len() + 1;
        let uid = of_systemd(part).or_else(|| part.strip_prefix("pod").filter(|_| is_above_pods(parent, outer)));
        let is_uid = |uid: &str| {
            !uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if let Some(uid) = uid.filter(|uid| is_uid(uid)) {
            return Some((&path[..end - 1], uid.replace('_', "-")));
        }
        parent = part;
    }
    None
}

/// Whether a cgroup of this name, below `parent`, holds pods and nothing else of the cgroupfs driver's: it is looked into, as a
/// slice is.
pub(super) fn is_class(name: &str, parent: &str) -> bool {
    QOS.contains(&name) && parent == KUBEPODS
}

fn of_systemd(part: &str) -> Option<&str> {
    let (above, uid) = part.strip_suffix(".slice")?.rsplit_once("-pod")?;
    above.split('-').any(|word| word == KUBEPODS).then_some(uid)
}

/// Whether `parent`, the last part of `outer`, is where cgroupfs has pods.
fn is_above_pods(parent: &str, outer: &str) -> bool {
    let above = outer.strip_suffix(parent).map(|above| above.trim_end_matches('/'));
    let grandparent = above.and_then(|above| above.rsplit('/').next()).unwrap_or_default();
    parent == KUBEPODS || is_class(parent, grandparent)
}

#[cfg(test)]
mod tests;
