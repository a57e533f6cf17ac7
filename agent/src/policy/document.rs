//! The shapes of policy documents, as they stand in YAML. What they mean is decided in [`super::validate`].

pub mod crd;
mod decode;
mod field;
pub mod network_policy;
pub mod schema;

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

pub(super) use decode::{decode, shorten};
pub use field::{Field, Texts};

/// The one version of the policy language so far.
pub const API_VERSION: &str = "bulkhead.dev/v1alpha1";

/// The outer shape of every kind.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default, bound(deserialize = "S: Deserialize<'de>"))]
#[schemars(extend("required" = ["apiVersion", "kind", "metadata", "spec"]))]
pub struct Document<S> {
    /// `bulkhead.dev/v1alpha1`.
    pub api_version: Field<String>,
    /// What the document declares.
    pub kind: Field<String>,
    /// Its name, and labels.
    pub metadata: Field<Metadata>,
    /// What it says.
    pub spec: Field<S>,
}

impl<S> Default for Document<S> {
    fn default() -> Self {
        Self { api_version: Field::Absent, kind: Field::Absent, metadata: Field::Absent, spec: Field::Absent }
    }
}

/// `metadata`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["name"]))]
pub struct Metadata {
    /// Unique among documents of its kind; lower-case letters, digits and `-`, at most 63.
    pub name: Field<String>,
    /// What selectors select by, on a Workload; for people and tools elsewhere.
    pub labels: Field<Texts>,
    /// For people and tools.
    pub annotations: Field<Texts>,
}

/// `spec` of a SecurityGroup.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["selector"]))]
pub struct SecurityGroupSpec {
    /// The number by which hosts know the group; derived from its name where it is absent.
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub id: Field<i64>,
    /// For people.
    pub description: Field<String>,
    /// Which workloads are members.
    pub selector: Field<LabelSelector>,
    /// What members may receive; absent or empty: nothing.
    pub ingress: Field<Vec<Field<IngressRule>>>,
    /// What members may send; absent: everything; empty: nothing.
    pub egress: Field<Vec<Field<EgressRule>>>,
    /// Whether denials drop (`enforce`) or are only counted and logged (`audit`).
    pub mode: Field<ModeName>,
    /// Whether flows that a changed policy no longer allows are cut (`revoke`) or live on (`keep`).
    pub established: Field<EstablishedName>,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ModeName {
    /// Denials drop.
    Enforce,
    /// Denials pass, are counted and logged.
    Audit,
}

/// `established`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum EstablishedName {
    /// Flows are judged again at their next packet.
    Revoke,
    /// Tracked flows live on.
    Keep,
}

/// A selector of workloads by labels; every requirement must hold, and an empty one selects every workload.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels and the value that each must have.
    pub match_labels: Field<Texts>,
    /// Conditions on labels.
    pub match_expressions: Field<Vec<Field<Expression>>>,
}

/// One condition on one label.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["key", "operator"]))]
pub struct Expression {
    /// The label.
    pub key: Field<String>,
    /// What must hold of it.
    pub operator: Field<Operator>,
    /// The values of `In` and `NotIn`; absent for the others.
    pub values: Field<Vec<Field<String>>>,
}

/// What must hold of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Operator {
    /// It is there, with one of the values.
    In,
    /// It is not there, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// What members may receive.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["from"]))]
pub struct IngressRule {
    /// For people; shown with every verdict that the rule decides.
    pub description: Field<String>,
    /// Who may send; at least one.
    #[schemars(length(min = 1))]
    pub from: Field<Vec<Field<PeerEntry>>>,
    /// Protocols and ports; absent: all.
    #[schemars(length(min = 1))]
    pub ports: Field<Vec<Field<PortEntry>>>,
}

/// What members may send.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["to"]))]
pub struct EgressRule {
    /// For people; shown with every verdict that the rule decides.
    pub description: Field<String>,
    /// Who may receive; at least one.
    #[schemars(length(min = 1))]
    pub to: Field<Vec<Field<PeerEntry>>>,
    /// Protocols and ports; absent: all.
    #[schemars(length(min = 1))]
    pub ports: Field<Vec<Field<PortEntry>>>,
}

