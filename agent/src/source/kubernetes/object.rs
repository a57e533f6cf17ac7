//! Objects of the API, as far as any kind is read: what is not named here is skipped without being stored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::workload::Labels;

/// A kind of object: where it is, and what is told of one.
pub(super) trait Kind {
    /// The object, as far as it is read.
    type Object: DeserializeOwned;
    /// What is told of it.
    type Fact;
    /// Its name in the plural, as in the path and in metrics.
    fn name(&self) -> &'static str;

    /// Where the API has it.
    fn path(&self) -> String;

    /// Which ones are wanted: parameters of the query.
    fn selectors(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Whether a server may not know the kind: then none exists.
    fn may_be_missing(&self) -> bool {
        false
    }

    /// What every object has.
    fn metadata(object: &Self::Object) -> &Metadata;

    /// What is told of an object; `None` where it is as if it did not exist. `doubts` takes what in it makes no sense and is
    /// left out.
    fn fact(&self, name: String, object: Self::Object, doubts: &mut Vec<String>) -> Option<Self::Fact>;
}

/// What every object has.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    name: String,
    namespace: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) labels: Option<Labels>,
    pub(super) annotations: Option<Annotations>,
}

/// The annotations that are read: others may be long.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Annotations {
    /// On a mirror pod: the kubelet that a static pod's file belongs to made it.
    #[serde(rename = "kubernetes.io/config.mirror")]
    pub(super) mirror: Option<String>,
    /// The UID that the kubelet itself knows a static pod by.
    #[serde(rename = "kubernetes.io/config.hash")]
    pub(super) hash: Option<String>,
}

impl Metadata {
    /// Of an object of which nothing else is read.
    pub(super) fn named(name: String, namespace: Option<String>, resource_version: Option<String>) -> Self {
        Self { name, namespace, resource_version, ..Self::default() }
    }

    /// `NAMESPACE/NAME`, or `NAME` for what is in no namespace.
    pub(super) fn full_name(&self) -> String {
        full_name(self.namespace.as_deref(), &self.name)
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The name of another object in the same namespace.
    pub(super) fn sibling(&self, name: &str) -> String {
        full_name(self.namespace.as_deref(), name)
    }
}

fn full_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}

/// The number of a protocol that has ports, as objects name it.
pub(super) fn protocol(text: Option<&str>, doubts: &mut Vec<String>) -> Option<u8> {
    match text.unwrap_or_default() {
        "" | "TCP" => Some(6),
        "UDP" => Some(17),
        "SCTP" => Some(132),
        other => {
            doubts.push(format!("protocol {other:?} is none of TCP, UDP and SCTP"));
            None
        }
    }
}

/// An object that can't be read as its kind, as far as it can be named.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Its full name.
    pub(super) name: Option<String>,
    /// Its version.
    pub(super) version: Option<String>,
}

impl Unread {
    pub(super) fn of(text: &str) -> Self {
        #[derive(Deserialize)]
        struct Head {
            metadata: BTreeMap<String, serde_json::Value>,
        }
        let Ok(Head { metadata }) = serde_json::from_str(text) else { return Self::default() };
        let field = |key: &str| metadata.get(key)?.as_str().map(str::to_owned);
        Self {
            name: field("name").map(|name| full_name(field("namespace").as_deref(), &name)),
            version: field("resourceVersion"),
        }
    }
}
