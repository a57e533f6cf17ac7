//! The shape of `GET /v1/talks`, and of the file in which an agent keeps it: who talked to whom, in sum.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::IcmpView;
use crate::workload::Labels;

/// Who talked to whom, since when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TalksView {
    /// When the count began, in seconds since the Unix epoch.
    pub since: f64,
    /// When it was taken.
    pub until: f64,
    /// What was seen.
    pub talks: Vec<TalkView>,
    /// Talks that were forgotten for want of room, those unseen for longest first.
    pub forgotten: u64,
    /// Every rule and deny entry in force, and when it decided last.
    pub rules: Vec<RuleAge>,
}

/// All flows of one kind between two ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TalkView {
    /// `allow`, `deny` or `audit`.
    pub verdict: String,
    /// Why: a reason, as the metrics have it.
    pub reason: String,
    /// `ingress` or `egress`: whose rules of the workload were consulted.
    pub direction: String,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, `sctp` or the protocol's number.
    pub protocol: String,
    /// Destination port, where there is one.
    pub port: Option<u16>,
    /// ICMP or ICMPv6 type and code.
    pub icmp: Option<IcmpView>,
    /// The local workload that was judged.
    pub workload: Option<String>,
    /// Its labels, as seen last.
    pub labels: Labels,
    /// Its groups, as seen last.
    pub groups: Vec<String>,
    /// The workload at the other end.
    pub peer: Option<String>,
    /// Its labels, as seen last.
    pub peer_labels: Labels,
    /// Its groups, as seen last.
    pub peer_groups: Vec<String>,
    /// The other end's address, where it is no known workload.
    pub address: Option<IpAddr>,
    /// Flows that were seen.
    pub count: u64,
    /// When the first was, in seconds since the Unix epoch.
    pub first: f64,
    /// When the last was.
    pub last: f64,
}

/// How long ago a rule or deny entry decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleAge {
    /// The group or guardrail.
    pub group: String,
    /// `ingress` or `egress`; `deny` for a deny entry.
    pub direction: String,
    /// Index within its direction, from 0.
    pub index: usize,
    /// Its description.
    pub description: Option<String>,
    /// Stands for what it says: where that changes, the count begins anew.
    pub meaning: u64,
    /// Since when it is watched, in seconds since the Unix epoch.
    pub since: f64,
    /// How often it decided since then.
    pub hits: u64,
    /// When it did last, to a few seconds; `None` for never.
    pub last: Option<f64>,
}
