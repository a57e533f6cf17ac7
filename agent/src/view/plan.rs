//! The shapes of `bulkhead plan --json` and of `GET /v1/connections`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `bulkhead plan`: what would change on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// Whether anything would: the exit code says the same.
    pub changes: bool,
    /// The generation of the policy in force that this was held against.
    pub generation: Option<u32>,
    /// Workloads that would be in other groups, come to be or be no more.
    pub workloads: Vec<WorkloadChange>,
    /// Who would be allowed or denied what, by groups.
    pub flows: Vec<FlowChange>,
    /// Established flows that would be cut at their next packet.
    pub cut: Vec<CutFlow>,
    /// What this does not tell, for there is too much of it.
    pub omitted: Vec<String>,
}

/// A workload whose groups would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadChange {
    /// Its name.
    pub workload: String,
    /// `governed`, `ungoverned`, `other_groups`, `new` or `gone`.
    pub becomes: String,
    /// Names of its groups now.
    pub before: Vec<String>,
    /// Names of its groups then.
    pub after: Vec<String>,
}

/// A kind of flow with another verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowChange {
    /// Who sends: names of groups, or the one workload, host or address that it is about.
    pub from: String,
    /// Who receives, likewise.
    pub to: String,
    /// Ports: `tcp/80`, `tcp/8000-8099`, `icmp/8/0`, `47`, `other protocols`; a protocol's name alone is all of it, and `all` is everything.
    pub ports: Vec<String>,
    /// `allow`, `deny` or `audit`, now.
    pub before: String,
    /// The same, then.
    pub after: String,
    /// The rule or deny entry behind that, or the reason.
    pub by: String,
    /// A workload or address that is one of the senders, for `bulkhead explain`.
    pub example_from: String,
    /// One of the receivers.
    pub example_to: String,
}

/// A flow that would be cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CutFlow {
    /// The flow.
    pub flow: ConnectionView,
    /// The workload that opened it, where it is known.
    pub from: Option<String>,
    /// The workload that was addressed.
    pub to: Option<String>,
    /// Why it would be denied: a reason, as the metrics have it.
    pub reason: String,
}

/// Flows that are established now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionsView {
    /// The flows.
    pub connections: Vec<ConnectionView>,
    /// How many there are beside those.
    pub omitted: u64,
}

/// An established flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionView {
    /// IP protocol number.
    pub protocol: u8,
    /// Who opened it.
    pub source: IpAddr,
    /// From which port; 0 where the protocol has none.
    pub source_port: u16,
    /// Who was addressed.
    pub destination: IpAddr,
    /// At which port; for ICMP type (high byte) and code.
    pub destination_port: u16,
    /// Cgroup of the one who opened it, where its side was judged on this host; 0 for one without.
    pub source_cgroup: Option<u64>,
    /// Cgroup of the other, likewise.
    pub destination_cgroup: Option<u64>,
}
