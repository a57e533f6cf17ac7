//! What the sources said, as it can be told again to another registry.

use super::Registry;
use super::pods::POD;
use crate::snapshot::Snapshot;
use crate::source::{CgroupFact, NodeFact};

impl Registry {
    /// Everything that the sources said. The policy, and what else an agent knows, is left at its default.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let cgroup = |(path, id): (&String, &u64)| CgroupFact { path: path.clone(), id: *id };
        let pods = self.pods.as_ref().map(|pods| {
            let names = pods.names().filter(|name| name.starts_with(POD));
            names.filter_map(|name| self.workload(name)).collect()
        });
        let node = |(name, addresses): (&String, _)| NodeFact { name: name.clone(), addresses };
        Snapshot {
            scopes: self.scopes.clone(),
            cgroups: self.cgroups.iter().map(cgroup).collect(),
            links: self.links.values().cloned().collect(),
            pods,
            nodes: self.cluster.nodes().map(node).collect(),
            services: self.cluster.services().cloned().collect(),
            ..Snapshot::default()
        }
    }
}
