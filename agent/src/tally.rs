//! Who talks to whom, in sum: what `bulkhead audit` and `bulkhead suggest` are made of.
//!
//! A flow's event is counted with those that have the same ends, port and verdict. There is room for [`MAX_TALKS`] such sums; when it is
//! full, the quarter that was not seen for longest is forgotten, and counted. [`keeper`] has it outlive the agent.

pub mod keeper;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::flow::Names;
use crate::view::talk::{RuleAge, TalkView, TalksView};
use crate::view::{FlowRule, FlowView};

/// Sums that are kept.
pub const MAX_TALKS: usize = 16_384;

/// What tells two sums apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    verdict: String,
    reason: String,
    direction: String,
    protocol: String,
    detail: Option<u16>,
    workload: Option<String>,
    peer: Option<String>,
    address: Option<IpAddr>,
}

/// The sums, and when rules decided.
#[derive(Clone, Debug)]
pub struct Tally {
    since: f64,
    talks: HashMap<Key, TalkView>,
    forgotten: u64,
    rules: BTreeMap<(String, String, usize), Watched>,
    /// Whether there is anything that was not written down.
    is_new: bool,
}

/// A rule in force.
#[derive(Clone, Debug)]
struct Watched {
    age: RuleAge,
    /// Its number, and what the kernel had counted under it when it was looked at last.
    seen: (u32, u64),
}

impl Tally {
    /// Nothing yet. `now` is in seconds since the Unix epoch, as every time here.
    #[must_use]
    pub fn new(now: f64) -> Self {
        Self { since: now, talks: HashMap::new(), forgotten: 0, rules: BTreeMap::new(), is_new: false }
    }

    /// Goes on from what an earlier agent wrote down.
    pub fn restore(&mut self, view: TalksView) {
        self.since = view.since;
        self.forgotten = view.forgotten;
        for talk in view.talks.into_iter().take(MAX_TALKS) {
            self.talks.insert(key_of(&talk), talk);
        }
        for age in view.rules {
            self.rules.insert(place(&age), Watched { age, seen: (u32::MAX, 0) });
        }
    }

    /// Counts one flow.
    pub fn add(&mut self, flow: &FlowView) {
        let talk = talk_of(flow);
        self.is_new = true;
        match self.talks.get_mut(&key_of(&talk)) {
            Some(known) => {
                let (count, first) = (known.count + 1, known.first);
                *known = TalkView { count, first, ..talk };
            }
            None => {
                if self.talks.len() >= MAX_TALKS {
                    self.forget();
                }
                self.talks.insert(key_of(&talk), talk);
            }
        }
    }

    /// Makes room.
    fn forget(&mut self) {
        let mut ages: Vec<f64> = self.talks.values().map(|talk| talk.last).collect();
        let quarter = ages.len() / 4;
        let (_, limit, _) = ages.select_nth_unstable_by(quarter, f64::total_cmp);
        let (limit, before) = (*limit, self.talks.len());
        let mut to_go = quarter.max(1);
        self.talks.retain(|_, talk| {
            let goes = talk.last <= limit && to_go > 0;
            to_go -= usize::from(goes);
            !goes
        });
        self.forgotten += (before - self.talks.len()) as u64;
    }

    /// Takes what the kernel counted for each rule's number.
    pub fn note_hits(&mut self, hits: &[(u32, u64)], names: &Names, now: f64) {
        let hits: HashMap<u32, u64> = hits.iter().copied().collect();
        let mut before = std::mem::take(&mut self.rules);
        for (number, rule) in &names.rules {
            let count = hits.get(number).copied().unwrap_or(0);
            let meaning = names.meanings.get(number).copied().unwrap_or(0);
            let known = before.remove(&(rule.group.clone(), rule.direction.clone(), rule.index));
            let mut watched =
                known.filter(|known| known.age.meaning == meaning).unwrap_or_else(|| watch(rule, meaning, now));
            // A number that is given anew begins at 0; of an earlier agent's nobody knows what was counted already.
            let new = match watched.seen {
                (same, seen) if same == *number && count >= seen => count - seen,
                (u32::MAX, _) => 0,
                _ => count,
            };
            if new > 0 {
                watched.age.hits += new;
                watched.age.last = Some(now);
                self.is_new = true;
            }
            watched.age.description.clone_from(&rule.description);
            watched.seen = (*number, count);
            self.rules.insert(place(&watched.age), watched);
        }
    }

    /// Everything, in an order that does not change.
    #[must_use]
    pub fn view(&self, now: f64) -> TalksView {
        let mut talks: Vec<TalkView> = self.talks.values().cloned().collect();
        talks.sort_by(|a, b| {
            (&a.workload, &a.peer, &a.direction, &a.protocol, a.port, a.address, &a.verdict, &a.reason).cmp(&(
                &b.workload,
                &b.peer,
                &b.direction,
                &b.protocol,
                b.port,
                b.address,
                &b.verdict,
                &b.reason,
            ))
        });
        let rules = self.rules.values().map(|watched| watched.age.clone()).collect();
        TalksView { since: self.since, until: now, talks, forgotten: self.forgotten, rules }
    }

