//! What the agent shows of itself over the admin socket: the shapes of every `--json`.

pub mod audit;
pub mod explain;
pub mod plan;
pub mod talk;

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::workload::{Labels, SourceKind};

/// `bulkhead status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// The agent's version.
    pub version: String,
    /// Its process ID.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether what was wanted is in the kernel: every program attached, the policy in force.
    pub enforcing: bool,
    /// The generation in force.
    pub generation: u32,
    /// When the policy in force was loaded, in seconds since the Unix epoch.
    pub policy_loaded_at: f64,
    /// Policy reloads that took force.
    pub reloads: u64,
    /// Policy reloads that were refused.
    pub refusals: u64,
    /// Problems of the refused policy that is waiting to be mended; empty when the newest one is in force.
    pub problems: Vec<String>,
    /// Objects of the Kubernetes API that are refused.
    #[serde(default)]
    pub objects: Vec<ObjectView>,
    /// What deserves attention: groups that select nobody, tables that are full, sources that are stale.
    pub warnings: Vec<String>,
    /// Where programs are attached.
    pub attachments: Vec<AttachmentView>,
    /// Workloads by source.
    pub workloads: BTreeMap<String, u64>,
    /// Security groups in force.
    pub groups: u64,
    /// Rules in force.
    pub rules: u64,
    /// Guardrails in force.
    #[serde(default)]
    pub guardrails: u64,
    /// What was found changed by somebody else and put back, since the agent started: entries, attachments and pins.
    #[serde(default)]
    pub repairs: u64,
    /// Entries and capacity of each map.
    pub maps: Vec<MapView>,
}

/// An object of the Kubernetes API that is not in force as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectView {
    /// `KIND/NAME` or `KIND/NAMESPACE/NAME`.
    pub object: String,
    /// What is in force in its place: `InForceInPart`, `MembersDenied`, `FormerVersionInForce` or `NotInForce`.
    pub standing: String,
    /// What is wrong, and how to mend it.
    pub problems: Vec<String>,
}

/// One attached program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachmentView {
    /// `cgroup_egress`, `connect4`, `xdp`, `tc_ingress`, ...
    pub program: String,
    /// Cgroup path or interface.
    pub target: String,
    /// `native`, `generic`, `tcx`, `clsact` where it matters; empty otherwise.
    pub mode: String,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MapView {
    /// Name, as in the metric's label.
    pub map: String,
    /// Entries in use.
    pub entries: u64,
    /// Entries that it can hold.
    pub capacity: u64,
}

/// A row of `bulkhead workloads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadView {
    /// Its name.
    pub name: String,
    /// Who told of it.
    pub source: SourceKind,
    /// Its labels.
    pub labels: Labels,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// Whether it is on this host.
    pub local: bool,
    /// Path of its cgroup below the cgroup root.
    pub cgroup: Option<String>,
    /// Its interface.
    pub interface: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The identity that the kernel knows it by.
    pub identity: u32,
}

/// `bulkhead groups`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupsView {
    /// Security groups, by name.
    pub groups: Vec<GroupView>,
    /// Guardrails, by name.
    pub guardrails: Vec<GuardrailView>,
}

/// A row of `bulkhead groups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// Its ID.
    pub id: u32,
    /// `enforce` or `audit`.
    pub mode: String,
    /// Names of the workloads in it.
    pub members: Vec<String>,
    /// Its rules, with what they did since the agent started.
    pub rules: Vec<RuleView>,
    /// Where it is defined, as `file:line:column`.
    pub origin: String,
}

/// A guardrail in `bulkhead groups`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuardrailView {
    /// Its name.
    pub name: String,
    /// Its deny entries, with what they did since the agent started.
    pub deny: Vec<RuleView>,
    /// Where it is defined, as `file:line:column`.
    pub origin: String,
}

