//! The Kubernetes source: pods, namespaces, nodes and services, by word of the API server.
//!
//! Each kind is listed in pages and watched from there on; `follow` says how. Objects are read one by one into just what
//! is told of them and let go: nothing of a pod, a namespace or a node is kept here, of services what joins them with
//! their back ends. While the server can't be reached nothing is told, so the last known state stays in force.

mod address;
mod client;
mod cluster;
mod complaint;
mod endpoint;
mod follow;
mod object;
mod pace;
mod pod;
mod policy;
mod read;
mod service;
mod trouble;
mod wire;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures::future::{OptionFuture, join_all};
use tokio::sync::{mpsc, watch};

use crate::controller::Event;
use crate::metrics::kubernetes::{KubernetesMetrics, POLICIES, WORKLOADS};
use crate::policy::objects::ObjectKind;
use crate::source::policy_objects::PolicyObjects;
use crate::source::policy_objects::status::{self, Writer};
use crate::source::{Change, NodeFact, Told};
use crate::surface::stopped;

pub use client::Access;
pub use pace::Pace;
pub(in crate::source) use pace::{once_or_twice, up_to};
pub(in crate::source) use trouble::Trouble;

use client::Connection;
use cluster::{Namespaces, Nodes};
use endpoint::EndpointSlices;
use follow::follow;
use pod::Pods;
use policy::Policies;
use service::{Balanced, News, Services};

/// What the source needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to reach the API server.
    pub access: Access,
    /// This host's name as a node: its pods are local.
    pub node_name: String,
    /// How fast to ask again.
    pub pace: Pace,
    /// Who is told of policy objects; `None` where files alone count.
    pub policies: Option<PolicyObjects>,
    /// Where the agents say what is in force on their nodes.
    pub namespace: String,
}

/// Where requests go, what is counted of them, and who is told.
#[derive(Debug)]
pub(in crate::source) struct Server {
    connection: Connection,
    metrics: KubernetesMetrics,
    pub(in crate::source) pace: Pace,
    events: mpsc::Sender<Event>,
}

/// Tells of pods, namespaces, nodes and services until `stop` turns true or nobody listens any more.
pub async fn watch(
    options: Options,
    metrics: KubernetesMetrics,
    events: mpsc::Sender<Event>,
    stop: watch::Receiver<bool>,
) {
    let policies = options.policies;
    metrics.started(&WORKLOADS);
    if policies.is_some() {
        metrics.started(&POLICIES);
    }
    let connection = Connection::new(options.access);
    let server = Server { connection, metrics, pace: options.pace, events: events.clone() };
    let pods = Pods::new(options.node_name.clone());
    let nodes = watch::Sender::default();
    // Never held while something is awaited.
    let balanced = Mutex::new(Balanced::default());
    let balanced = || balanced.lock().unwrap_or_else(PoisonError::into_inner);
    let services = |news: News| news.into_iter().map(Change::Services).collect();
    let statuses = policies.clone().map(|objects| {
        let (node, namespace) = (options.node_name, options.namespace);
        status::write(Writer { objects, node, namespace, nodes: nodes.subscribe(), server: &server }, stop.clone())
    });
    let policies =
        policies.iter().flat_map(|policies| ObjectKind::ALL.map(|kind| (policies, Policies(kind)))).collect::<Vec<_>>();
    let everything = async {
        tokio::join!(
            // A pod has no labels of its namespace's before the namespace is told; who asks first is answered first.
            follow(&Namespaces, &server, |told| vec![Change::Namespaces(told)]),
            follow(&pods, &server, |told| vec![Change::Pods(told)]),
            follow(&Nodes, &server, |told| {
                nodes.send_if_modified(|names| note_nodes(names, &told));
                vec![Change::Nodes(told)]
            }),
            follow(&Services, &server, |told| services(balanced().tell_services(told))),
            follow(&EndpointSlices, &server, |told| services(balanced().tell_slices(told))),
            OptionFuture::from(statuses),
            join_all(policies.iter().map(|(objects, kind)| {
                follow(kind, &server, |told| {
                    objects.tell(Instant::now(), kind.0, told);
                    Vec::new()
                })
            })),
        )
    };
    tokio::select! {
        _closed = everything => {}
        () = events.closed() => {}
        () = stopped(stop) => {}
    }
}

/// Notes the names of all nodes; says whether they are others than before.
fn note_nodes(names: &mut BTreeSet<String>, told: &Told<NodeFact>) -> bool {
    match told {
        Told::All(all) => {
            let all = all.iter().map(|node| node.name.clone()).collect();
            std::mem::replace(names, all) != *names
        }
        Told::One(node) => names.insert(node.name.clone()),
        Told::Gone(name) => names.remove(name),
    }
}
