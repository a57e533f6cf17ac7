//! How many flows a second reach the agent's log. The rest is counted, and the count is logged: nothing is lost in silence.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Admits so many a second.
#[derive(Debug)]
pub(super) struct Limit {
    per_second: u32,
    window: Instant,
    admitted: u32,
    suppressed: u64,
}

impl Limit {
    /// A limit that starts now.
    pub(super) const fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, window: now, admitted: 0, suppressed: 0 }
    }

    /// Whether one more may pass; one that may not is counted.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.window) >= SECOND {
            self.window = now;
            self.admitted = 0;
        }
        if self.admitted < self.per_second {
            self.admitted += 1;
            return true;
        }
        self.suppressed += 1;
        false
    }

    /// How many were not admitted since this was last asked, once their second is over.
    pub(super) fn suppressed(&mut self, now: Instant) -> Option<u64> {
        if self.suppressed == 0 || now.saturating_duration_since(self.window) < SECOND {
            return None;
        }
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_pass_and_the_rest_is_told_once_when_the_second_is_over() {
        let start = Instant::now();
        let mut limit = Limit::new(2, start);
        assert_eq!([0, 1, 2, 3].map(|_| limit.admit(start)), [true, true, false, false]);
        assert_eq!(limit.suppressed(start), None);
        let later = start + SECOND;
        assert_eq!(limit.suppressed(later), Some(2));
        assert_eq!(limit.suppressed(later), None);
        assert!(limit.admit(later));
    }
}
