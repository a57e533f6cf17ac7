//! What an agent knows at one moment, as data that can leave it: enough for another process to come to the same decisions.
//!
//! `GET /v1/snapshot` is one. It carries what the sources said rather than what became of it, so that whoever holds it can ask what
//! would become of it under another policy, with the agent's own registry.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::ManagedScope;
use crate::config::failsafe::{Failsafe, FailsafePort};
use crate::policy::model::PolicySet;
use crate::source::{CgroupFact, Change, LinkFact, NodeFact, ServiceFact, Told};
use crate::workload::cluster::Cluster;
use crate::workload::registry::{Registry, View};
use crate::workload::{CgroupRef, Workload};

/// What an agent knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The generation in force; `None` where no agent runs.
    pub generation: Option<u32>,
    /// The policy in force.
    pub policy: PolicySet,
    /// Parts of the cgroup tree whose units are workloads.
    pub scopes: Vec<ManagedScope>,
    /// Cgroups that exist.
    pub cgroups: Vec<CgroupFact>,
    /// Links that exist.
    pub links: Vec<LinkFact>,
    /// Pods, where a Kubernetes API tells of them.
    pub pods: Option<Vec<Workload>>,
    /// Nodes of the cluster.
    pub nodes: Vec<NodeFact>,
    /// Its services.
    pub services: Vec<ServiceFact>,
    /// Failsafe ports, as `--failsafe` has them.
    pub failsafe: Vec<String>,
    /// Where the cgroup tree is mounted for the agent; `None` where no agent runs.
    pub cgroup_root: Option<PathBuf>,
}

/// Who is there, under one policy.
#[derive(Clone, Debug)]
pub struct Population {
    /// Every workload, by name.
    pub workloads: Vec<Workload>,
    /// The host's own addresses.
    pub host_addresses: BTreeSet<IpAddr>,
    /// Managed scopes that exist.
    pub scopes: Vec<(CgroupRef, bool)>,
    /// Nodes and services.
    pub cluster: Cluster,
}

impl Snapshot {
    /// Without an agent: a policy, and the workloads that it declares.
    #[must_use]
    pub fn offline(policy: PolicySet) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Who is there under the snapshot's own policy.
    #[must_use]
    pub fn population(&self) -> Population {
        self.population_under(&self.policy)
    }

    /// Who would be there under another one, whose documents may declare other workloads.
    #[must_use]
    pub fn population_under(&self, policy: &PolicySet) -> Population {
        let mut registry = Registry::new(self.scopes.clone());
        if self.pods.is_some() {
            registry = registry.with_pods();
        }
        registry.declare(&Arc::new(policy.clone()));
        registry.take(Change::CgroupResync(self.cgroups.clone()));
        registry.take(Change::LinkResync(self.links.clone()));
        let View { mut workloads, host_addresses, scopes } = registry.view();
        let claimed: BTreeSet<&str> =
            policy.workloads.iter().filter_map(|declared| declared.cgroup.as_deref()).collect();
        let is_claimed =
            |pod: &&Workload| pod.cgroup.as_ref().is_some_and(|cgroup| claimed.contains(cgroup.path.as_str()));
        workloads.extend(self.pods.iter().flatten().filter(|pod| !is_claimed(pod)).cloned());
        workloads.sort_by(|a, b| a.name.cmp(&b.name));
        let mut cluster = Cluster::default();
        cluster.tell_nodes(Told::All(self.nodes.clone()));
        cluster.tell_services(Told::All(self.services.clone()));
        Population { workloads, host_addresses, scopes, cluster }
    }

    /// The failsafe ports.
    #[must_use]
    pub fn failsafe_ports(&self) -> Vec<FailsafePort> {
        let port = |text: &String| match text.parse() {
            Ok(Failsafe::Port(port)) => Some(port),
            _ => None,
        };
        self.failsafe.iter().filter_map(port).collect()
    }
}
