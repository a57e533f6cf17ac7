//! Workloads: what sends and receives packets and carries labels.

pub mod alias;
pub mod cluster;
pub mod identity;
pub mod interned;
pub mod port;
pub mod registry;
pub mod selector;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::model::Origin;

pub use selector::{Requirement, Selector};

/// Labels, by key.
pub type Labels = BTreeMap<String, String>;

/// A workload that a `Workload` document declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredWorkload {
    /// Its name, unique in the set.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// Path of its cgroup below the cgroup root, without slashes at the ends: local.
    pub cgroup: Option<String>,
    /// The host's end of its link: local.
    pub interface: Option<String>,
    /// Its addresses, sorted. Without cgroup and interface it is a remote workload.
    pub addresses: Arc<[IpAddr]>,
    /// Where the document stands.
    pub origin: Origin,
}

/// Who told of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A `Workload` document.
    File,
    /// A cgroup below a managed scope.
    Cgroup,
    /// A link with labels in its alias.
    Netlink,
    /// A pod.
    Kubernetes,
}

impl SourceKind {
    /// Every source, for metrics that must exist from the start.
    pub const ALL: [Self; 4] = [Self::File, Self::Cgroup, Self::Netlink, Self::Kubernetes];

    /// The name in metrics and tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Cgroup => "cgroup",
            Self::Netlink => "netlink",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// A workload as it stands now: what all sources together know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Unique on the host: a document's name, `cgroup:PATH`, `interface:NAME` or `pod:NAMESPACE/NAME`. Shared by all who keep it.
    pub name: Arc<str>,
    /// Who told of it first.
    pub source: SourceKind,
    /// Labels of all sources; a document's win over discovered ones. Shared by all that have the same.
    pub labels: Arc<Labels>,
    /// Its cgroup, where it is local and the cgroup exists.
    pub cgroup: Option<CgroupRef>,
    /// Its link, where it is local and the link exists.
    pub interface: Option<InterfaceRef>,
    /// Its addresses, sorted; a document's own where it has no others, for there may be a million.
    pub addresses: Arc<[IpAddr]>,
    /// Whether it is on this host: it has a cgroup or an interface, existing or declared.
    pub local: bool,
}

/// A cgroup that exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CgroupRef {
    /// Path below the cgroup root, without slashes at the ends.
    pub path: String,
    /// The kernel's cgroup ID: the inode number of its directory.
    pub id: u64,
}

/// A link that exists, in the agent's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InterfaceRef {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}
