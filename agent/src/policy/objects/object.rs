//! An object of the Kubernetes API, as the text that the files' own reader reads.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::policy::document::{API_VERSION, network_policy};
use crate::policy::model::KUBERNETES;

/// Kinds of objects that are policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `bulkhead.dev`, SecurityGroup.
    SecurityGroup,
    /// `bulkhead.dev`, Guardrail.
    Guardrail,
    /// `bulkhead.dev`, AddressGroup.
    AddressGroup,
    /// `networking.k8s.io`, NetworkPolicy.
    NetworkPolicy,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::SecurityGroup, Self::Guardrail, Self::AddressGroup, Self::NetworkPolicy];

    /// As in documents and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecurityGroup => "SecurityGroup",
            Self::Guardrail => "Guardrail",
            Self::AddressGroup => "AddressGroup",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }

    /// Whether its objects have a status of Bulkhead's.
    #[must_use]
    pub fn has_status(self) -> bool {
        self != Self::NetworkPolicy
    }

    /// The version of the API that the agent asks for.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::NetworkPolicy => network_policy::API_VERSION,
            Self::SecurityGroup | Self::Guardrail | Self::AddressGroup => API_VERSION,
        }
    }
}

/// Which object it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace, where its kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectName {
    /// From `NAMESPACE/NAME`, or `NAME` of what is in no namespace.
    #[must_use]
    pub fn of(kind: ObjectKind, full_name: &str) -> Self {
        let (namespace, name) = match full_name.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, full_name),
        };
        Self { kind, namespace, name: name.to_owned() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind.as_str())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiObject {
    /// Which it is.
    pub name: ObjectName,
    /// Its UID: one of the same name that was made anew has another.
    pub uid: String,
    /// Counts the changes of its spec.
    pub generation: i64,
    /// When it was made; RFC 3339 in UTC, and so in the order of time.
    pub created: String,
    /// What its status says, where it says anything.
    pub condition: Option<Condition>,
    /// On how many nodes its status says that it is in force, where it does.
    pub counted: Option<Counted>,
    /// As problems name it.
    pub(super) path: Arc<PathBuf>,
    /// What of it says anything to a policy, as JSON.
    pub(super) text: Arc<str>,
}

/// What the API server sent is no object: it has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object of the Kubernetes API without a name")]
pub struct NotAnObject;

impl ApiObject {
    /// Takes an object of `kind` as the API server sends it. Within lists it says neither kind nor version.
    ///
    /// # Errors
    /// It has no name.
    pub fn new(kind: ObjectKind, object: &Value) -> Result<Self, NotAnObject> {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().map(str::to_owned);
        let namespace = if kind == ObjectKind::NetworkPolicy { text("namespace") } else { None };
        let name = ObjectName { kind, namespace, name: text("name").ok_or(NotAnObject)? };
        Ok(Self {
            uid: text("uid").unwrap_or_default(),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            created: text("creationTimestamp").unwrap_or_default(),
            condition: Condition::of(&object["status"]),
            counted: Counted::of(&object["status"]),
            path: Arc::new(PathBuf::from(format!("{KUBERNETES}{name}"))),
            text: escaped(&said(kind, object).to_string()).into(),
            name,
        })
    }

    /// Whether both are the same object and say the same to a policy.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        (&self.uid, self.generation, &self.created, &self.text)
            == (&other.uid, other.generation, &other.created, &other.text)
    }
}

/// JSON that is YAML too: what YAML does not take as it is stands only within texts, where it can be written by its number.
fn escaped(json: &str) -> String {
    let printable = |letter: char| {
        !matches!(letter, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if printable(letter) {
            text.push(letter);
        } else {
            let _ = write!(text, "\\u{:04x}", u32::from(letter));
        }
    }
    text
}

/// How far an object is in force, as its status says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Nodes on which all of it is in force as it was written.
    pub in_force: u32,
    /// Nodes that tell what is in force on them.
    pub nodes: u32,
}

impl Counted {
    /// The fields' names.
    pub const FIELDS: [&str; 2] = ["nodesInForce", "nodes"];

    fn of(status: &Value) -> Option<Self> {
        let [in_force, nodes] =
            Self::FIELDS.map(|field| status[field].as_u64().and_then(|count| count.try_into().ok()));
        Some(Self { in_force: in_force?, nodes: nodes? })
    }
}

/// The condition `Accepted` of an object's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether the object is in force as it was written.
    pub accepted: bool,
    /// Why, in one word.
    pub reason: String,
    /// The problems.
    pub message: String,
    /// The generation that it speaks of.
    pub generation: i64,
    /// Since when it has been accepted or not; RFC 3339.
    pub since: String,
}

impl Condition {
    /// The condition's name.
    pub const TYPE: &str = "Accepted";

    fn of(status: &Value) -> Option<Self> {
        let said = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == Self::TYPE)?;
        let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        Some(Self {
            accepted: said["status"] == "True",
            reason: text("reason"),
            message: text("message"),
            generation: said["observedGeneration"].as_i64()?,
            since: text("lastTransitionTime"),
        })
    }

    /// Whether two say the same, whenever they began to.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let said = |of: &Self| (of.accepted, of.generation, of.reason.clone(), of.message.clone());
        said(self) == said(other)
    }
}

/// What says anything to a policy; labels, and what the API server and kubectl write into metadata and status, do not.
fn said(kind: ObjectKind, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut kept = Map::new();
    let fields: &[&str] = if kind == ObjectKind::NetworkPolicy { &["name", "namespace"] } else { &["name"] };
    for field in fields {
        kept.extend(metadata.get(*field).map(|value| ((*field).to_owned(), value.clone())));
    }
    let mode = metadata.get("annotations").and_then(|of| of.get(network_policy::MODE));
    if let (ObjectKind::NetworkPolicy, Some(mode)) = (kind, mode) {
        kept.insert("annotations".to_owned(), json!({network_policy::MODE: mode}));
    }
    let mut said = json!({"apiVersion": kind.api_version(), "kind": kind.as_str()});
    let fields = object.as_object().into_iter().flatten().filter(|(key, _)| *key != "status");
    for (key, value) in fields {
        said[key] = value.clone();
    }
    said["metadata"] = kept.into();
    said
}
