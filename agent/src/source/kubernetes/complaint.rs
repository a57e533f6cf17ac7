//! What to say of objects that make no sense, without saying it a thousand times.

use std::time::{Duration, Instant};

/// The least time between two messages of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// Says the first and then one a minute, with the number of those that went unsaid.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Whether to speak at `now`, and how many were not spoken of since the last time.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_is_said_and_the_others_are_counted() {
        let mut complaints = Complaints::default();
        let now = Instant::now();
        let seconds = |seconds| now + Duration::from_secs(seconds);
        let said: Vec<_> = [0, 1, 59, 60, 61, 121].into_iter().map(|at| complaints.due(seconds(at))).collect();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
