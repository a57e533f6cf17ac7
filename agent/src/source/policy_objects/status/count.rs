//! Counts on how many nodes each object is in force, by what their agents say of them ([`lease`]).
//!
//! One node does: the first in an order that every agent finds for itself, or the first of those after it whose agent lives. It
//! reads all Leases when something changed, and now and then. Every write to an object goes to all agents, as they watch it:
//! so there are few a second, the fewer the more nodes there are, and none for a node more or less among hundreds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::super::sketch::{Mark, Sketch};
use super::{PAUSE, Writer, hash, lease, turn, unsaid};
use crate::controller::InForce;
use crate::policy::objects::{ApiObject, Counted};
use crate::source::kubernetes::{Trouble, up_to};

/// Gives the nodes their order.
const COUNTING: &str = "bulkhead.dev/in-force";
/// How many nodes stand ready to count, one in place of the other.
const STANDING_BY: u32 = 8;
/// How many times as long it is until the next count where nothing seems to have changed.
const STEADY: u32 = 5;
/// How many counts are put off, one after the other, because of nodes that say something else entirely: as a rule they saw the half
/// of many changes.
const PATIENCE: u32 = 3;
/// What agents are told of objects in a second, all of them together, because of what is written here.
const TOLD: u32 = 1_000;

/// What nodes say, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Those that say anything.
    nodes: u32,
    /// Those of them that differ so much from this one that it can't be told in what.
    unlike: u32,
    /// What is in force on this node, and so on all but those that differ.
    own: InForce,
    /// On how many nodes more or less each object is in force, of those that differ.
    differences: BTreeMap<Mark, i64>,
}

impl Tally {
    /// Adds up what is said, with by how many nodes.
    fn of(own: InForce, said: &HashMap<String, u32>) -> Self {
        let sketch = Sketch::of(&*own);
        let mut tally = Self { own, ..Self::default() };
        for (text, nodes) in said {
            tally.nodes += nodes;
            let Some(differences) = lease::sketch(text).and_then(|other| sketch.differences(&other)) else {
                tally.unlike += nodes;
                continue;
            };
            let missing = differences.missing.into_iter().map(|mark| (mark, -i64::from(*nodes)));
            for (mark, nodes) in missing.chain(differences.added.into_iter().map(|mark| (mark, i64::from(*nodes)))) {
                *tally.differences.entry(mark).or_default() += nodes;
            }
        }
        tally
    }

    fn count(&self, object: &ApiObject) -> Counted {
        let mark = Mark::of(&object.name, &object.uid, object.generation);
        let alike = if self.own.contains(&mark) { i64::from(self.nodes - self.unlike) } else { 0 };
        let in_force = alike + self.differences.get(&mark).copied().unwrap_or_default();
        Counted { in_force: u32::try_from(in_force).unwrap_or_default(), nodes: self.nodes }
    }
}

/// Whether a count is worth a write: one in a hundred nodes is, and whether it is all of them, or none.
fn is_news(said: Option<Counted>, now: Counted) -> bool {
    let Some(said) = said else { return true };
    let kind = |of: Counted| (of.in_force == of.nodes, of.in_force == 0);
    let much = |one: u32, other: u32| u64::from(one.abs_diff(other)) * 100 >= u64::from(now.nodes.max(1));
    said != now && (kind(said) != kind(now) || much(said.in_force, now.in_force) || much(said.nodes, now.nodes))
}

/// What the last count found.
struct Last {
    at: Instant,
    tally: Tally,
    put_off: u32,
    /// Something is left to do.
    is_unfinished: bool,
}

pub(super) async fn count(writer: &Writer<'_>) {
    let mut in_force = writer.objects.0.in_force.subscribe();
    let mut nodes = writer.nodes.clone();
    let every = writer.server.pace.count;
    // Not all that start together at once, and not before it is known what there is.
    let mut counts = interval_at(Instant::now() + every / 2 + up_to(every / 2), every);
    counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Last> = None;
    loop {
        counts.tick().await;
        let Some(own) = in_force.borrow().clone() else { continue };
        match is_mine(writer).await {
            Ok(true) => {}
            Ok(false) => {
                last = None;
                continue;
            }
            Err(trouble) => {
                tracing::debug!("whose turn it is to count can't be found: {trouble}");
                continue;
            }
        }
        let is_new = last.as_ref().is_none_or(|last| last.is_unfinished || last.at.elapsed() >= every * STEADY);
        let has_changed = in_force.has_changed().unwrap_or_default() | nodes.has_changed().unwrap_or_default();
        if !is_new && !has_changed && unsaid(&writer.objects).is_empty() {
            continue;
        }
        in_force.mark_unchanged();
        nodes.mark_unchanged();
        match count_once(writer, own, last.as_ref()).await {
            Ok(counted) => last = Some(counted),
            Err(trouble) => {
                tracing::warn!(
                    "on how many nodes objects are in force can't be counted, next attempt in {every:?}: {trouble}"
                );
                last = None;
            }
        }
    }
}