/// One rule of a group, or one deny entry of a guardrail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleView {
    /// `ingress` or `egress`; `deny` for a deny entry.
    pub direction: String,
    /// Index within its direction, from 0.
    pub index: usize,
    /// Its description.
    pub description: Option<String>,
    /// Times that it decided a flow since the agent started.
    pub hits: u64,
    /// Where it is defined, as `file:line:column`.
    pub origin: String,
}

/// A line of `bulkhead flows`: one judgement of the kernel, with names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlowView {
    /// When the agent read it, in seconds since the Unix epoch.
    pub time: f64,
    /// `allow`, `deny` or `audit`.
    pub verdict: String,
    /// Why: a reason, as the metrics have it.
    pub reason: String,
    /// Where in the kernel.
    pub hook: String,
    /// `ingress` or `egress`: whose rules of the workload were consulted.
    pub direction: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp` or the protocol's number.
    pub protocol: String,
    /// Source address.
    pub source: IpAddr,
    /// Source port, where there is one.
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port, where there is one.
    pub destination_port: Option<u16>,
    /// ICMP or ICMPv6 type and code.
    #[serde(default)]
    pub icmp: Option<IcmpView>,
    /// The local workload that was judged.
    pub workload: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// Its groups.
    pub groups: Vec<String>,
    /// The workload at the other end.
    pub peer: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub peer_labels: Labels,
    /// Its groups.
    pub peer_groups: Vec<String>,
    /// The rule that decided.
    pub rule: Option<FlowRule>,
    /// Generation under which it was judged.
    pub generation: u32,
    /// Interface at the host's hooks: its name; at a cgroup's, `#` and its index in the packet's network namespace.
    #[serde(default)]
    pub interface: Option<String>,
    /// TCP flags of the packet that was judged: of a flow, its first.
    #[serde(default)]
    pub tcp_flags: Option<String>,
    /// Process that makes the call, or with a flow log the one that owns the sending socket.
    pub process: Option<u32>,
    /// Its name (`comm`), with a flow log.
    #[serde(default)]
    pub process_name: Option<String>,
    /// Of the line that tells of a flow's end: what was sent until then.
    #[serde(default)]
    pub end: Option<FlowEnd>,
}

impl FlowView {
    /// A flow of which nothing is known.
    #[must_use]
    pub const fn nothing() -> Self {
        let nowhere = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
        Self {
            time: 0.0,
            verdict: String::new(),
            reason: String::new(),
            hook: String::new(),
            direction: String::new(),
            protocol: String::new(),
            source: nowhere,
            source_port: None,
            destination: nowhere,
            destination_port: None,
            icmp: None,
            workload: None,
            labels: Labels::new(),
            groups: Vec::new(),
            peer: None,
            peer_labels: Labels::new(),
            peer_groups: Vec::new(),
            rule: None,
            generation: 0,
            interface: None,
            tcp_flags: None,
            process: None,
            process_name: None,
            end: None,
        }
    }
}

/// How a flow ended, and what was sent until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowEnd {
    /// `closed` (FIN), `reset` (RST), `idle` (beyond its time-out) or `evicted` (from a full table).
    pub how: String,
    /// Packets that its source sent.
    pub packets_sent: u64,
    /// Bytes of those, from the IP header on.
    pub bytes_sent: u64,
    /// Packets that its destination sent.
    pub packets_received: u64,
    /// Bytes of those.
    pub bytes_received: u64,
}

/// What an ICMP or ICMPv6 packet says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IcmpView {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Its code.
    pub code: u8,
}

/// The rule or deny entry behind a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FlowRule {
    /// The group whose rule it is, or the guardrail whose deny entry it is.
    pub group: String,
    /// `ingress` or `egress`; `deny` for a deny entry.
    pub direction: String,
    /// Index within its direction, from 0.
    pub index: usize,
    /// Its description.
    pub description: Option<String>,
}

impl FlowRule {
    /// The direction of a guardrail's deny entries.
    pub const DENY: &str = "deny";
}
