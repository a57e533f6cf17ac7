//! What the Kubernetes source asks of the API server, and what comes of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

use super::valid;

/// Kinds of objects that tell of workloads, by their names in the API.
pub const WORKLOADS: [&str; 5] = ["endpointslices", "namespaces", "nodes", "pods", "services"];
/// Kinds of objects that are policy.
pub const POLICIES: [&str; 4] = ["addressgroups", "guardrails", "networkpolicies", "securitygroups"];

/// The objects that tell what is in force on which node: asked for and written now and then.
pub const REPORTS: &str = "leases";

/// Every kind that is followed.
fn kinds() -> impl Iterator<Item = &'static str> {
    WORKLOADS.into_iter().chain(POLICIES)
}

const AGE: (&str, &str) = (
    "bulkhead_kubernetes_age_seconds",
    "Seconds since the API server last told of this kind: a list, a change, a bookmark or a watch granted. 0 where it is not asked for.",
);

/// A request, by what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A page of a list.
    List,
    /// A watch.
    Watch,
    /// One object.
    Get,
    /// A new object.
    Create,
    /// A change of one object, or of its status.
    Patch,
}

impl Verb {
    const ALL: [Self; 5] = [Self::List, Self::Watch, Self::Get, Self::Create, Self::Patch];

    const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
            Self::Get => "get",
            Self::Create => "create",
            Self::Patch => "patch",
        }
    }
}

/// Why the API server's word was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The kubeconfig or the service account can't be read.
    Access,
    /// An address or a protocol within an object makes no sense.
    Address,
    /// It can't be reached, the connection broke, or it fell silent.
    Connection,
    /// 403.
    Forbidden,
    /// 410, as an answer or in a watch.
    Gone,
    /// An object that can't be read as its kind.
    Object,
    /// What came is no list or no news.
    Protocol,
    /// Any other status that is no success.
    Server,
    /// 429.
    Throttled,
    /// 401.
    Unauthorized,
}

impl Reason {
    const ALL: [Self; 10] = [
        Self::Access,
        Self::Address,
        Self::Connection,
        Self::Forbidden,
        Self::Gone,
        Self::Object,
        Self::Protocol,
        Self::Server,
        Self::Throttled,
        Self::Unauthorized,
    ];

    /// The name in the metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Address => "address",
            Self::Connection => "connection",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::Object => "object",
            Self::Protocol => "protocol",
            Self::Server => "server",
            Self::Throttled => "throttled",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// Every metric of the source. Clones count together.
#[derive(Clone, Debug)]
pub struct KubernetesMetrics {
    ages: Ages,
    objects: IntGaugeVec,
    requests: IntCounterVec,
    received: IntCounterVec,
    errors: IntCounterVec,
}

impl KubernetesMetrics {
    /// The source begins: what it knows of these kinds grows older from now on.
    pub fn started(&self, kinds: &[&'static str]) {
        let mut heard = self.ages.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in kinds {
            heard.insert(kind, Instant::now());
        }
    }

    /// The server told of a kind, of which there are so many.
    pub fn heard(&self, kind: &'static str, objects: usize) {
        self.ages.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, Instant::now());
        self.objects.with_label_values(&[kind]).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    /// A request was sent.
    pub fn requested(&self, kind: &str, verb: Verb) {
        self.requests.with_label_values(&[kind, verb.as_str()]).inc();
    }

    /// So many bytes of an answer came.
    pub fn received(&self, kind: &str, bytes: usize) {
        self.received.with_label_values(&[kind]).inc_by(bytes as u64);
    }

    /// The server's word was none.
    pub fn failed(&self, kind: &str, reason: Reason) {
        self.errors.with_label_values(&[kind, reason.as_str()]).inc();
    }

    /// Everything, for a registry.
    pub fn collectors(&self) -> [Box<dyn Collector>; 5] {
        [
            Box::new(self.ages.clone()),
            Box::new(self.objects.clone()),
            Box::new(self.requests.clone()),
            Box::new(self.received.clone()),
            Box::new(self.errors.clone()),
        ]
    }
}

impl Default for KubernetesMetrics {
    /// All at their start.
    fn default() -> Self {
        let counter = |name, help, labels: &[&str]| valid(IntCounterVec::new(Opts::new(name, help), labels));
        let objects = Opts::new("bulkhead_kubernetes_objects", "Objects that the API server told of and that exist.");
        let metrics = Self {
            ages: Ages::new(),
            objects: valid(IntGaugeVec::new(objects, &["kind"])),
            requests: counter(
                "bulkhead_kubernetes_requests_total",
                "Requests to the API server, by what was asked for; `list` counts pages.",
                &["kind", "verb"],
            ),
            received: counter(
                "bulkhead_kubernetes_received_bytes_total",
                "Bytes of the API server's answers, without headers and encryption.",
                &["kind"],
            ),
            errors: counter(
                "bulkhead_kubernetes_errors_total",
                "Answers that failed or did not come, and objects that make no sense.",
                &["kind", "reason"],
            ),
        };
        kinds().for_each(|kind| drop(metrics.objects.with_label_values(&[kind])));
        for kind in kinds().chain([REPORTS]) {
            metrics.received.with_label_values(&[kind]);
            for verb in Verb::ALL {
                metrics.requests.with_label_values(&[kind, verb.as_str()]);
            }
            for reason in Reason::ALL {
                metrics.errors.with_label_values(&[kind, reason.as_str()]);
            }
        }
        metrics
    }
}

/// When each kind was last heard of; the age is reckoned at each scrape.
#[derive(Clone, Debug)]
struct Ages {
    heard: Arc<Mutex<BTreeMap<&'static str, Instant>>>,
    description: Desc,
}

impl Ages {
    fn new() -> Self {
        let (name, help) = AGE;
        let description = Desc::new(name.to_owned(), help.to_owned(), vec!["kind".to_owned()], HashMap::new());
        Self { heard: Arc::default(), description: valid(description) }
    }
}

impl Collector for Ages {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let series = kinds().map(|kind| {
            let mut label = LabelPair::default();
            label.set_name("kind".to_owned());
            label.set_value(kind.to_owned());
            let mut gauge = Gauge::default();
            gauge.set_value(heard.get(kind).map_or(0.0, |heard| heard.elapsed().as_secs_f64()));
            let mut metric = Metric::from_label(vec![label]);
            metric.set_gauge(gauge);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(AGE.0.to_owned());
        family.set_help(AGE.1.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(series.collect());
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_grows_older_until_it_is_heard_of() {
        let metrics = KubernetesMetrics::default();
        let age = || {
            let family = metrics.ages.collect().remove(0);
            let pods = family.get_metric().iter().find(|it| it.get_label()[0].value() == "pods").cloned();
            pods.expect("pods have an age").get_gauge().get_value()
        };
        assert!(age() <= 0.0, "nobody asks");
        metrics.started(&WORKLOADS);
        std::thread::sleep(std::time::Duration::from_millis(20));
        let waited = age();
        assert!(waited >= 0.02, "{waited}");
        metrics.heard("pods", 3);
        assert!(age() < waited);
        assert_eq!(metrics.objects.with_label_values(&["pods"]).get(), 3);
    }
}