    /// Whether there is anything new since this was last asked.
    fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }
}

fn watch(rule: &FlowRule, meaning: u64, now: f64) -> Watched {
    let age = RuleAge {
        group: rule.group.clone(),
        direction: rule.direction.clone(),
        index: rule.index,
        description: rule.description.clone(),
        meaning,
        since: now,
        hits: 0,
        last: None,
    };
    // What it decided before anybody looked is told as a hit.
    Watched { age, seen: (0, 0) }
}

fn place(age: &RuleAge) -> (String, String, usize) {
    (age.group.clone(), age.direction.clone(), age.index)
}

/// A flow as a sum of one.
fn talk_of(flow: &FlowView) -> TalkView {
    let address = if flow.direction == "ingress" { flow.source } else { flow.destination };
    TalkView {
        verdict: flow.verdict.clone(),
        reason: flow.reason.clone(),
        direction: flow.direction.clone(),
        protocol: flow.protocol.clone(),
        port: flow.destination_port,
        icmp: flow.icmp,
        workload: flow.workload.clone(),
        labels: flow.labels.clone(),
        groups: flow.groups.clone(),
        peer: flow.peer.clone(),
        peer_labels: flow.peer_labels.clone(),
        peer_groups: flow.peer_groups.clone(),
        address: flow.peer.is_none().then_some(address),
        count: 1,
        first: flow.time,
        last: flow.time,
    }
}

fn key_of(talk: &TalkView) -> Key {
    Key {
        verdict: talk.verdict.clone(),
        reason: talk.reason.clone(),
        direction: talk.direction.clone(),
        protocol: talk.protocol.clone(),
        detail: talk.port.or_else(|| talk.icmp.map(|icmp| u16::from_be_bytes([icmp.kind, icmp.code]))),
        workload: talk.workload.clone(),
        peer: talk.peer.clone(),
        address: talk.address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::tests::denied;

    #[test]
    fn flows_of_one_kind_are_one_sum_with_its_first_and_last_time() {
        let mut tally = Tally::new(1.0);
        let flow = denied();
        tally.add(&flow);
        tally.add(&FlowView { time: flow.time + 5.0, source_port: Some(1), ..flow.clone() });
        tally.add(&FlowView { destination_port: Some(1), ..flow.clone() });
        let view = tally.view(9.0);
        let sums: Vec<_> = view.talks.iter().map(|talk| (talk.port, talk.count, talk.last - talk.first)).collect();
        assert_eq!(sums, [(Some(1), 1, 0.0), (Some(5432), 2, 5.0)]);
        assert_eq!((view.since, view.until, view.forgotten), (1.0, 9.0, 0));
        let mut again = Tally::new(7.0);
        again.restore(view.clone());
        assert_eq!(again.view(9.0), view);
    }

    #[test]
    fn a_full_tally_forgets_what_was_not_seen_for_longest_and_counts_it() {
        let mut tally = Tally::new(0.0);
        let flow = denied();
        let numbered = |number: usize| FlowView {
            destination_port: None,
            peer: Some(format!("peer-{number}")),
            time: number as f64,
            ..flow.clone()
        };
        (0..=MAX_TALKS).for_each(|number| tally.add(&numbered(number)));
        let view = tally.view(0.0);
        assert_eq!(view.talks.len() as u64 + view.forgotten, MAX_TALKS as u64 + 1);
        assert_eq!(view.forgotten, MAX_TALKS as u64 / 4);
        let has = |number: usize| view.talks.iter().any(|talk| talk.peer.as_deref() == Some(&format!("peer-{number}")));
        assert!(!has(0) && has(MAX_TALKS) && has(MAX_TALKS / 2));
    }

    #[test]
    fn a_rule_is_watched_from_when_it_says_what_it_says() {
        let mut tally = Tally::new(0.0);
        let mut names = crate::flow::record::tests::names();
        names.meanings.insert(9, 77);
        tally.note_hits(&[(9, 3)], &names, 10.0);
        tally.note_hits(&[(9, 3)], &names, 20.0);
        tally.note_hits(&[(9, 5)], &names, 30.0);
        let rule = |tally: &Tally| tally.view(0.0).rules[0].clone();
        assert_eq!((rule(&tally).hits, rule(&tally).last, rule(&tally).since), (5, Some(30.0), 10.0));
        let mut restarted = Tally::new(40.0);
        restarted.restore(tally.view(40.0));
        restarted.note_hits(&[(9, 6)], &names, 41.0);
        assert_eq!(
            (rule(&restarted).hits, rule(&restarted).last),
            (5, Some(30.0)),
            "whose hits those were is not known"
        );
        restarted.note_hits(&[(9, 7)], &names, 42.0);
        assert_eq!((rule(&restarted).hits, rule(&restarted).last), (6, Some(42.0)));
        names.meanings.insert(9, 78);
        restarted.note_hits(&[(9, 0)], &names, 50.0);
        assert_eq!((rule(&restarted).hits, rule(&restarted).last, rule(&restarted).since), (0, None, 50.0));
    }
}
