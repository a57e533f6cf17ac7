//! How fast the API server is asked again: thousands of agents lose it at the same moment and must not come back at the same.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits and limits.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Before the first new attempt, up to twice that; each further one doubles it. As client-go's reflectors do.
    pub first_wait: Duration,
    /// The longest wait between attempts, up to twice that, unless the server asks for more.
    pub longest_wait: Duration,
    /// Lists that all agents need at once, after the server has forgotten what was before, are spread over this time.
    pub relist_spread: Duration,
    /// How long a watch lasts, up to twice that; then it is asked for again from where it was.
    pub watch: Duration,
    /// A watch that says nothing for so long, not even a bookmark (the server has one every minute), is asked for again:
    /// nobody else would notice a connection that is dead.
    pub silence: Duration,
    /// The same for any other answer.
    pub answer: Duration,
    /// Objects in a page of a list.
    pub page: u32,
    /// How often an agent says again what is in force on its node, up to a quarter later; thrice as long it counts.
    pub renew: Duration,
    /// How often it does at most, where that changes.
    pub report: Duration,
    /// How often what they say is counted at most; five times as long where nothing seems to have changed.
    pub count: Duration,
}

/// Reports of all agents together, in a second: a hundred.
const REPORT: Duration = Duration::from_millis(10);

impl Pace {
    /// How often each of so many agents tells what is in force at most.
    pub(in crate::source) fn between_reports(&self, nodes: usize) -> Duration {
        self.report.max(Self::spread(nodes))
    }

    /// Over what time they tell of what they all see at once.
    pub(in crate::source) fn spread(nodes: usize) -> Duration {
        REPORT.saturating_mul(u32::try_from(nodes).unwrap_or(u32::MAX))
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_millis(800),
            longest_wait: Duration::from_secs(30),
            relist_spread: Duration::from_secs(10),
            watch: Duration::from_secs(300),
            silence: Duration::from_secs(180),
            answer: Duration::from_secs(60),
            page: 500,
            renew: Duration::from_secs(120),
            report: Duration::from_secs(10),
            count: Duration::from_secs(60),
        }
    }
}

/// The waits between attempts that fail.
#[derive(Debug)]
pub(super) struct Backoff {
    pace: Pace,
    wait: Duration,
}

impl Backoff {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, wait: pace.first_wait }
    }

    /// What was asked for came.
    pub(super) fn reset(&mut self) {
        self.wait = self.pace.first_wait;
    }

    /// How long to wait before the next attempt: at least what the server asked for.
    pub(super) fn next(&mut self, asked_for: Option<Duration>) -> Duration {
        let wait = self.wait.max(asked_for.unwrap_or_default());
        self.wait = (self.wait * 2).min(self.pace.longest_wait);
        once_or_twice(wait)
    }
}

/// Some time from this to twice this.
pub(in crate::source) fn once_or_twice(time: Duration) -> Duration {
    time + up_to(time)
}

/// Some time up to this.
pub(in crate::source) fn up_to(time: Duration) -> Duration {
    // Every `RandomState` has other keys; nothing here needs better chance.
    #[expect(clippy::cast_possible_truncation, reason = "as many bits as are wanted")]
    let chance = RandomState::new().hash_one(()) as u32;
    time.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Pace::default());
        let mut least = Duration::from_millis(800);
        for _ in 0..12 {
            let wait = backoff.next(None);
            assert!(wait >= least && wait <= least * 2, "{wait:?} after {least:?}");
            least = (least * 2).min(Duration::from_secs(30));
        }
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(1_600));
    }

    #[test]
    fn a_server_that_asks_for_more_time_gets_it() {
        let wait = Backoff::new(Pace::default()).next(Some(Duration::from_secs(90)));
        assert!((90..=180).contains(&wait.as_secs()), "{wait:?}");
    }

    #[test]
    fn two_agents_rarely_wait_equally_long() {
        let waits: std::collections::BTreeSet<Duration> = (0..50).map(|_| up_to(Duration::from_secs(10))).collect();
        assert!(waits.len() > 40, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(10)));
    }
}
