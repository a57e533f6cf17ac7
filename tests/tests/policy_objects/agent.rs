//! An agent's source and its writer of statuses, without a kernel.

use std::time::Duration;

use bulkhead::controller::{Event, PolicyLoad};
use bulkhead::metrics::kubernetes::KubernetesMetrics;
use bulkhead::source::kubernetes::{Access, Options, Pace, watch};
use bulkhead::source::policy_objects::PolicyObjects;
use bulkhead_tests::apiserver::ApiServer;
use tokio::sync::{mpsc, watch as watching};
use tokio::time::{Instant, timeout_at};

use super::PATIENCE;

/// Where agents say what is in force.
pub const NAMESPACE: &str = "bulkhead-system";

/// Quick, but for what is in force, which nobody counts meanwhile.
pub fn pace() -> Pace {
    Pace {
        first_wait: Duration::from_millis(20),
        longest_wait: Duration::from_millis(200),
        relist_spread: Duration::from_millis(50),
        page: 3,
        count: Duration::from_secs(3_600),
        ..Pace::default()
    }
}

/// An agent's source, and the policy that it told of last.
pub struct Agent {
    events: mpsc::Receiver<Event>,
    last: Option<PolicyLoad>,
    pub loads: usize,
    /// Whether what it judges takes force.
    pub enforces: bool,
    stop: watching::Sender<bool>,
}

impl Agent {
    pub fn start(server: &ApiServer, node: &str) -> Self {
        Self::start_at(server, node, pace())
    }

    pub fn start_at(server: &ApiServer, node: &str, pace: Pace) -> Self {
        let (sender, events) = mpsc::channel(1_024);
        let (stop, stopped) = watching::channel(false);
        let objects = PolicyObjects::new(&[]).expect("no files");
        let options = Options {
            access: Access::Kubeconfig(server.kubeconfig()),
            node_name: node.to_owned(),
            pace,
            policies: Some(objects.clone()),
            namespace: NAMESPACE.to_owned(),
        };
        tokio::spawn(objects.watch(sender.clone(), stopped.clone()));
        tokio::spawn(watch(options, KubernetesMetrics::default(), sender, stopped));
        Self { events, last: None, loads: 0, enforces: true, stop }
    }

    /// Listens until the groups are these.
    pub async fn until(&mut self, groups: &[&str]) {
        let end = Instant::now() + PATIENCE;
        while self.groups().is_none_or(|names| names != groups) {
            match timeout_at(end, self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                other => panic!("never {groups:?} but {:?}: {other:?}", self.groups()),
            }
        }
    }

    /// Listens for this long; says how many policies came.
    pub async fn during(&mut self, time: Duration) -> usize {
        let (before, end) = (self.loads, Instant::now() + time);
        while let Ok(Some(event)) = timeout_at(end, self.events.recv()).await {
            self.take(event);
        }
        self.loads - before
    }

    fn take(&mut self, event: Event) {
        if let Event::Policy(load) = event {
            self.last = Some(load);
            self.loads += 1;
            self.take_force();
        }
    }

    /// What was judged last takes force, unless nothing does.
    pub fn take_force(&mut self) {
        if let (true, Some(load)) = (self.enforces, &mut self.last) {
            load.objects.receipt.give();
        }
    }

    fn groups(&self) -> Option<Vec<&str>> {
        let policy = self.last.as_ref()?.result.as_ref().expect("objects are never refused as a whole");
        Some(policy.groups.iter().map(|group| group.name.as_str()).collect())
    }

    pub fn refused(&self) -> Vec<String> {
        self.last.iter().flat_map(|load| load.objects.refused.keys()).map(ToString::to_string).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
