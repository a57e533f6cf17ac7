//! What tells the agent of the world: files, cgroups, netlink and, where asked for, the Kubernetes API.
//!
//! Each source sends what it sees as [`Fact`]s. All are level-triggered: after an overflow, a restart or any doubt a source
//! sends a `Resync` with everything that exists, and what is not in it is gone.

pub mod cgroup;
pub mod file;
mod inotify;
pub mod kubernetes;
pub mod netlink;
#[cfg(test)]
mod netns;
pub mod policy_objects;
mod restart;
pub mod uplink;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::workload::Labels;

/// One observation. `seen` is when the kernel told of it, for the histogram of event to map.
#[derive(Clone, Debug)]
pub struct Fact {
    /// When it was seen.
    pub seen: Instant,
    /// What was seen.
    pub change: Change,
}

/// What a source saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All cgroups that exist below the cgroup root.
    CgroupResync(Vec<CgroupFact>),
    /// A cgroup appeared.
    CgroupAppeared(CgroupFact),
    /// A cgroup went (by its path).
    CgroupGone(String),
    /// All links that exist, with their addresses.
    LinkResync(Vec<LinkFact>),
    /// A link appeared, or its name, alias or addresses changed.
    LinkChanged(LinkFact),
    /// A link went (by its index).
    LinkGone(u32),
    /// Pods that run, or shall. One that finished is gone.
    Pods(Told<PodFact>),
    /// Namespaces of the cluster.
    Namespaces(Told<NamespaceFact>),
    /// Nodes of the cluster.
    Nodes(Told<NodeFact>),
    /// Services that have cluster addresses.
    Services(Told<ServiceFact>),
}

/// Word of the Kubernetes API on one kind of object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// All that exist.
    All(Vec<T>),
    /// One appeared or changed.
    One(T),
    /// One went (by its name).
    Gone(String),
}

/// A cgroup that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupFact {
    /// Path below the cgroup root, without slashes at the ends.
    pub path: String,
    /// The inode number of its directory, which is the kernel's cgroup ID.
    pub id: u64,
}

/// A link that exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkFact {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias (`ip link set NAME alias TEXT`).
    pub alias: Option<String>,
    /// The host's own addresses on it.
    pub host_addresses: Vec<IpAddr>,
    /// Addresses behind it: the peers of point-to-point addresses, and the targets of host routes (/32, /128) through it.
    pub peer_addresses: Vec<IpAddr>,
}

/// A pod that has not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFact {
    /// `NAMESPACE/NAME`, unique in the cluster at any time.
    pub name: String,
    /// What its cgroup is named by: its UID, or for a static pod the hash that the kubelet knows it by
    /// (annotation `kubernetes.io/config.hash` of its mirror).
    pub uid: String,
    /// Its own labels, whatever they say, but for those of named ports: `port.PROTOCOL.NAME` is what its containers say. Shared by all that have the same: a list has a hundred thousand pods.
    pub labels: Arc<Labels>,
    /// Its own addresses (all of `podIPs`); none yet, or none ever with the node's network.
    pub addresses: Vec<IpAddr>,
    /// Whether it is on this host.
    pub local: bool,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFact {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFact {
    /// Its name.
    pub name: String,
    /// Its addresses, of every type that is an IP address.
    pub addresses: Vec<IpAddr>,
}

/// A service with cluster addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFact {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Its cluster addresses, external addresses and those of its load balancer: what clients in the cluster may send to.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service, and who stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The IP protocol number: TCP, UDP or SCTP.
    pub protocol: u8,
    /// The port that clients send to.
    pub port: u16,
    /// Addresses and ports of its ready back ends.
    pub backends: Vec<SocketAddr>,
}
