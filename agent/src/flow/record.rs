//! The recorder: each event of the kernel becomes a flow with names, is kept for a while, logged and told to whoever follows.
//!
//! Bounded everywhere: the oldest of [`KEPT`] flows gives way, a follower that is slower than the kernel is told how many
//! it missed, and the log takes so many denials a second and then their number.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bulkhead_ebpf::abi::{Direction, Event, Hook, RULE_NONE, Reason, Verdict};
use futures::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::filter::{FlowQuery, name_of};
use super::limit::Limit;
use super::{Named, Names, SharedNames};
use crate::tally::{Tally, keeper};
use crate::view::talk::TalksView;
use crate::view::{FlowView, IcmpView};

/// Flows kept in memory.
pub const KEPT: usize = 4_096;
/// Flows that a follower may lag behind before it misses some.
const BACKLOG: usize = 1_024;
/// Denials and audits logged a second.
const LOGGED_PER_SECOND: u32 = 20;

/// One line of `GET /v1/flows`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The follower was too slow for this many flows.
    Missed {
        /// How many.
        missed: u64,
    },
    /// A flow.
    Flow(Arc<FlowView>),
}

/// Takes the kernel's events and keeps, logs and tells them.
#[derive(Debug)]
pub struct Recorder {
    names: SharedNames,
    kept: Mutex<VecDeque<Arc<FlowView>>>,
    live: broadcast::Sender<Arc<FlowView>>,
    limit: Mutex<Limit>,
    tally: Mutex<Tally>,
}

impl Recorder {
    /// A recorder that has seen nothing yet.
    #[must_use]
    pub fn new(names: SharedNames) -> Self {
        Self {
            names,
            kept: Mutex::new(VecDeque::new()),
            live: broadcast::Sender::new(BACKLOG),
            limit: Mutex::new(Limit::new(LOGGED_PER_SECOND, Instant::now())),
            tally: Mutex::new(Tally::new(keeper::now())),
        }
    }

    /// Takes one event.
    pub fn record(&self, event: &Event) {
        let flow = Arc::new(flow_of(event, &self.names.read(), SystemTime::now()));
        if event.verdict != Verdict::Allow as u8 {
            self.log(&flow);
        }
        self.tally().add(&flow);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&flow));
        // Sent under the lock, so that a follower sees each flow once: among the kept ones or live. No follower is no error.
        let _ = self.live.send(flow);
    }

    /// Who talked to whom, in sum.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, as it is told.
    #[must_use]
    pub fn talks(&self) -> TalksView {
        self.tally().view(keeper::now())
    }

    /// Takes what the kernel counted for each rule.
    pub fn note_hits(&self, hits: &[(u32, u64)]) {
        let names = self.names.read();
        self.tally().note_hits(hits, &names, keeper::now());
    }

    /// Logs how many denials were left out of the log. Called once a second or so.
    pub fn tick(&self) {
        let suppressed = self.limit.lock().unwrap_or_else(PoisonError::into_inner).suppressed(Instant::now());
        if let Some(suppressed) = suppressed {
            tracing::info!(target: "bulkhead::flow", suppressed, "more flows were denied than are logged; see `bulkhead flows`");
        }
    }

    /// The kept flows that `query` asks for, oldest first, and with `follow` every later one as it happens.
    pub fn lines(&self, query: FlowQuery) -> impl Stream<Item = Line> + Send + use<> {
        let (recent, live) = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let limit = query.limit.unwrap_or(KEPT);
            let mut recent: VecDeque<_> =
                kept.iter().rev().filter(|flow| query.matches(flow)).take(limit).cloned().collect();
            recent.make_contiguous().reverse();
            (recent, query.follow.then(|| self.live.subscribe()))
        };
        stream::unfold((recent, live, query), async |(mut recent, mut live, query)| {
            if let Some(flow) = recent.pop_front() {
                return Some((Line::Flow(flow), (recent, live, query)));
            }
            loop {
                match live.as_mut()?.recv().await {
                    Ok(flow) if query.matches(&flow) => return Some((Line::Flow(flow), (recent, live, query))),
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => return Some((Line::Missed { missed }, (recent, live, query))),
                    Err(RecvError::Closed) => return None,
                }
            }
        })
    }

    fn log(&self, flow: &FlowView) {
        self.tick();
        if !self.limit.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now()) {
            return;
        }
        // Names go in as strings, not with `%`: the text format then quotes what could break a line.
        tracing::info!(
            target: "bulkhead::flow",
            verdict = flow.verdict,
            reason = flow.reason,
            hook = flow.hook,
            direction = flow.direction,
            protocol = flow.protocol,
            source = %flow.source,
            source_port = flow.source_port,
            destination = %flow.destination,
            destination_port = flow.destination_port,
            workload = flow.workload,
            groups = flow.groups.join(","),
            peer = flow.peer,
            peer_groups = flow.peer_groups.join(","),
            generation = flow.generation,
            process = flow.process,
            "flow"
        );
    }
}

/// An event with names.
fn flow_of(event: &Event, names: &Names, now: SystemTime) -> FlowView {
    let named = |number: u32| (number != 0).then(|| names.workloads.get(&number)).flatten();
    let groups = |named: Option<&Named>| named.map(|named| named.groups.clone()).unwrap_or_default();
    let labels = |named: Option<&Named>| named.map(|named| named.labels.as_ref().clone()).unwrap_or_default();
    let (workload, peer) = (named(event.workload), named(event.peer_workload));
    let has_ports = matches!(event.protocol, 6 | 17 | 132);
    let is_icmp = matches!(event.protocol, 1 | 58);
    let [kind, code] = event.destination_port.to_be_bytes();
    FlowView {
        time: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        verdict: Verdict::from_number(event.verdict).map_or("unknown", Verdict::as_str).to_owned(),
        reason: Reason::from_number(event.reason).map_or("unknown", Reason::as_str).to_owned(),
        hook: Hook::from_number(event.hook).map_or("unknown", Hook::as_str).to_owned(),
        direction: Direction::from_number(event.direction).map_or("unknown", Direction::as_str).to_owned(),
        protocol: name_of(event.protocol),
        source: event.source.into(),
        source_port: (has_ports && event.source_port != 0).then_some(event.source_port),
        destination: event.destination.into(),
        destination_port: has_ports.then_some(event.destination_port),
        icmp: is_icmp.then_some(IcmpView { kind, code }),
        workload: workload.map(|named| named.name.to_string()),
        labels: labels(workload),
        groups: groups(workload),
        peer: peer.map(|named| named.name.to_string()),
        peer_labels: labels(peer),
        peer_groups: groups(peer),
        rule: if event.rule == RULE_NONE { None } else { names.rules.get(&event.rule).cloned() },
        generation: event.generation,
        process: (event.process != 0).then_some(event.process),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
pub(crate) mod tests;