/// `spec` of a Guardrail.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["deny"]))]
pub struct GuardrailSpec {
    /// For people.
    pub description: Field<String>,
    /// What is denied, whatever groups allow; at least one.
    #[schemars(length(min = 1))]
    pub deny: Field<Vec<Field<DenyRule>>>,
}

/// What a guardrail denies: what goes from any of `from` to any of `to` on any of `ports`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DenyRule {
    /// For people; shown with every verdict that the entry decides.
    pub description: Field<String>,
    /// Who sends; absent: anyone.
    #[schemars(length(min = 1))]
    pub from: Field<Vec<Field<PeerEntry>>>,
    /// Who receives; absent: anyone.
    #[schemars(length(min = 1))]
    pub to: Field<Vec<Field<PeerEntry>>>,
    /// Protocols and ports; absent: all.
    #[schemars(length(min = 1))]
    pub ports: Field<Vec<Field<PortEntry>>>,
}

/// The other side of a rule: exactly one of the fields.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct PeerEntry {
    /// Members of a group: its name, or its ID where another network owns it.
    pub group: Field<NameOrNumber>,
    /// Addresses, as a prefix such as `10.0.0.0/8`; workloads' addresses included.
    pub cidr: Field<String>,
    /// The CIDRs of an AddressGroup, by its name.
    pub addresses: Field<String>,
    /// `world`: every address that is neither a known workload's nor a host's. `host`: this host itself. `remote-host`: every other
    /// node of the cluster.
    pub entity: Field<Entity>,
}

/// A named entity.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Entity {
    /// Every address that is neither a known workload's nor a host's.
    World,
    /// This host itself.
    Host,
    /// Every other node of the cluster.
    RemoteHost,
}

/// One entry of `ports`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["protocol"]))]
pub struct PortEntry {
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, or the number of an IP protocol.
    #[schemars(with = "ProtocolSchema")]
    pub protocol: Field<NameOrNumber>,
    /// Destination port of `tcp`, `udp` and `sctp`; absent: all.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Field<i64>,
    /// Last port of a range that begins with `port`.
    #[schemars(range(min = 1, max = 65_535))]
    pub end_port: Field<i64>,
    /// Type of `icmp` and `icmpv6`; absent: all.
    #[serde(rename = "type")]
    #[schemars(range(min = 0, max = 255))]
    pub kind: Field<i64>,
    /// Code within `type`; absent: all.
    #[schemars(range(min = 0, max = 255))]
    pub code: Field<i64>,
}

/// `spec` of a Workload; one of the fields is needed.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1))]
pub struct WorkloadSpec {
    /// Path of its cgroup below the cgroup root: the workload is local, its processes are it.
    pub cgroup: Field<String>,
    /// The host's end of its link: the workload is local.
    #[schemars(length(min = 1, max = 15))]
    pub interface: Field<String>,
    /// Its addresses; alone they make it a remote workload.
    pub addresses: Field<Vec<Field<String>>>,
}

/// `spec` of an AddressGroup.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["cidrs"]))]
pub struct AddressGroupSpec {
    /// For people.
    pub description: Field<String>,
    /// Prefixes such as `10.0.0.0/8`.
    #[schemars(length(min = 1))]
    pub cidrs: Field<Vec<Field<String>>>,
}

/// Text, or a whole number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOrNumber {
    /// Text.
    Name(String),
    /// A whole number.
    Number(i64),
}

impl<'de> Deserialize<'de> for NameOrNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = NameOrNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a number")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<NameOrNumber, E> {
                Ok(NameOrNumber::Name(name.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<NameOrNumber, E> {
                Ok(NameOrNumber::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<NameOrNumber, E> {
                i64::try_from(number).map(NameOrNumber::Number).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for NameOrNumber {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NameOrNumber".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
            {"type": "integer", "minimum": 1, "maximum": 4_294_967_295_u32},
        ]})
    }
}

/// The schema of a protocol, whose names editors should offer.
struct ProtocolSchema;

impl JsonSchema for ProtocolSchema {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Protocol".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"enum": ["tcp", "udp", "sctp", "icmp", "icmpv6"]},
            {"type": "integer", "minimum": 0, "maximum": 255},
        ]})
    }
}
