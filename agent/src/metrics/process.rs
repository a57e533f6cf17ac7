//! The agent as a process, under the names that Prometheus' own client libraries use.
//!
//! What /proc does not say is left out of the scrape.

use std::collections::HashMap;
use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

use super::kernel::family;

const START: (&str, &str) = ("process_start_time_seconds", "Start of the agent, in seconds since the Unix epoch.");
const CPU: (&str, &str) = ("process_cpu_seconds_total", "User and system CPU time that the agent spent, in seconds.");
const RESIDENT: (&str, &str) = ("process_resident_memory_bytes", "Resident memory of the agent, in bytes.");
const VIRTUAL: (&str, &str) = ("process_virtual_memory_bytes", "Virtual memory of the agent, in bytes.");
const THREADS: (&str, &str) = ("process_threads", "Threads of the agent.");
const OPEN_FILES: (&str, &str) = ("process_open_fds", "File descriptors that the agent has open.");
const MOST_FILES: (&str, &str) = ("process_max_fds", "File descriptors that the agent may have open.");

/// Reads /proc/self when Prometheus asks.
pub(super) struct ProcessCollector {
    started: f64,
    descriptions: Vec<Desc>,
}

impl ProcessCollector {
    /// A process that started at `started`, in seconds since the Unix epoch.
    pub(super) fn new(started: f64) -> Self {
        let describe = |(name, help): (&str, &str)| {
            Desc::new(name.to_owned(), help.to_owned(), Vec::new(), HashMap::new())
                .expect("literals that Prometheus accepts")
        };
        Self {
            started,
            descriptions: [START, CPU, RESIDENT, VIRTUAL, THREADS, OPEN_FILES, MOST_FILES].map(describe).into(),
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok();
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
        let cpu = cpu.map(|time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9);
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
        let number = |of: io::Result<u64>| of.ok().map(|number| number as f64);
        [
            gauge(START, Some(self.started)),
            counter(CPU, cpu),
            gauge(RESIDENT, field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024.0)),
            gauge(VIRTUAL, field(&status, "VmSize:").map(|kibibytes| kibibytes * 1024.0)),
            gauge(THREADS, field(&status, "Threads:")),
            gauge(OPEN_FILES, number(open_files())),
            gauge(MOST_FILES, number(most_files())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// File descriptors that are open.
///
/// # Errors
/// There is none left to look with, or no /proc.
pub(crate) fn open_files() -> io::Result<u64> {
    // The directory that is being read is open as well.
    fs::read_dir("/proc/self/fd").map(|entries| entries.count().saturating_sub(1) as u64)
}

/// File descriptors that may be open.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn most_files() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// The number after `name` in /proc/self/status.
fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn gauge(named: (&str, &str), value: Option<f64>) -> Option<MetricFamily> {
    let mut gauge = Gauge::default();
    gauge.set_value(value?);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    Some(family(named, MetricType::GAUGE, vec![metric]))
}

fn counter(named: (&str, &str), value: Option<f64>) -> Option<MetricFamily> {
    let mut counter = Counter::default();
    counter.set_value(value?);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    Some(family(named, MetricType::COUNTER, vec![metric]))
}
