//! Pods: who they are, by the Kubernetes API's word, and where they are, by the names that the kubelet gives to their cgroups.
//!
//! A pod is known once its namespace is: until then it has not all of its labels, and a group that should govern it might not
//! select it. Its cgroup is there before its first process and before it has an address, so neither waits for the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::source::{NamespaceFact, PodFact, Told};
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
    pods: BTreeMap<String, Pod>,
    namespaces: HashMap<String, Labels>,
    /// Names of local pods.
    by_uid: HashMap<String, String>,
    /// Paths of pods' cgroups, whether or not the pod is known.
    places: HashMap<String, String>,
    interned: Interned,
}

#[derive(Debug, PartialEq, Eq)]
struct Pod {
    uid: String,
    local: bool,
    own: Arc<Labels>,
    /// Own and its namespace's; `None` while that is not known.
    labels: Option<Arc<Labels>>,
    addresses: Arc<[IpAddr]>,
}

impl Pods {
    /// Takes word on pods, and returns the names of those that changed.
    pub(super) fn tell(&mut self, told: Told<PodFact>) -> BTreeSet<String> {
        match told {
            Told::One(fact) => self.put(fact),
            Told::Gone(name) => self.forget(&name).into_iter().collect(),
            Told::All(facts) => {
                let mut changed = BTreeSet::new();
                let named: HashSet<&str> = facts.iter().map(|fact| fact.name.as_str()).collect();
                let gone: Vec<String> =
                    self.pods.keys().filter(|name| !named.contains(name.as_str())).cloned().collect();
                changed.extend(gone.iter().filter_map(|name| self.forget(name)));
                changed.extend(facts.into_iter().flat_map(|fact| self.put(fact)));
                changed
            }
        }
    }

    /// Takes word on namespaces, and returns the names of pods in those that changed.
    pub(super) fn tell_namespaces(&mut self, told: Told<NamespaceFact>) -> BTreeSet<String> {
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
    pub(super) fn found(&mut self, uid: String, path: &str) -> Option<String> {
        let name = self.by_uid.get(&uid).cloned();
        self.places.insert(uid, path.to_owned());
        name
    }

    /// Notes that a pod's cgroup is gone, and returns the pod's name where it is known.
    pub(super) fn lost(&mut self, uid: &str, path: &str) -> Option<String> {
        if self.places.get(uid).is_some_and(|known| known == path) {
            self.places.remove(uid);
        }
        self.by_uid.get(uid).cloned()
    }

    /// Forgets where pods' cgroups are: all that exist are told next.
    pub(super) fn forget_places(&mut self) {
        self.places.clear();
    }

    /// Names of all pods that are known.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.pods.keys()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pods.len()
    }

    /// A pod as a workload; `id_at` is the ID of the cgroup at a path.
    pub(super) fn workload(&self, name: &str, id_at: impl Fn(&str) -> Option<u64>) -> Option<Workload> {
        let pod = self.pods.get(name)?;
        let place = self.place(name);
        Some(Workload {
            name: format!("{POD}{name}"),
            source: SourceKind::Kubernetes,
            labels: pod.labels.clone()?,
            cgroup: place.and_then(|path| Some(CgroupRef { path: path.clone(), id: id_at(path)? })),
            interface: None,
            addresses: pod.addresses.clone(),
            local: pod.local,
        })
    }

    /// Where a local pod's cgroup is.
    pub(super) fn place(&self, name: &str) -> Option<&String> {
        let uid = &self.pods.get(name)?.uid;
        self.places.get(uid).filter(|_| self.by_uid.get(uid).is_some_and(|holder| holder == name))
    }

    fn put(&mut self, fact: PodFact) -> BTreeSet<String> {
        let own = self.interned.intern(fact.labels);
        let namespace = fact.name.split_once('/').map_or("", |(namespace, _)| namespace);
        let labels = self.namespaces.get(namespace).map(|of| merged(&own, namespace, of));
        let labels = labels.map(|labels| self.interned.intern(labels));
        let addresses: BTreeSet<IpAddr> = fact.addresses.into_iter().collect();
        let pod = Pod { uid: fact.uid, local: fact.local, own, labels, addresses: addresses.into_iter().collect() };
        if self.pods.get(&fact.name) == Some(&pod) {
            return BTreeSet::new();
        }
        // Another one may have had the name.
        self.forget(&fact.name);
        // No two pods have one UID, but who says so is only told so.
        let former = if pod.local { self.by_uid.insert(pod.uid.clone(), fact.name.clone()) } else { None };
        self.pods.insert(fact.name.clone(), pod);
        former.into_iter().chain([fact.name]).collect()
    }

    fn forget(&mut self, name: &str) -> Option<String> {
        let (name, pod) = self.pods.remove_entry(name)?;
        if self.by_uid.get(&pod.uid) == Some(&name) {
            self.by_uid.remove(&pod.uid);
        }
        Some(name)
    }

    /// Gives all pods of a namespace the labels that they have now.
    fn relabel(&mut self, namespace: &str) -> BTreeSet<String> {
        let prefix = format!("{namespace}/");
        let of_namespace = self.namespaces.get(namespace);
        let mut changed = BTreeSet::new();
        for (name, pod) in self.pods.range_mut(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix)) {
            let labels = of_namespace.map(|of| self.interned.intern(merged(&pod.own, namespace, of)));
            if pod.labels != labels {
                pod.labels = labels;
                changed.insert(name.clone());
            }
        }
        changed
    }
}

/// A pod's labels with its namespace's. Whoever may write a pod must not be able to say which namespace it is in: labels of its
/// own that read like the namespace's don't count.
fn merged(own: &Labels, namespace: &str, of_namespace: &Labels) -> Labels {
    let is_namespaces =
        |key: &str| key.strip_prefix(NAMESPACE).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let mut labels: Labels =
        own.iter().filter(|(key, _)| !is_namespaces(key)).map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.insert(NAMESPACE.to_owned(), namespace.to_owned());
    labels.extend(of_namespace.iter().map(|(key, value)| (format!("{NAMESPACE}.{key}"), value.clone())));
    labels
}

/// Sets of labels, each held once: of a hundred thousand pods most have the same as many others.
#[derive(Debug, Default)]
struct Interned {
    sets: HashSet<Arc<Labels>>,
    /// How many there may be before those that nobody has any more are let go.
    enough: usize,
}

impl Interned {
    fn intern(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(known) = self.sets.get(&labels) {
            return known.clone();
        }
        if self.sets.len() >= self.enough {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.enough = (2 * self.sets.len()).max(1_024);
        }
        let set = Arc::new(labels);
        self.sets.insert(set.clone());
        set
    }
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
