//! The status of custom resources: what the agents make of them, written by one agent each.
//!
//! Nobody leads. The nodes' order by a hash of node and object says whose turn it is: the first writes what it finds whenever the
//! status says otherwise. The others only see to it that a new generation gets any status at all: each waits for longer than
//! the one before it, and the first that lives ends the waiting of all. So an object costs one write for each change, whatever
//! the number of agents, and no agent has to know which others live.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, core::GroupVersionKind};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::PolicyObjects;
use crate::policy::document::crd;
use crate::policy::objects::{ApiObject, Condition, ObjectName, Refusal};
use crate::surface::stopped;

/// How often an agent looks for objects whose status it has to write; none is written more often.
const TURN: Duration = Duration::from_secs(10);
/// How much longer than the one before it each node waits for a status.
const STEP: Duration = Duration::from_secs(20);
/// Between two writes of one agent.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest message, in characters: Kubernetes' own conditions have 32,768 at most, and everyone who watches gets it.
const LONGEST: usize = 1_024;

/// Writes statuses until `stop` turns true. `node` is this host's name among `nodes`, `client` how to reach the API now.
pub async fn write(
    objects: PolicyObjects,
    node: String,
    nodes: watch::Receiver<BTreeSet<String>>,
    client: impl Fn() -> BoxFuture<'static, anyhow::Result<Client>>,
    stop: watch::Receiver<bool>,
) {
    let writing = async {
        // Agents that start together don't ask together.
        sleep(TURN.mul_f64(f64::from(u16::try_from(hash(&node, "") % 1_000).unwrap_or_default()) / 1_000.0)).await;
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Waiting::default();
        loop {
            turns.tick().await;
            let due = waiting.due(Instant::now(), &node, &nodes.borrow(), &objects);
            for (object, wanted) in due {
                let written = async { patch(&client().await?, &object, &wanted).await }.await;
                if let Err(error) = written {
                    tracing::warn!(object = %object.name, "its status can't be written, next attempt in {TURN:?}: {error:#}");
                }
                sleep(PAUSE).await;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = stopped(stop) => {}
    }
}

/// Since when objects have been waiting for a status of their generation.
#[derive(Debug, Default)]
struct Waiting(HashMap<ObjectName, (i64, Instant)>);

impl Waiting {
    /// The objects whose status is this node's to write now, with what it shall say.
    fn due(
        &mut self,
        now: Instant,
        node: &str,
        nodes: &BTreeSet<String>,
        objects: &PolicyObjects,
    ) -> Vec<(ApiObject, Condition)> {
        let verdicts = objects.0.verdicts.borrow().clone();
        let known = objects.custom_resources();
        self.0.retain(|name, _| known.iter().any(|object| object.name == *name));
        let mut due = Vec::new();
        for object in known {
            // What was not judged yet has its turn once it is.
            if verdicts.judged.get(&object.name) != Some(&(object.uid.clone(), object.generation)) {
                continue;
            }
            let wanted = condition(&object, &verdicts.refused);
            if object.condition.as_ref().is_some_and(|said| said.says_the_same(&wanted)) {
                self.0.remove(&object.name);
                continue;
            }
            let is_settled = object.condition.as_ref().is_some_and(|said| said.generation >= object.generation);
            let (generation, since) = self.0.entry(object.name.clone()).or_insert((object.generation, now));
            if is_settled || *generation != object.generation {
                (*generation, *since) = (object.generation, now);
            }
            let is_due = match turn(node, nodes, &object.uid) {
                0 => true,
                later => !is_settled && now.duration_since(*since) >= STEP.saturating_mul(later),
            };
            if is_due {
                due.push((object, wanted));
            }
        }
        due
    }
}

/// How many of `nodes` come before `node` for an object. One that is not among them comes last.
fn turn(node: &str, nodes: &BTreeSet<String>, uid: &str) -> u32 {
    let own = (nodes.contains(node), hash(node, uid));
    let before = nodes.iter().filter(|other| other.as_str() != node && (true, hash(other, uid)) > own).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

/// The same on every host: 64-bit FNV-1a (RFC 9923), and the finalizer of MurmurHash3, as FNV's upper bits say little of the last
/// bytes.
fn hash(node: &str, uid: &str) -> u64 {
    let bytes = node.bytes().chain([0]).chain(uid.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ hash >> 33_u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33_u64).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33_u64
}

/// What an object's condition shall say.
fn condition(object: &ApiObject, refused: &BTreeMap<ObjectName, Refusal>) -> Condition {
    let (accepted, reason, message) = match refused.get(&object.name) {
        None => (true, "Accepted", String::new()),
        Some(refusal) => {
            let problems = refusal.problems.iter().map(|problem| format!("{}; {}", problem.message, problem.cure));
            let text = problems.collect::<Vec<_>>().join("\n");
            let short: String = text.chars().take(LONGEST).collect();
            let message = if short.len() < text.len() { format!("{short}...") } else { short };
            (false, refusal.standing.as_str(), message)
        }
    };
    Condition { accepted, reason: reason.to_owned(), message, generation: object.generation, since: String::new() }
}

/// The status, as a merge patch. An object that was made anew meanwhile has another UID, and the API server refuses.
fn status(object: &ApiObject, wanted: &Condition, now: &str) -> Value {
    let same = object.condition.as_ref().filter(|said| said.accepted == wanted.accepted && !said.since.is_empty());
    json!({
        "metadata": {"uid": object.uid},
        "status": {
            "observedGeneration": wanted.generation,
            "conditions": [{
                "type": Condition::TYPE,
                "status": if wanted.accepted { "True" } else { "False" },
                "reason": wanted.reason,
                "message": wanted.message,
                "observedGeneration": wanted.generation,
                "lastTransitionTime": same.map_or(now, |said| said.since.as_str()),
            }],
        },
    })
}

async fn patch(client: &Client, object: &ApiObject, wanted: &Condition) -> anyhow::Result<()> {
    let kind = crd::KINDS.iter().find(|kind| kind.kind == object.name.kind.as_str());
    let kind = kind.expect("only custom resources have a status");
    let (group, version) = crd::group_and_version();
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind.kind), kind.plural);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let now = Timestamp::from_second(Timestamp::now().as_second())?.to_string();
    let patch = Patch::Merge(status(object, wanted, &now));
    api.patch_status(&object.name.name, &PatchParams::default(), &patch).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