/// Whether no agent lives whose turn it is before this one's.
async fn is_mine(writer: &Writer<'_>) -> Result<bool, Trouble> {
    let before: Vec<String> = {
        let nodes = writer.nodes.borrow();
        if !nodes.contains(&writer.node) || turn(&writer.node, &nodes, COUNTING) >= STANDING_BY {
            return Ok(false);
        }
        let own = hash(&writer.node, COUNTING);
        nodes.iter().filter(|node| **node != writer.node && hash(node, COUNTING) > own).cloned().collect()
    };
    for node in before {
        if writer.lease_of(&node).await?.is_some_and(|lease| lease.is_fresh(Timestamp::now())) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn count_once(writer: &Writer<'_>, own: InForce, last: Option<&Last>) -> Result<Last, Trouble> {
    let at = Instant::now();
    let nodes = writer.nodes.borrow().clone();
    let (mut said, mut living) = (HashMap::new(), BTreeSet::new());
    let now = Timestamp::now();
    let see = |lease: &lease::Lease| {
        if lease.is_fresh(now) && nodes.contains(lease.node()) && living.insert(lease.node().to_owned()) {
            *said.entry(lease.in_force().to_owned()).or_default() += 1;
        }
    };
    writer.each_lease(see).await?;
    let tally = Tally::of(own, &said);
    drop(said);
    for (object, wanted) in abandoned(writer, &nodes, &living) {
        writer.say(&object, &wanted).await;
        sleep(PAUSE).await;
    }
    // As long as nodes still change, so does this.
    let is_moving = !tally.differences.is_empty() && last.is_none_or(|last| last.tally != tally);
    let put_off = last.map_or(0, |last| last.put_off);
    if tally.unlike > 0 && put_off < PATIENCE {
        return Ok(Last { at, tally, put_off: put_off + 1, is_unfinished: true });
    }
    let put_off = if tally.unlike > 0 { put_off } else { 0 };
    let pause = PAUSE.max(Duration::from_secs(1) * u32::try_from(nodes.len()).unwrap_or(u32::MAX) / TOLD);
    let mut is_unfinished = is_moving;
    for object in writer.objects.custom_resources() {
        // One that has no verdict yet has no number either.
        let is_judged = object.condition.as_ref().is_some_and(|said| said.generation == object.generation);
        let counted = tally.count(&object);
        if !is_judged || !is_news(object.counted, counted) {
            is_unfinished |= !is_judged;
            continue;
        }
        if at.elapsed() >= writer.server.pace.count {
            // What is counted anew is true.
            is_unfinished = true;
            break;
        }
        let [in_force, of] = Counted::FIELDS;
        let status = json!({in_force: counted.in_force, of: counted.nodes});
        let patch = json!({"metadata": {"uid": object.uid}, "status": status});
        if let Err(trouble) = writer.patch(&object, &patch).await {
            tracing::warn!(object = %object.name, "on how many nodes it is in force can't be written: {trouble}");
            is_unfinished = true;
        }
        sleep(pause).await;
    }
    Ok(Last { at, tally, put_off, is_unfinished })
}

/// What nobody says of objects because the agent does not live that is the first to.
fn abandoned(
    writer: &Writer<'_>,
    nodes: &BTreeSet<String>,
    living: &BTreeSet<String>,
) -> Vec<(ApiObject, super::Condition)> {
    let first = |uid: &str| nodes.iter().max_by_key(|node| hash(node, uid));
    let mut unsaid = unsaid(&writer.objects);
    unsaid.retain(|(object, _)| first(&object.uid).is_some_and(|node| !living.contains(node)));
    unsaid
}

#[cfg(test)]
mod tests;
