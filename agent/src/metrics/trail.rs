//! What became of the entries of the audit trail.

use prometheus::IntCounter;

use super::{Metrics, valid};

/// Counts of the trail; clones count together.
#[derive(Clone, Debug)]
pub struct TrailMetrics {
    /// Entries that are on the disk.
    pub entries: IntCounter,
    /// Happenings that are missing.
    pub missed: IntCounter,
}

impl Default for TrailMetrics {
    fn default() -> Self {
        let counter = |name: &str, help: &str| valid(IntCounter::new(name, help));
        Self {
            entries: counter("bulkhead_trail_entries_total", "Entries that were written to the audit trail."),
            missed: counter(
                "bulkhead_trail_missed_total",
                "Happenings that the audit trail has not: more came than could be written, or the disk refused.",
            ),
        }
    }
}

impl Metrics {
    /// Serves the trail's counts, too.
    pub fn add_trail(&self, counts: &TrailMetrics) {
        self.add(counts.entries.clone());
        self.add(counts.missed.clone());
    }
}
