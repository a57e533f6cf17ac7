//! Waiting for what must become true, with everything there is to know when it does not.

use std::env;
use std::fmt::{Debug, Display};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// How long something may take to become true: far longer than it takes, so that a busy machine fails no test.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How many times slower than a real machine this one is, as the environment says where another kernel runs in emulation.
pub const SLOWNESS: &str = "BULKHEAD_TEST_SLOWNESS";

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// A time-out as it has to be on this machine.
///
/// # Panics
/// [`SLOWNESS`] is set and no number.
#[must_use]
pub fn slowed(time_out: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    let factor = FACTOR.get_or_init(|| env::var(SLOWNESS).map_or(1, |text| text.parse().expect("a number")));
    time_out * *factor
}

/// Whether this is another kernel in emulation.
#[must_use]
pub fn is_emulated() -> bool {
    env::var_os(SLOWNESS).is_some()
}

/// Looks until there is something to see.
///
/// # Panics
/// There is nothing within [`DEADLINE`], [`slowed`]; the message says what was awaited and holds `dump`.
pub fn eventually<T, D: Display>(what: &str, dump: impl FnOnce() -> D, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + slowed(DEADLINE);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        if Instant::now() >= deadline {
            panic!("not within {} s: {what}\n{}", slowed(DEADLINE).as_secs(), dump());
        }
        thread::sleep(INTERVAL);
    }
}

/// Collects what differs from what was expected, so that one run tells of all of it.
#[derive(Debug, Default)]
pub struct Differences {
    cases: usize,
    found: Vec<String>,
}

impl Differences {
    /// Takes one case; `what` is a sentence.
    pub fn case<T: PartialEq + Debug>(&mut self, what: impl Display, expected: &T, seen: &T) {
        self.holds(format!("{what}: expected {expected:?}, seen {seen:?}"), expected == seen);
    }

    /// Takes one case that holds or does not.
    pub fn holds(&mut self, what: impl Display, holds: bool) {
        self.cases += 1;
        if !holds {
            self.found.push(what.to_string());
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Ends the test.
    ///
    /// # Panics
    /// There are differences, or there was no case at all.
    pub fn end<D: Display>(self, dump: impl FnOnce() -> D) {
        assert!(self.cases > 0, "no case was tried");
        if !self.found.is_empty() {
            panic!("{} of {} cases differ:\n  {}\n{}", self.found.len(), self.cases, self.found.join("\n  "), dump());
        }
    }
}
