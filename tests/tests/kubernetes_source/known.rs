//! What somebody knows who listens to the source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bulkhead::controller::Event;
use bulkhead::flow::SharedNames;
use bulkhead::kernel::Readings;
use bulkhead::metrics::Metrics;
use bulkhead::metrics::kubernetes::KubernetesMetrics;
use bulkhead::source::kubernetes::{Access, Options, Pace, watch};
use bulkhead::source::{Change, Fact, NamespaceFact, NodeFact, PodFact, ServiceFact, Told};
use bulkhead::view::MapView;
use bulkhead_ebpf::abi::{Count, Hook, Reason, Verdict};
use bulkhead_tests::apiserver::ApiServer;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch as watching};
use tokio::time::{Instant, timeout, timeout_at};

/// The node that the source runs on.
pub const HERE: &str = "n1";
/// Long enough for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// The source, running, and what it told.
pub struct Known {
    pub pods: BTreeMap<String, PodFact>,
    pub namespaces: BTreeMap<String, NamespaceFact>,
    pub nodes: BTreeMap<String, NodeFact>,
    pub services: BTreeMap<String, ServiceFact>,
    /// How often all pods were told.
    pub pod_lists: usize,
    /// How often something was told.
    pub told: usize,
    events: mpsc::Receiver<Event>,
    metrics: Metrics,
    stop: watching::Sender<bool>,
}

/// A pace at which tests don't wait long.
pub fn quick() -> Pace {
    Pace {
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(200),
        relist_spread: Duration::from_millis(50),
        page: 3,
        ..Pace::default()
    }
}

impl Known {
    /// Starts the source on a server's kubeconfig.
    pub fn start(server: &ApiServer) -> Self {
        Self::start_with(Access::Kubeconfig(server.kubeconfig()), quick())
    }

    pub fn start_with(access: Access, pace: Pace) -> Self {
        let namespace = String::new();
        Self::start_as(Options { access, node_name: HERE.to_owned(), pace, policies: None, namespace })
    }

    pub fn start_as(options: Options) -> Self {
        let (sender, events) = mpsc::channel(1_024);
        let (stop, stopped) = watching::channel(false);
        let counted = KubernetesMetrics::default();
        let metrics = Metrics::new(Arc::new(NoKernel), SharedNames::default(), counted.clone());
        tokio::spawn(watch(options, counted, sender, stopped));
        Self {
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            pod_lists: 0,
            told: 0,
            events,
            metrics,
            stop,
        }
    }

    /// Listens until it is so.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) {
            // Metrics change without a word.
            let step = (Instant::now() + Duration::from_millis(10)).min(end);
            match timeout_at(step, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!("the source ended before: {what}"),
                Err(_) => assert!(Instant::now() < end, "never: {what}; {:#?}", self.pods),
            }
        }
    }

    /// Listens for this long and says how often something was told.
    pub async fn during(&mut self, time: Duration) -> usize {
        let (before, end) = (self.told, Instant::now() + time);
        while let Ok(event) = timeout_at(end, self.events.recv()).await {
            self.take(event.expect("the source goes on"));
        }
        self.told - before
    }

    /// Listens until all pods of the server are told, and no others, by their names.
    pub async fn until_pods(&mut self, names: &[&str]) {
        let what = format!("the pods are {names:?}");
        self.until(&what, |known| known.pod_lists > 0 && known.pods.keys().eq(names)).await;
    }

    /// Listens until every kind was told and is watched.
    pub async fn until_settled(&mut self, server: &ApiServer) {
        self.until("all kinds are told and watched", |known| known.told >= 4 && server.watches() == 5).await;
    }

    /// The value of a series; 0 where it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.text().expect("the text format");
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or_default()
    }

    /// How often something failed for this reason, over all kinds.
    pub fn errors(&self, reason: &str) -> f64 {
        let of = |kind| format!(r#"bulkhead_kubernetes_errors_total{{kind="{kind}",reason="{reason}"}}"#);
        ["endpointslices", "namespaces", "nodes", "pods", "services"].map(|kind| self.metric(&of(kind))).iter().sum()
    }

    /// Stops the source and sees it end.
    pub async fn stop(mut self) {
        self.stop.send(true).expect("the source listens");
        let ended = async { while self.events.recv().await.is_some() {} };
        timeout(PATIENCE, ended).await.expect("the source ends when it shall");
    }

    fn take(&mut self, event: Event) {
        let Event::Fact(Fact { change, .. }) = event else { panic!("no fact: {event:?}") };
        self.told += 1;
        match change {
            Change::Pods(told) => {
                self.pod_lists += usize::from(matches!(told, Told::All(_)));
                fold(&mut self.pods, told, |fact| &fact.name);
            }
            Change::Namespaces(told) => fold(&mut self.namespaces, told, |fact| &fact.name),
            Change::Nodes(told) => fold(&mut self.nodes, told, |fact| &fact.name),
            Change::Services(told) => fold(&mut self.services, told, |fact| &fact.name),
            other => panic!("not the source's: {other:?}"),
        }
    }
}

fn fold<T>(known: &mut BTreeMap<String, T>, told: Told<T>, name: impl Fn(&T) -> &String) {
    match told {
        Told::All(all) => *known = all.into_iter().map(|fact| (name(&fact).clone(), fact)).collect(),
        Told::One(fact) => drop(known.insert(name(&fact).clone(), fact)),
        Told::Gone(name) => drop(known.remove(&name)),
    }
}

/// A pod that runs: `NAMESPACE/NAME`, where, and with which address.
pub fn pod(name: &str, node: &str, address: &str) -> Value {
    let (namespace, name) = name.split_once('/').expect("NAMESPACE/NAME");
    json!({
        "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}"), "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example.test/main:1"}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    })
}

/// An object without more than a name.
pub fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

struct NoKernel;

impl Readings for NoKernel {
    fn counts(&self) -> Vec<(Hook, Verdict, Reason, Count)> {
        Vec::new()
    }

    fn rule_hits(&self) -> Vec<(u32, u64)> {
        Vec::new()
    }

    fn maps(&self) -> Vec<MapView> {
        Vec::new()
    }

    fn events_lost(&self) -> u64 {
        0
    }
}
