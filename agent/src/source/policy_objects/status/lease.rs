//! What each agent says of its node: a Lease of its own, of the node's name.
//!
//! It belongs to the Node and goes with it. Its time says that the agent lives; an annotation what is in force there, in the
//! same few bytes however much that is ([`Sketch`]).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use form_urlencoded::Serializer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::sketch::Sketch;
use super::Writer;
use crate::controller::InForce;
use crate::metrics::kubernetes::{REPORTS, Verb};
use crate::source::kubernetes::Trouble;

/// Has the number of objects in force as they are written, and their sketch.
const ANNOTATION: &str = "bulkhead.dev/in-force";
/// What all of these Leases are labelled with, and no other.
const LABEL: (&str, &str) = ("app.kubernetes.io/component", "bulkhead-node");
const NODES: &str = "nodes";

/// A Lease, as far as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Lease {
    metadata: Metadata,
    spec: Option<Spec>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    lease_duration_seconds: Option<u32>,
    renew_time: Option<MicroTime>,
}

impl Lease {
    /// The node that it is of.
    pub(super) fn node(&self) -> &str {
        &self.metadata.name
    }

    /// What is in force there; empty where that is not said.
    pub(super) fn in_force(&self) -> &str {
        self.metadata.annotations.as_ref().and_then(|of| of.get(ANNOTATION)).map_or("", String::as_str)
    }

    /// Whether the agent lives, by its own clock and `now`.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        let Some(Spec { lease_duration_seconds: Some(seconds), renew_time: Some(MicroTime(at)) }) = &self.spec else {
            return false;
        };
        now.duration_since(*at) < SignedDuration::from_secs((*seconds).into())
    }
}

/// What is in force, as the annotation has it.
pub(super) fn text(in_force: &InForce) -> String {
    format!("{} {}", in_force.len(), Sketch::of(&**in_force).text())
}

/// From [`text`].
pub(super) fn sketch(text: &str) -> Option<Sketch> {
    Sketch::read(text.split_once(' ')?.1)
}

/// What is written: that this node's agent lives, and what is in force.
fn lease(node: &str, in_force: &str, lasts: Duration, now: Timestamp) -> Value {
    json!({
        "metadata": {
            "labels": {LABEL.0: LABEL.1},
            "annotations": {ANNOTATION: in_force},
        },
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": lasts.as_secs().max(1),
            "renewTime": MicroTime(now),
        },
    })
}

impl Writer<'_> {
    fn leases(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", self.namespace)
    }

    /// Says what is in force on this node. Where it is none, nothing is said.
    pub(super) async fn renew(&self, in_force: &str) -> Result<(), Trouble> {
        let lasts = self.server.pace.renew.saturating_mul(3);
        let mut lease = lease(&self.node, in_force, lasts, Timestamp::now());
        // Who owns which field would make up half of it: this asks that it is forgotten.
        lease["metadata"]["managedFields"] = json!([{}]);
        let path = format!("{}/{}", self.leases(), self.node);
        match self.server.request(REPORTS, Verb::Patch, &path, Some(&lease)).await {
            Err(trouble) if trouble.is_missing() => {}
            other => return other.map(drop),
        }
        let node = match self.server.request(NODES, Verb::Get, &format!("/api/v1/nodes/{}", self.node), None).await {
            Err(trouble) if trouble.is_missing() => {
                tracing::debug!(node = self.node, "this host is no node: nothing is said of it in the cluster");
                return Ok(());
            }
            other => read::<Value>(&other?)?,
        };
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": node["metadata"]["uid"]});
        let metadata = lease["metadata"].as_object_mut().expect("it was made so");
        metadata.remove("managedFields");
        metadata.insert("name".to_owned(), self.node.as_str().into());
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
        (lease["apiVersion"], lease["kind"]) = ("coordination.k8s.io/v1".into(), "Lease".into());
        self.server.request(REPORTS, Verb::Create, &self.leases(), Some(&lease)).await.map(drop)
    }

    /// The Lease of a node, where there is one.
    pub(super) async fn lease_of(&self, node: &str) -> Result<Option<Lease>, Trouble> {
        match self.server.request(REPORTS, Verb::Get, &format!("{}/{node}", self.leases()), None).await {
            Err(trouble) if trouble.is_missing() => Ok(None),
            other => read(&other?).map(Some),
        }
    }

    /// Sees all Leases, of which only a page is held at a time.
    pub(super) async fn each_lease(&self, mut see: impl FnMut(&Lease)) -> Result<(), Trouble> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            metadata: ListMeta,
            items: Vec<Lease>,
        }
        #[derive(Default, Deserialize)]
        struct ListMeta {
            #[serde(default)]
            r#continue: String,
        }
        let limit = self.server.pace.page.to_string();
        let mut next = String::new();
        loop {
            let label = format!("{}={}", LABEL.0, LABEL.1);
            let further = (!next.is_empty()).then_some(("continue", next.as_str()));
            let parameters = [("labelSelector", label.as_str()), ("limit", &limit)].into_iter().chain(further);
            let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
            let path = format!("{}?{query}", self.leases());
            let page: Page = read(&self.server.request(REPORTS, Verb::List, &path, None).await?)?;
            page.items.iter().for_each(&mut see);
            next = page.metadata.r#continue;
            if next.is_empty() {
                return Ok(());
            }
        }
    }
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Trouble> {
    let read = serde_json::from_slice(text).context("an answer that can't be read");
    read.map_err(|error| Trouble::Protocol(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_lease_says_how_long_it_counts() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let mut written = lease("n1", &text(&Arc::default()), Duration::from_secs(360), now);
        written["metadata"]["name"] = "n1".into();
        // As Go's MicroTime wants it: with six digits.
        assert_eq!(written["spec"]["renewTime"], "2027-01-15T08:00:00.000000Z");
        let lease: Lease = serde_json::from_value(written).expect("a Lease");
        let at = |seconds| now + SignedDuration::from_secs(seconds);
        assert!(lease.is_fresh(at(359)) && lease.is_fresh(at(-100)) && !lease.is_fresh(at(360)));
        assert_eq!(lease.node(), "n1");
        assert_eq!(sketch(lease.in_force()), Some(Sketch::of([])));
    }

    #[test]
    fn a_lease_without_a_time_is_none_of_a_living_agent() {
        for text in [r#"{"metadata": {}}"#, r#"{"metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 9}}"#] {
            let lease: Lease = serde_json::from_str(text).expect("a Lease");
            assert!(!lease.is_fresh(Timestamp::now()));
            assert_eq!(sketch(lease.in_force()), None);
        }
    }
}
