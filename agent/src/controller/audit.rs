//! Holding the kernel against the desired state, whether or not anything was heard.
//!
//! Sources say what changed in the world; that somebody else changed what the agent wrote, nobody says. So it looks, every
//! two seconds, and mends, counts and tells every difference.

use std::time::{Duration, Instant};

use super::Controller;

/// How often.
const PERIOD: Duration = Duration::from_secs(2);

/// What was mended, by the label that it has in metrics.
pub const REPAIRS: [&str; 3] = ["attachment", "entry", "pin"];

/// When it was looked last, and what was mended since the agent started.
#[derive(Debug, Default)]
pub(super) struct Audit {
    last: Option<Instant>,
    pub(super) repairs: u64,
}

impl Controller {
    /// Looks and mends, if it is time.
    pub(super) fn audit(&mut self) {
        if self.audit.last.is_some_and(|last| last.elapsed() < PERIOD) {
            return;
        }
        self.audit.last = Some(Instant::now());
        match self.kernel.tables.audit() {
            Ok(differences) => {
                for (map, count) in differences {
                    self.mended("entry", count, &format!("the map {map} was changed by somebody else"));
                }
            }
            Err(error) => self.fail("read", &error.into()),
        }
        match self.kernel.attachments.audit() {
            Ok(findings) => {
                for pin in findings.pins {
                    let what = format!("the pin {} was removed or replaced by somebody else", pin.display());
                    self.mended("pin", 1, &what);
                }
                if findings.detached.is_empty() {
                    return;
                }
                if let Err(error) = self.kernel.attachments.attach_cgroup_again() {
                    self.fail("attach", &error.into());
                }
                self.attach();
                self.tell_health();
                for program in findings.detached {
                    self.mended("attachment", 1, &format!("{program} was detached or replaced by somebody else"));
                }
            }
            Err(error) => self.fail("attach", &error.into()),
        }
    }

    fn mended(&mut self, what: &'static str, count: u64, story: &str) {
        self.audit.repairs += count;
        self.audience.metrics.repaired(what, count);
        self.audience.metrics.set_generation(self.kernel.tables.generation());
        self.trail_said("kernel", "repaired", format!("{story} ({count})"));
        tracing::warn!(target: "bulkhead::audit", count, "{story}: the agent puts it back, and nobody else should write there");
    }
}
