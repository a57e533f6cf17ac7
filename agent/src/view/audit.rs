//! The shape of `bulkhead audit --json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::IcmpView;
use super::talk::RuleAge;

/// `bulkhead audit`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuditView {
    /// Since when flows were counted, in seconds since the Unix epoch.
    pub since: f64,
    /// Until when.
    pub until: f64,
    /// What would have been denied, or with `--denied` was; the most frequent first.
    pub findings: Vec<Finding>,
    /// Rules that decided something, or with `--unused` those that did not; the least used first.
    pub rules: Vec<RuleAge>,
    /// Kinds of flows that were forgotten for want of room.
    pub forgotten: u64,
}

/// Flows of one kind between two groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `audit` or `deny`.
    pub verdict: String,
    /// Why: a reason, as the metrics have it.
    pub reason: String,
    /// Whose rules did not allow it: `ingress` of the receiver, `egress` of the sender.
    pub direction: String,
    /// The sender's groups, or who it is where it is in none.
    pub from: String,
    /// The receiver's.
    pub to: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp` or the protocol's number.
    pub protocol: String,
    /// Destination port, where there is one.
    pub port: Option<u16>,
    /// ICMP or ICMPv6 type and code.
    pub icmp: Option<IcmpView>,
    /// Flows.
    pub count: u64,
    /// Workloads that were judged, the first ten by name.
    pub workloads: Vec<String>,
    /// Workloads or addresses at the other end, the first ten.
    pub peers: Vec<String>,
    /// When the first was seen, in seconds since the Unix epoch.
    pub first: f64,
    /// When the last was.
    pub last: f64,
    /// Whether the policy in force would still say so; `None` where it can't be asked.
    pub stands: Option<bool>,
    /// What to do to have it allowed, a sentence each.
    pub cure: Vec<String>,
    /// The rules that would allow it, as YAML.
    pub yaml: Option<String>,
}
