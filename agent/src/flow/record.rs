//! The recorder: each event of the kernel becomes a flow with names, is kept for a while, logged and told to whoever follows.
//!
//! Bounded everywhere: the oldest of [`KEPT`] flows gives way, a follower that is slower than the kernel is told how many
//! it missed, and the log takes so many denials a second and then their number.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bulkhead_ebpf::abi::{Direction, Event, Hook, RULE_NONE, Reason, Verdict};
use futures::stream::{self, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::ends::OpenFlows;
use super::filter::{FlowQuery, name_of};
use super::journal::Journal;
use super::limit::Limit;
use super::{Named, Names, SharedNames};
use crate::kernel::counts::{Ended, LogMaps};
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Line {
    /// This many flows are missing here: the follower, or the log, was too slow for them.
    Missed {
        /// How many.
        missed: u64,
    },
    /// The kernel told of a sample: so many flows it did not tell of, as there were too many at once.
    Sampled {
        /// How many.
        sampled_out: u64,
    },
    /// A flow.
    Flow(Arc<FlowView>),
}

/// Takes the kernel's events and keeps, logs and tells them.
#[derive(Debug)]
pub struct Recorder {
    names: SharedNames,
    kept: Mutex<VecDeque<Arc<FlowView>>>,
    live: broadcast::Sender<Line>,
    limit: Mutex<Limit>,
    tally: Mutex<Tally>,
    log: OnceLock<Log>,
    /// Events that the kernel had lost when it was looked at last.
    lost: AtomicU64,
}

/// What there is with a flow log.
#[derive(Debug)]
struct Log {
    journal: Journal,
    maps: Arc<LogMaps>,
    open: Mutex<OpenFlows>,
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
            log: OnceLock::new(),
            lost: AtomicU64::new(u64::MAX),
        }
    }

    /// Writes a flow log from here on; `maps` are the kernel's for it.
    pub fn log_to(&self, journal: Journal, maps: Arc<LogMaps>) {
        let log = Log { journal, maps, open: Mutex::default() };
        assert!(self.log.set(log).is_ok(), "there is one flow log");
    }

    /// Writes nothing more to the flow log.
    pub fn close_log(&self) {
        if let Some(log) = self.log.get() {
            log.journal.close();
        }
    }

    /// Takes one event.
    pub fn record(&self, event: &Event) {
        let mut flow = flow_of(event, &self.names.read(), SystemTime::now());
        flow.interface = interface(event);
        if let Some(log) = self.log.get() {
            flow.process_name = flow.process.and_then(|process| log.maps.process(process));
        }
        let flow = Arc::new(flow);
        if event.verdict != Verdict::Allow as u8 {
            self.log(&flow);
        }
        self.tally().add(&flow);
        if let Some(log) = self.log.get() {
            log.open.lock().unwrap_or_else(PoisonError::into_inner).note(event.protocol, &flow);
        }
        self.keep(flow);
    }

    /// Has a flow followed, logged and kept for a while.
    fn keep(&self, flow: Arc<FlowView>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&flow));
        // Sent under the lock, so that a follower sees each flow once: among the kept ones or live.
        self.tell(Line::Flow(flow));
    }

    /// Tells followers and the flow log. That nobody follows is no error.
    fn tell(&self, line: Line) {
        if let Some(log) = self.log.get() {
            log.journal.put(line.clone());
        }
        let _ = self.live.send(line);
    }

    /// Tells the ends of flows.
    pub fn end(&self, ended: &[Ended]) {
        let Some(log) = self.log.get() else { return };
        let now = keeper::now();
        for ended in ended {
            let flow = log.open.lock().unwrap_or_else(PoisonError::into_inner).end(ended, now);
            self.keep(Arc::new(flow));
        }
    }

    /// Tells how many events the kernel has lost by now: what is told is a sample then.
    pub fn note_lost(&self, lost: u64) {
        let before = self.lost.swap(lost, Ordering::Relaxed);
        if before < lost {
            self.tell(Line::Sampled { sampled_out: lost - before });
        }
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
                    Ok(Line::Flow(flow)) if !query.matches(&flow) => {}
                    Ok(line) => return Some((line, (recent, live, query))),
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
        interface: None,
        tcp_flags: (event.protocol == 6).then(|| tcp_flags(event.tcp_flags)),
        process: (event.process != 0).then_some(event.process),
        process_name: None,
        end: None,
    }
}

/// The flags of a TCP segment by the names of RFC 9293 and RFC 3168, in the order of their bits from the lowest.
fn tcp_flags(flags: u8) -> String {
    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = NAMES.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}

/// The interface that an event tells of. At the host's hooks it is one of this network namespace.
fn interface(event: &Event) -> Option<String> {
    let is_hosts = [Hook::Xdp, Hook::TcEgress, Hook::TcIngress].iter().any(|hook| *hook as u8 == event.hook);
    let name = if is_hosts { nix::net::if_::if_indextoname(event.interface).ok() } else { None };
    let name = name.map(|name| name.to_string_lossy().into_owned());
    (event.interface != 0).then(|| name.unwrap_or_else(|| format!("#{}", event.interface)))
}

#[cfg(test)]
#[path = "record_tests.rs"]
pub(crate) mod tests;
