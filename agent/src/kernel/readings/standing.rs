//! Which flows live, of those in the kernel's tables.

use std::collections::HashMap;
use std::io;
use std::sync::PoisonError;
use std::time::Instant;

use bulkhead_ebpf::abi::{End, Flow, FlowKey, State};

use super::KernelReadings;

/// After a FIN or RST the other end has so many seconds for a last word.
const LAST_WORD: u64 = 2;

/// Whether a flow lives, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It goes on.
    Lives,
    /// By FIN.
    Closed,
    /// By RST.
    Reset,
    /// It was idle beyond its time-out.
    Idle,
    /// Its entry gave way in a full table.
    Evicted,
}

impl Standing {
    /// The word in the flow log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lives => "lives",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
        }
    }
}

/// The flows of both tables at one moment.
#[derive(Debug)]
pub struct Standings(HashMap<FlowKey, (Standing, End)>);

impl Standings {
    /// How a flow stands, and who opened it where that is known.
    #[must_use]
    pub fn of(&self, key: &FlowKey) -> (Standing, Option<End>) {
        self.0.get(key).map_or((Standing::Evicted, None), |(how, end)| (*how, Some(*end)))
    }
}

impl KernelReadings {
    /// How every flow stands. What time it is shows in the newest packet of all, and in how long ago that was first seen.
    ///
    /// # Errors
    /// The kernel refuses to read a table.
    pub fn standing(&self) -> io::Result<Standings> {
        let (mut newest, mut flows) = (0, Vec::new());
        // A flow that is established is in the other table for a moment longer: what comes later counts.
        for table in [&self.embryos, &self.flows] {
            table.each(|key, flow| {
                newest = newest.max(flow.seen);
                flows.push((key, flow));
            })?;
        }
        let hz = u64::from(self.settings.hz);
        let now = self.now(newest);
        let standing = |key: &FlowKey, flow: &Flow| {
            let idle = now.saturating_sub(flow.seen);
            let is_over = idle > u64::from(Flow::time_out(&self.settings, key.protocol(), flow.course.state()));
            match flow.course.state() {
                State::Closing if idle >= LAST_WORD * hz => Standing::Closed,
                State::Reset if idle >= LAST_WORD * hz => Standing::Reset,
                _ if is_over => Standing::Idle,
                _ => Standing::Lives,
            }
        };
        Ok(Standings(flows.iter().map(|(key, flow)| (*key, (standing(key, flow), flow.course.initiator()))).collect()))
    }

    /// The kernel's jiffies, from the newest packet that is known: right to a second, as a packet's time is.
    fn now(&self, newest: u64) -> u64 {
        let mut known = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest > known.0 {
            *known = (newest, Instant::now());
        }
        known.0 + known.1.elapsed().as_secs() * u64::from(self.settings.hz)
    }
}
