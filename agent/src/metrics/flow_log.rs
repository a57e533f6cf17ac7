//! What became of the lines of the flow log.

use prometheus::IntCounter;

use super::{Metrics, valid};

/// Counts of the flow log; clones count together.
#[derive(Clone, Debug)]
pub struct FlowLogMetrics {
    /// Lines on their way to the disk.
    pub written: IntCounter,
    /// Lines that are missing.
    pub missed: IntCounter,
}

impl Default for FlowLogMetrics {
    fn default() -> Self {
        let counter = |name: &str, help: &str| valid(IntCounter::new(name, help));
        Self {
            written: counter("bulkhead_flow_log_lines_total", "Flows that were written to the flow log."),
            missed: counter(
                "bulkhead_flow_log_missed_total",
                "Flows that the flow log has not: more came than could be written, or the disk refused.",
            ),
        }
    }
}

impl Metrics {
    /// Serves the flow log's counts, too.
    pub fn add_flow_log(&self, counts: &FlowLogMetrics) {
        self.add(counts.written.clone());
        self.add(counts.missed.clone());
    }
}
