//! Pods as the kubelet and the API have them: the object, and the cgroup that is named by its UID.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::lab::{Version, Workload};

/// The node that the agent under test is on.
pub const NODE: &str = "node-1";

/// How the kubelet makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Slices, by systemd.
    Systemd,
    /// Directories.
    Cgroupfs,
}

/// The UID of a pod that is one by this name.
#[must_use]
pub fn uid(name: &str) -> String {
    let sum = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
    format!("{:08x}-0000-4000-8000-{:012x}", sum & 0xffff_ffff, sum >> 16 & 0xffff_ffff_ffff)
}

/// The cgroup of a container of the pod with this UID, below the root.
#[must_use]
pub fn cgroup(driver: Driver, uid: &str) -> String {
    match driver {
        Driver::Systemd => {
            let uid = uid.replace('-', "_");
            format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-0a.scope")
        }
        Driver::Cgroupfs => format!("kubepods/besteffort/pod{uid}/0a"),
    }
}

/// The object of a pod on `node`.
#[must_use]
pub fn object(namespace: &str, name: &str, uid: &str, node: &str, labels: Value, addresses: &[IpAddr]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": uid, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example"}]},
        "status": {"phase": "Running", "podIP": addresses.first().map(|first| first["ip"].clone()), "podIPs": addresses},
    })
}

/// The addresses of a workload of the lab.
#[must_use]
pub fn addresses(workload: &Workload) -> [IpAddr; 2] {
    Version::BOTH.map(|version| workload.address(version))
}
