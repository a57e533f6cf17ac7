//! Pods.

mod port;

use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::source::PodFact;
use crate::source::kubernetes::address::address;
use crate::source::kubernetes::object::{Kind, Metadata};
use crate::workload::interned::Interned;
use port::{Container, with_ports};

/// All pods that have not finished.
#[derive(Debug)]
pub(super) struct Pods {
    /// Pods on this node are local.
    node_name: String,
    labels: Mutex<Interned>,
}

impl Pods {
    pub(super) fn new(node_name: String) -> Self {
        // A list is sorted by name, and who has the same labels has much the same name.
        Self { node_name, labels: Mutex::new(Interned::of_recent(4_096)) }
    }
}

/// A pod, as far as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Debug, Deserialize)]
struct PodIp {
    ip: Option<String>,
}

impl Kind for Pods {
    type Object = Pod;
    type Fact = PodFact;

    fn name(&self) -> &'static str {
        "pods"
    }

    fn path(&self) -> String {
        "/api/v1/pods".to_owned()
    }

    /// One that finishes leaves the selection, and the server says that it is deleted.
    fn selectors(&self) -> &'static [(&'static str, &'static str)] {
        &[("fieldSelector", "status.phase!=Succeeded,status.phase!=Failed")]
    }

    fn metadata(object: &Pod) -> &Metadata {
        &object.metadata
    }

    fn fact(&self, name: String, pod: Pod, doubts: &mut Vec<String>) -> Option<PodFact> {
        let (spec, status) = (pod.spec.unwrap_or_default(), pod.status.unwrap_or_default());
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let local = spec.node_name.is_some_and(|node| node == self.node_name);
        let addresses = if spec.host_network == Some(true) {
            // They are the node's.
            Vec::new()
        } else {
            let all = status.pod_ips.into_iter().flatten().filter_map(|it| it.ip);
            let mut addresses: Vec<_> = all.filter_map(|ip| address("podIP", &ip, doubts)).collect();
            if addresses.is_empty() {
                addresses
                    .extend(status.pod_ip.filter(|ip| !ip.is_empty()).and_then(|ip| address("podIP", &ip, doubts)));
            }
            addresses
        };
        if addresses.is_empty() && !local {
            return None;
        }
        let Metadata { uid, labels, annotations, .. } = pod.metadata;
        let annotations = annotations.unwrap_or_default();
        let uid = annotations.hash.filter(|_| annotations.mirror.is_some()).or(uid);
        if local && uid.as_deref().is_none_or(str::is_empty) {
            doubts.push("it has no UID".to_owned());
            return None;
        }
        let labels = with_ports(labels.unwrap_or_default(), (spec.containers, spec.init_containers), doubts);
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner).intern(labels);
        Some(PodFact { name, uid: uid.unwrap_or_default(), labels, addresses, local })
    }
}

#[cfg(test)]
mod tests;
