//! What the sources are waited for before anything is written.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use crate::controller::Event;
use crate::exit::{Exit, Failure};
use crate::source::policy_objects::PolicyObjects;
use crate::source::{Change, Told};
use crate::workload::registry::Registry;

/// How long the sources' first listings may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What this host is waited for.
const HOST: [&str; 2] = ["cgroups", "links"];
/// What the Kubernetes API is waited for.
const CLUSTER: [&str; 4] = ["namespaces", "pods", "nodes", "services"];
/// What shows why it says nothing.
const SEE: &str = "see the messages above and the metric bulkhead_kubernetes_errors_total";

/// Waits for the sources of this host to have told everything that exists, and for the cluster's where it is asked. Where an earlier
/// agent's word is in force, for as long as it takes: without the cluster's, every pod would be nobody. Where nothing is in
/// force yet, only for a while.
pub(super) async fn first_word(
    events: &mut mpsc::Receiver<Event>,
    mut registry: Registry,
    objects: Option<&PolicyObjects>,
    was_enforced: bool,
) -> Result<Registry, Failure> {
    let mut missing = BTreeSet::from(HOST);
    if objects.is_some() {
        missing.extend(CLUSTER);
    }
    let mut patience = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        let word = timeout_at(patience.into(), events.recv()).await;
        if let Ok(Some(Event::Fact(fact))) = word {
            missing.remove(subject(&fact.change));
            registry.take(fact.change);
            continue;
        }
        if let Some(missing) = missing.iter().find(|missing| HOST.contains(missing)) {
            return Err(Failure::message(
                Exit::OsErr,
                format!("the {missing} of this host could not be listed"),
                "see the messages above; the agent needs CAP_NET_ADMIN and a readable cgroup tree",
            ));
        }
        let names: Vec<&str> = missing.iter().copied().collect();
        let names = names.join(", ");
        if !was_enforced {
            tracing::warn!(
                "the Kubernetes API has not told of its {names}: enforcement begins without, and pods are unidentified; {SEE}"
            );
            break;
        }
        tracing::warn!(
            "the Kubernetes API has not told of its {names}: what was enforced stays as it is until it does; {SEE}"
        );
        patience = Instant::now() + PATIENCE;
    }
    if let Some(objects) = objects {
        policies(objects, was_enforced).await;
    }
    Ok(registry)
}

/// Waits for the policies that the API holds, in the same way.
async fn policies(objects: &PolicyObjects, was_enforced: bool) {
    while !objects.listed(PATIENCE).await {
        if !was_enforced {
            tracing::warn!(
                "the Kubernetes API has not told of its policies: enforcement begins with those of files; {SEE}"
            );
            return;
        }
        tracing::warn!(
            "the Kubernetes API has not told of its policies: what was enforced stays as it is until it does; {SEE}"
        );
    }
}

/// What a change tells everything of, if it does.
const fn subject(change: &Change) -> &'static str {
    match change {
        Change::CgroupResync(_) => HOST[0],
        Change::LinkResync(_) => HOST[1],
        Change::Namespaces(Told::All(_)) => CLUSTER[0],
        Change::Pods(Told::All(_)) => CLUSTER[1],
        Change::Nodes(Told::All(_)) => CLUSTER[2],
        Change::Services(Told::All(_)) => CLUSTER[3],
        _ => "",
    }
}
