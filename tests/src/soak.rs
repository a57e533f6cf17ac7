//! What must hold on the worst day, for as long as one likes: each theme in a file of its own, in a short form in the tests and
//! in a long form under `cargo xtask soak`.
//!
//! - [`kills`]: the agent is killed again and again, at any moment and with work in hand
//! - [`upgrades`]: to a build of another layout and back, interrupted
//! - [`newcomers`]: programs in fresh cgroups, whose first act is to connect
//! - [`floods`]: SYNs, datagrams and new flows by the hundred thousand, while connections go on
//! - [`events`]: more denials than the agent is told of
//! - [`full`]: more flows, cgroups and addresses than tables hold
//! - [`churn`]: workloads that come and go, ten thousand a minute
//! - [`edits`]: a policies' directory that is rewritten without a pause
//! - [`limits`]: an agent that lacks descriptors, memory, disk or notices
//! - [`contents`]: what the kernel's maps hold, in words that outlive an agent's numbers
//!
//! A theme fails by panicking where a promise is broken, as a test does, and tells its figures otherwise.

pub mod churn;
pub mod contents;
pub mod edits;
pub mod events;
pub mod floods;
pub mod full;
pub mod kills;
pub mod limits;
pub mod newcomers;
mod scene;
pub mod upgrades;

use std::time::{Duration, Instant};

use crate::bench::Figure;

/// A theme: for how long, and what was seen.
pub type Theme = fn(Effort) -> Vec<Figure>;

/// All themes, in the order in which they run.
pub const THEMES: &[(&str, Theme)] = &[
    ("kills", kills::run),
    ("upgrades", upgrades::run),
    ("newcomers", newcomers::run),
    ("floods", floods::run),
    ("events", events::run),
    ("full", full::run),
    ("churn", churn::run),
    ("edits", edits::run),
    ("limits", limits::run),
];

/// How long a theme goes on. Each has something that it does at least once.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// It begins nothing new after this time.
    pub time: Duration,
}

impl Effort {
    /// As the tests run it.
    pub const SHORT: Self = Self { time: Duration::from_secs(6) };

    /// When the time is over.
    #[must_use]
    pub fn deadline(self) -> Instant {
        Instant::now() + crate::check::slowed(self.time)
    }
}
