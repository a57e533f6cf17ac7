//! The shape of Kubernetes' NetworkPolicy, as far as it says anything to a policy.
//!
//! Source: Kubernetes' API reference, `networking.k8s.io/v1`. What the API server itself writes into an object (`uid`, `managedFields`,
//! `status`) may be there, as in what `kubectl get` prints, and is passed over.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Field, LabelSelector, NameOrNumber, Texts};

/// The one version that is understood.
pub const API_VERSION: &str = "networking.k8s.io/v1";
/// The kind.
pub const KIND: &str = "NetworkPolicy";

/// The annotation by which a policy is only audited.
pub const MODE: &str = "bulkhead.dev/mode";

/// The whole object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicy {
    /// `networking.k8s.io/v1`.
    pub api_version: Field<String>,
    /// `NetworkPolicy`.
    pub kind: Field<String>,
    /// Name and namespace.
    pub metadata: Field<ObjectMeta>,
    /// What it says.
    pub spec: Field<NetworkPolicySpec>,
    status: IgnoredAny,
}

/// `metadata` of an object that an API server may have written to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ObjectMeta {
    /// Unique in its namespace.
    pub name: Field<String>,
    /// Absent: `default`.
    pub namespace: Field<String>,
    /// For people and tools.
    pub labels: Field<Texts>,
    /// For people and tools; `bulkhead.dev/mode` is Bulkhead's.
    pub annotations: Field<Texts>,
    generate_name: IgnoredAny,
    self_link: IgnoredAny,
    uid: IgnoredAny,
    resource_version: IgnoredAny,
    generation: IgnoredAny,
    creation_timestamp: IgnoredAny,
    deletion_timestamp: IgnoredAny,
    deletion_grace_period_seconds: IgnoredAny,
    owner_references: IgnoredAny,
    finalizers: IgnoredAny,
    managed_fields: IgnoredAny,
}

/// `spec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkPolicySpec {
    /// The pods of the namespace that it is about.
    pub pod_selector: Field<LabelSelector>,
    /// What may come in.
    pub ingress: Field<Vec<Field<IngressRule>>>,
    /// What may go out.
    pub egress: Field<Vec<Field<EgressRule>>>,
    /// Which of the two it says anything of. Absent or empty: ingress, and egress where it has rules for that.
    pub policy_types: Field<Vec<Field<PolicyType>>>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PolicyType {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

/// What may come in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IngressRule {
    /// Absent or empty: from anyone.
    pub from: Field<Vec<Field<Peer>>>,
    /// Absent or empty: every protocol and port.
    pub ports: Field<Vec<Field<Port>>>,
}

/// What may go out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EgressRule {
    /// Absent or empty: to anyone.
    pub to: Field<Vec<Field<Peer>>>,
    /// Absent or empty: every protocol and port.
    pub ports: Field<Vec<Field<Port>>>,
}

/// The other side: an `ipBlock`, or one or both of the selectors.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Peer {
    /// Pods by their labels; without `namespaceSelector` those of the policy's namespace.
    pub pod_selector: Field<LabelSelector>,
    /// Namespaces by their labels; without `podSelector` all their pods.
    pub namespace_selector: Field<LabelSelector>,
    /// Addresses.
    pub ip_block: Field<IpBlock>,
}

/// Addresses of a prefix, but for some.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IpBlock {
    /// The prefix.
    pub cidr: Field<String>,
    /// Prefixes within it that are not meant.
    pub except: Field<Vec<Field<String>>>,
}

/// One entry of `ports`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Port {
    /// Absent: TCP.
    pub protocol: Field<Protocol>,
    /// A port by its number, or by the name that the pod's container gives it; absent: all.
    pub port: Field<NameOrNumber>,
    /// Last port of a range that begins with `port`.
    pub end_port: Field<i64>,
}

/// A protocol. Numbers: IANA's registry of protocol numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}
