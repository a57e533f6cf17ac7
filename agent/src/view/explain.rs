//! The shape of `bulkhead explain --json`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `bulkhead explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplainView {
    /// `allow`, `deny` or `audit`: of several answers the strictest.
    pub verdict: String,
    /// Whether there are answers with other verdicts.
    pub mixed: bool,
    /// How that came about: the steps of the first answer with this verdict.
    pub steps: Vec<StepView>,
    /// An answer for each pair of ends that were meant, and for each IP version that both have.
    pub answers: Vec<AnswerView>,
    /// The generation of the policy that was asked; `None` without an agent.
    pub generation: Option<u32>,
}

/// What becomes of one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerView {
    /// `allow`, `deny` or `audit`.
    pub verdict: String,
    /// The sender.
    pub from: EndView,
    /// The receiver.
    pub to: EndView,
    /// What it is for: `tcp/5432`, `icmp/8/0`, `47`.
    pub port: String,
    /// What each side says that is judged by this policy.
    pub sides: Vec<SideView>,
    /// How that comes about.
    pub steps: Vec<StepView>,
    /// What would have to change for the other verdict.
    pub change: ChangeView,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndView {
    /// The workload; `None` for an end that is none.
    pub workload: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// Who it is, as a sentence.
    pub text: String,
}

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SideView {
    /// `egress`: the sender's rules; `ingress`: the receiver's.
    pub direction: String,
    /// `allow`, `deny` or `audit`.
    pub verdict: String,
    /// Why: a reason, as the metrics have it.
    pub reason: String,
    /// The rule or deny entry that decided, as `GROUP/DIRECTION/INDEX` or `GUARDRAIL/deny/INDEX`.
    pub rule: Option<String>,
}

/// One step to a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// `end`, `assumption`, `group`, `guardrail`, `rule`, `mode` or `verdict`.
    pub kind: String,
    /// `egress` or `ingress`: which side it is about; `None` for both.
    pub side: Option<String>,
    /// What it says.
    pub text: String,
    /// The group or guardrail that it is about.
    pub name: Option<String>,
    /// Index of the rule or deny entry, from 0.
    pub index: Option<usize>,
    /// Of a rule or deny entry: whether it has this flow.
    pub matches: Option<bool>,
    /// Where that stands, as `file:line:column`.
    pub origin: Option<String>,
}

/// What would have to change for the other verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    /// The verdict that would come of it.
    pub verdict: String,
    /// What to do, a sentence each.
    pub what: Vec<String>,
    /// Rules to add, as YAML.
    pub yaml: Option<String>,
    /// Whether the decision was asked again with the change made, and came to that verdict. `false`: no change of policy is known
    /// that would.
    pub tried: bool,
}
