//! The status of custom resources: what the agents make of them, written by one agent each, and on how many nodes they are in
//! force, counted by one.
//!
//! Nobody leads. The nodes' order by a hash of node and object says whose turn it is: the first writes what it finds whenever the
//! status says otherwise. The others only see to it that a new generation gets any status at all: each waits for longer than
//! the one before it, and the first that lives ends the waiting of all. So an object costs one write for each change, whatever
//! the number of agents. Who counts (`count`) knows which agents live, and stands in for first ones that don't.

mod count;
mod lease;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::PolicyObjects;
use super::sketch::hash;
use crate::metrics::kubernetes::Verb;
use crate::policy::document::crd;
use crate::policy::objects::{ApiObject, Condition, Counted, ObjectName, Refusal};
use crate::source::kubernetes::{Server, Trouble};
use crate::surface::stopped;

/// How often an agent looks for objects whose status it has to write; none is written more often.
const TURN: Duration = Duration::from_secs(10);
/// How much longer than the one before it each node waits for a status.
const STEP: Duration = Duration::from_secs(20);
/// Between two writes of one agent.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest message, in characters: Kubernetes' own conditions have 32,768 at most, and everyone who watches gets it.
const LONGEST: usize = 1_024;

/// An agent that writes.
#[derive(Debug)]
pub(in crate::source) struct Writer<'a> {
    /// What it knows.
    pub(in crate::source) objects: PolicyObjects,
    /// This host's name among `nodes`.
    pub(in crate::source) node: String,
    /// The nodes of the cluster.
    pub(in crate::source) nodes: watch::Receiver<BTreeSet<String>>,
    /// Where the agents say what is in force on their nodes.
    pub(in crate::source) namespace: String,
    /// Where it writes.
    pub(in crate::source) server: &'a Server,
}

/// Writes statuses, and what is in force on this node, until `stop` turns true.
pub(in crate::source) async fn write(writer: Writer<'_>, stop: watch::Receiver<bool>) {
    let writing = async { tokio::join!(writer.verdicts(), report::report(&writer), count::count(&writer)) };
    tokio::select! {
        _never = writing => {}
        () = stopped(stop) => {}
    }
}

impl Writer<'_> {
    /// Writes what became of objects.
    async fn verdicts(&self) {
        // Agents that start together don't ask together.
        sleep(TURN.mul_f64(f64::from(u16::try_from(hash(&self.node, "") % 1_000).unwrap_or_default()) / 1_000.0)).await;
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Waiting::default();
        loop {
            turns.tick().await;
            let due = waiting.due(Instant::now(), &self.node, &self.nodes.borrow(), &self.objects);
            for (object, wanted) in due {
                self.say(&object, &wanted).await;
                sleep(PAUSE).await;
            }
        }
    }

    /// Writes what became of an object.
    async fn say(&self, object: &ApiObject, wanted: &Condition) {
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string();
        if let Err(error) = self.patch(object, &status(object, wanted, &now)).await {
            tracing::warn!(object = %object.name, "its status can't be written, next attempt in {TURN:?}: {error}");
        }
    }

    async fn patch(&self, object: &ApiObject, patch: &Value) -> Result<(), Trouble> {
        let kind = crd::KINDS.iter().find(|kind| kind.kind == object.name.kind.as_str());
        let plural = kind.expect("only custom resources have a status").plural;
        let path = format!("/apis/{}/{plural}/{}/status", object.name.kind.api_version(), object.name.name);
        self.server.request(plural, Verb::Patch, &path, Some(patch)).await.map(drop)
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
        let unsaid = unsaid(objects);
        self.0.retain(|name, _| unsaid.iter().any(|(object, _)| object.name == *name));
        let mut due = Vec::new();
        for (object, wanted) in unsaid {
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

/// The objects whose status is not what this agent would say, with what that is.
fn unsaid(objects: &PolicyObjects) -> Vec<(ApiObject, Condition)> {
    let verdicts = objects.0.verdicts.borrow().clone();
    let unsaid = objects.custom_resources().into_iter().filter_map(|object| {
        // What was not judged yet has its turn once it is.
        if verdicts.judged.get(&object.name) != Some(&(object.uid.clone(), object.generation)) {
            return None;
        }
        let wanted = condition(&object, &verdicts.refused);
        let is_said = object.condition.as_ref().is_some_and(|said| said.says_the_same(&wanted));
        (!is_said).then_some((object, wanted))
    });
    unsaid.collect()
}

/// How many of `nodes` come before `node` for an object. One that is not among them comes last.
fn turn(node: &str, nodes: &BTreeSet<String>, uid: &str) -> u32 {
    let own = (nodes.contains(node), hash(node, uid));
    let before = nodes.iter().filter(|other| other.as_str() != node && (true, hash(other, uid)) > own).count();
    u32::try_from(before).unwrap_or(u32::MAX)
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
    let mut status = json!({
        "observedGeneration": wanted.generation,
        "conditions": [{
            "type": Condition::TYPE,
            "status": if wanted.accepted { "True" } else { "False" },
            "reason": wanted.reason,
            "message": wanted.message,
            "observedGeneration": wanted.generation,
            "lastTransitionTime": same.map_or(now, |said| said.since.as_str()),
        }],
    });
    if object.condition.as_ref().is_none_or(|said| said.generation != wanted.generation) {
        // What was counted was another generation.
        status[Counted::FIELDS[0]] = 0.into();
    }
    json!({"metadata": {"uid": object.uid}, "status": status})
}

#[cfg(test)]
mod tests;
