//! Metrics for Prometheus: what the controller tells, what the kernel's maps say at each scrape, and the process itself.
//!
//! Reading never blocks the packet path or the controller. The tables of docs/metrics.md are made of the registry.

pub mod flow_log;
pub mod health;
mod kernel;
pub mod kubernetes;
pub mod listener;
pub(crate) mod process;
pub mod trail;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::controller::audit::REPAIRS;
use crate::flow::SharedNames;
use crate::kernel::Readings;
use crate::policy::objects::{ObjectKind, ObjectName, Refusal};
use crate::workload::SourceKind;

use kubernetes::KubernetesMetrics;

/// From a hundred microseconds to ten seconds.
const BUCKETS: [f64; 16] =
    [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Operations on the kernel that may fail, so that their counters exist before the first failure.
pub const KERNEL_OPERATIONS: [&str; 5] = ["attach", "delete", "flip", "read", "write"];

/// Every metric of the agent.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    workloads: IntGaugeVec,
    groups: IntGauge,
    generation: IntGauge,
    last_success: Gauge,
    reloads: IntCounterVec,
    problems: IntGauge,
    refused_objects: IntGaugeVec,
    resyncs: IntCounterVec,
    last_resync: GaugeVec,
    workload_apply: Histogram,
    policy_apply: Histogram,
    kernel_errors: IntCounterVec,
    repairs: IntCounterVec,
    kubernetes: KubernetesMetrics,
}

impl Metrics {
    /// All metrics at their start; `readings` is asked at every scrape, and the Kubernetes source counts with `kubernetes`.
    #[must_use]
    pub fn new(readings: Arc<dyn Readings>, names: SharedNames, kubernetes: KubernetesMetrics) -> Self {
        let metrics = Self::unread(kubernetes);
        metrics.add(kernel::KernelCollector::new(readings, names));
        metrics
    }

    /// The policy of this generation is in the kernel, `seconds` after it was seen.
    pub fn policy_applied(&self, generation: u32, seconds: f64) {
        self.reloads.with_label_values(&["applied"]).inc();
        self.generation.set(i64::from(generation));
        self.last_success.set(now());
        self.problems.set(0);
        self.policy_apply.observe(seconds);
    }

    /// The kernel's tables are of this generation now, though the policy files did not change.
    pub fn set_generation(&self, generation: u32) {
        self.generation.set(i64::from(generation));
    }

    /// A policy was refused with so many problems.
    pub fn policy_refused(&self, problems: usize) {
        self.reloads.with_label_values(&["refused"]).inc();
        self.problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }

    /// The objects of the Kubernetes API that are not in force as they were written.
    pub fn set_refused_objects(&self, refused: &BTreeMap<ObjectName, Refusal>) {
        for kind in ObjectKind::ALL {
            let count = refused.keys().filter(|name| name.kind == kind).count();
            self.refused_objects.with_label_values(&[kind.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A change of workloads is in the kernel, `seconds` after it was seen.
    pub fn workload_applied(&self, seconds: f64) {
        self.workload_apply.observe(seconds);
    }

    /// How many workloads each source knows; a source that is not named knows none.
    pub fn set_workloads(&self, by_source: &BTreeMap<SourceKind, u64>) {
        for source in SourceKind::ALL {
            let count = by_source.get(&source).copied().unwrap_or_default();
            self.workloads.with_label_values(&[source.as_str()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How many security groups are in force.
    pub fn set_groups(&self, groups: usize) {
        self.groups.set(i64::try_from(groups).unwrap_or(i64::MAX));
    }

    /// A source told of everything that exists.
    pub fn resynced(&self, source: SourceKind) {
        self.resyncs.with_label_values(&[source.as_str()]).inc();
        self.last_resync.with_label_values(&[source.as_str()]).set(now());
    }

    /// An operation on the kernel failed; see [`KERNEL_OPERATIONS`].
    pub fn kernel_error(&self, operation: &str) {
        self.kernel_errors.with_label_values(&[operation]).inc();
    }

    /// Something in the kernel was not as the agent had left it, and is again; see [`REPAIRS`].
    pub fn repaired(&self, what: &str, count: u64) {
        self.repairs.with_label_values(&[what]).inc_by(count);
    }

    /// Everything, in the text format.
    ///
    /// # Errors
    /// A collector that broke the format's rules: a fault in Bulkhead.
    pub fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Everything but what is read out of the kernel.
    fn unread(kubernetes: KubernetesMetrics) -> Self {
        let by_source = &["source"];
        let metrics = Self {
            registry: Registry::new(),
            workloads: valid(IntGaugeVec::new(
                Opts::new(
                    "bulkhead_workloads",
                    "Workloads that the agent knows, by the source that told of them first.",
                ),
                by_source,
            )),
            groups: valid(IntGauge::new("bulkhead_groups", "Security groups in force.")),
            generation: valid(IntGauge::new(
                "bulkhead_policy_generation",
                "Generation in force: it grows with every change that has flows judged again.",
            )),
            last_success: valid(Gauge::new(
                "bulkhead_policy_last_success_timestamp_seconds",
                "When policy files last took force, in seconds since the Unix epoch; 0 for never.",
            )),
            reloads: valid(IntCounterVec::new(
                Opts::new("bulkhead_policy_reloads_total", "Policy files read, by whether they took force."),
                &["result"],
            )),
            problems: valid(IntGauge::new(
                "bulkhead_policy_problems",
                "Problems of the policy files that were refused last; 0 when the newest files are in force.",
            )),
            refused_objects: valid(IntGaugeVec::new(
                Opts::new(
                    "bulkhead_policy_objects_refused",
                    "Objects of the Kubernetes API that are not in force as they were written, by kind.",
                ),
                &["kind"],
            )),
            resyncs: valid(IntCounterVec::new(
                Opts::new("bulkhead_source_resyncs_total", "Times that a source told of everything that exists."),
                by_source,
            )),
            last_resync: valid(GaugeVec::new(
                Opts::new(
                    "bulkhead_source_last_resync_timestamp_seconds",
                    "When a source last told of everything, in seconds since the Unix epoch; 0 for never.",
                ),
                by_source,
            )),
            workload_apply: histogram(
                "bulkhead_workload_apply_seconds",
                "Time from a workload event being seen to the kernel's maps holding it.",
            ),
            policy_apply: histogram(
                "bulkhead_policy_apply_seconds",
                "Time from an edit of the policy files being seen to it being in force.",
            ),
            kernel_errors: valid(IntCounterVec::new(
                Opts::new("bulkhead_kernel_errors_total", "Operations on the kernel's maps and programs that failed."),
                &["operation"],
            )),
            repairs: valid(IntCounterVec::new(
                Opts::new(
                    "bulkhead_repairs_total",
                    "What was not in the kernel as the agent had left it, and was mended: somebody else changed it.",
                ),
                &["what"],
            )),
            kubernetes,
        };
        metrics.start_at_zero();
        metrics.register();
        metrics
    }

    /// A series that appears with its first event has no increase to alert on.
    fn start_at_zero(&self) {
        for source in SourceKind::ALL.map(SourceKind::as_str) {
            self.workloads.with_label_values(&[source]);
            self.resyncs.with_label_values(&[source]);
            self.last_resync.with_label_values(&[source]);
        }
        for result in ["applied", "refused"] {
            self.reloads.with_label_values(&[result]);
        }
        for kind in ObjectKind::ALL {
            self.refused_objects.with_label_values(&[kind.as_str()]);
        }
        for operation in KERNEL_OPERATIONS {
            self.kernel_errors.with_label_values(&[operation]);
        }
        for what in REPAIRS {
            self.repairs.with_label_values(&[what]);
        }
    }

    fn register(&self) {
        self.add(self.workloads.clone());
        self.add(self.groups.clone());
        self.add(self.generation.clone());
        self.add(self.last_success.clone());
        self.add(self.reloads.clone());
        self.add(self.problems.clone());
        self.add(self.refused_objects.clone());
        self.add(self.resyncs.clone());
        self.add(self.last_resync.clone());
        self.add(self.workload_apply.clone());
        self.add(self.policy_apply.clone());
        self.add(self.kernel_errors.clone());
        self.add(self.repairs.clone());
        self.add(build_info());
        self.add(process::ProcessCollector::new(now()));
        for collector in self.kubernetes.collectors() {
            self.registry.register(collector).expect("every metric has a name of its own");
        }
    }

    fn add(&self, collector: impl Collector + 'static) {
        self.registry.register(Box::new(collector)).expect("every metric has a name of its own");
    }
}

fn histogram(name: &str, help: &str) -> Histogram {
    valid(Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec())))
}

fn build_info() -> IntGaugeVec {
    let opts = Opts::new("bulkhead_build_info", "The agent's version; always 1.");
    let info = valid(IntGaugeVec::new(opts, &["version"]));
    info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    info
}

/// Names and labels are literals of this module.
fn valid<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a name and labels that Prometheus accepts")
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
