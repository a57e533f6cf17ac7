//! On how many nodes an object is in force: each agent tells of its own, and one of them counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bulkhead::source::kubernetes::Pace;
use bulkhead_tests::apiserver::{ApiServer, Asked, NODE, Resource, Verb};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::agent::{Agent, NAMESPACE, pace};
use super::{SECURITY_GROUP, group, until_said};

const LEASE: Resource = Resource::new("coordination.k8s.io", "v1", "leases", "Lease");
/// Far longer than any of it takes.
const LONG: Duration = Duration::from_secs(60);

fn quick() -> Pace {
    Pace {
        renew: Duration::from_secs(2),
        report: Duration::from_millis(200),
        count: Duration::from_secs(1),
        page: 500,
        ..pace()
    }
}

/// An agent that runs until it is dropped.
struct Running {
    task: JoinHandle<()>,
    /// What it judges takes force while this is true.
    enforces: Arc<AtomicBool>,
}

impl Running {
    fn start(server: &ApiServer, node: &str) -> Self {
        let mut agent = Agent::start_at(server, node, quick());
        let enforces = Arc::new(AtomicBool::new(true));
        let may = Arc::clone(&enforces);
        let task = tokio::spawn(async move {
            loop {
                agent.enforces = may.load(Ordering::SeqCst);
                agent.during(Duration::from_millis(20)).await;
                agent.take_force();
            }
        });
        Self { task, enforces }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// On how many nodes a group is in force, and of how many, by its status.
fn counted(server: &ApiServer, name: &str) -> Option<(u64, u64)> {
    let status = &server.get(&SECURITY_GROUP, name)?["status"];
    Some((status["nodesInForce"].as_u64()?, status["nodes"].as_u64()?))
}

async fn until_counted(server: &ApiServer, name: &str, count: (u64, u64)) {
    let end = Instant::now() + LONG;
    while counted(server, name) != Some(count) {
        assert!(Instant::now() < end, "{name} never has {count:?} but {:?}", counted(server, name));
        sleep(Duration::from_millis(20)).await;
    }
}

fn requests(asked: &[Asked], verb: Verb, resource: &Resource) -> usize {
    asked.iter().filter(|asked| asked.verb == verb && asked.plural == resource.plural).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_on_which_an_object_is_in_force_are_counted() {
    let server = ApiServer::start();
    let nodes = ["n1", "n2", "n3"];
    for node in nodes {
        server.put(&NODE, json!({"metadata": {"name": node}}));
    }
    server.put(&SECURITY_GROUP, group("good", json!({"selector": {}})));
    server.put(&SECURITY_GROUP, group("bad", json!({"selector": {}, "mode": "loud"})));
    let mut agents: Vec<Running> = nodes.into_iter().map(|node| Running::start(&server, node)).collect();
    until_counted(&server, "good", (3, 3)).await;
    until_counted(&server, "bad", (0, 3)).await;
    let lease = server.get(&LEASE, "bulkhead-system/n1").expect("each node has one");
    let owner = &lease["metadata"]["ownerReferences"][0];
    let node = server.get(&NODE, "n1").expect("it is there");
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Node"), &node["metadata"]["uid"]));
    assert_eq!(lease["spec"]["holderIdentity"], "n1");

    // Nothing changes, and nothing but the Leases is written.
    sleep(Duration::from_secs(2)).await;
    server.take_asked();
    sleep(Duration::from_secs(10)).await;
    let asked = server.take_asked();
    assert_eq!(requests(&asked, Verb::Patch, &SECURITY_GROUP), 0);
    assert!((9..=18).contains(&requests(&asked, Verb::Patch, &LEASE)), "each agent renews once in 2 to 2.5 seconds");
    assert!((1..=3).contains(&requests(&asked, Verb::List, &LEASE)), "one agent looks once in 5 seconds");
    // Two stand by, and each asks every second whether one before it lives.
    assert!((10..=24).contains(&requests(&asked, Verb::Get, &LEASE)), "{}", requests(&asked, Verb::Get, &LEASE));
    assert_eq!(requests(&asked, Verb::Put, &LEASE), 0);

    // Each of them in turn: so one of them is who counts.
    for (number, node) in nodes.into_iter().enumerate() {
        drop(agents.remove(number));
        until_counted(&server, "good", (2, 2)).await;
        agents.insert(number, Running::start(&server, node));
        until_counted(&server, "good", (3, 3)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_generation_counts_from_none_to_all() {
    let server = ApiServer::start();
    let nodes = ["n1", "n2", "n3"];
    for node in nodes {
        server.put(&NODE, json!({"metadata": {"name": node}}));
    }
    for name in ["changing", "other"] {
        server.put(&SECURITY_GROUP, group(name, json!({"selector": {}})));
    }
    let agents: Vec<Running> = nodes.into_iter().map(|node| Running::start(&server, node)).collect();
    until_counted(&server, "changing", (3, 3)).await;
    until_counted(&server, "other", (3, 3)).await;
    // On one node nothing new takes force for a while.
    agents[1].enforces.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(100)).await;
    server.take_asked();
    let mut changed = server.get(&SECURITY_GROUP, "changing").expect("it is there");
    changed["spec"] = json!({"selector": {}, "ingress": []});
    server.put(&SECURITY_GROUP, changed);
    let mut seen: Vec<(Value, u64)> = Vec::new();
    let end = Instant::now() + LONG;
    loop {
        let status = server.get(&SECURITY_GROUP, "changing").expect("it is there")["status"].clone();
        let now = (status["observedGeneration"].clone(), status["nodesInForce"].as_u64().expect("it was counted"));
        if seen.last() != Some(&now) {
            seen.push(now.clone());
        }
        if now == (json!(2), 2) {
            agents[1].enforces.store(true, Ordering::SeqCst);
        }
        if now == (json!(2), 3) {
            break;
        }
        assert!(Instant::now() < end, "{seen:?}");
        sleep(Duration::from_millis(2)).await;
    }
    let counts: Vec<u64> = seen.iter().filter(|(generation, _)| *generation == 2).map(|(_, count)| *count).collect();
    assert!(counts.is_sorted() && counts.first() == Some(&0) && counts.contains(&2), "{seen:?}");
    assert_eq!(counted(&server, "other"), Some((3, 3)));
    // A verdict and each count, of the one object that changed.
    assert_eq!(requests(&server.take_asked(), Verb::Patch, &SECURITY_GROUP), counts.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_first_agent_is_dead_a_new_verdict_on_the_same_generation_is_written_all_the_same() {
    let server = ApiServer::start();
    let nodes = ["n1", "n2", "n3"];
    for node in nodes {
        server.put(&NODE, json!({"metadata": {"name": node}}));
    }
    // Among so many, some of which each node is the first to write.
    let names: Vec<String> = (0..12).map(|number| format!("waits-{number}")).collect();
    for name in &names {
        let mut waiting = group(name, json!({"selector": {}, "ingress": [{"from": [{"group": "later"}]}]}));
        waiting["metadata"]["uid"] = json!(name);
        server.put(&SECURITY_GROUP, waiting);
    }
    let agents: Vec<Running> = nodes.into_iter().map(|node| Running::start(&server, node)).collect();
    let all = |reason| -> Vec<(&str, &str)> { names.iter().map(|name| (name.as_str(), reason)).collect() };
    until_said(&server, &all("InForceInPart")).await;
    drop(agents);
    // All of them are gone now; two come back.
    let _living: Vec<Running> = ["n1", "n3"].into_iter().map(|node| Running::start(&server, node)).collect();
    until_counted(&server, &names[0], (0, 2)).await;
    server.put(&SECURITY_GROUP, group("later", json!({"selector": {}})));
    until_said(&server, &all("Accepted")).await;
    until_counted(&server, &names[0], (2, 2)).await;
}

/// The hash that gives nodes their order, made again from its description: 64-bit FNV-1a and MurmurHash3's finalizer.
fn order(node: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{node}\0bulkhead.dev/in-force").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_nodes_cost_what_is_documented() {
    const NODES: u32 = 5_000;
    let server = ApiServer::start();
    let name = |number: u32| format!("ip-10-0-{}-{}.region-1.compute.internal", number / 250, number % 250);
    server.put_all(&NODE, (0..NODES).map(|number| json!({"metadata": {"name": name(number)}})));
    // The verdict was said by others.
    let condition = json!({"type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let groups = (0..3).map(|number| {
        let mut group = group(&format!("g{number}"), json!({"selector": {}}));
        group["status"] = json!({"observedGeneration": 1, "conditions": [condition]});
        group
    });
    server.put_all(&SECURITY_GROUP, groups);
    let first = (0..NODES).map(name).max_by_key(|node| order(node)).expect("a node");
    let pace = Pace { count: Duration::from_secs(1), renew: Duration::from_secs(600), page: 500, ..pace() };
    let mut agent = Agent::start_at(&server, &first, pace);
    let own = format!("{NAMESPACE}/{first}");
    let end = Instant::now() + LONG;
    while server.get(&LEASE, &own).is_none() {
        assert!(Instant::now() < end, "the first node never tells what is in force");
        agent.during(Duration::from_millis(20)).await;
    }
    // All others say the same.
    let lease = server.get(&LEASE, &own).expect("it is there");
    let others = (0..NODES).filter(|number| name(*number) != first).map(|number| {
        let mut other = lease.clone();
        let metadata = json!({"namespace": NAMESPACE, "name": name(number), "labels": lease["metadata"]["labels"],
            "annotations": lease["metadata"]["annotations"], "ownerReferences": lease["metadata"]["ownerReferences"]});
        other["metadata"] = metadata;
        other["spec"]["holderIdentity"] = json!(name(number));
        other["metadata"]["ownerReferences"][0]["name"] = json!(name(number));
        other
    });
    server.put_all(&LEASE, others);
    let counting = async {
        until_counted(&server, "g0", (u64::from(NODES), u64::from(NODES))).await;
        until_counted(&server, "g1", (u64::from(NODES), u64::from(NODES))).await;
    };
    let listening = async {
        loop {
            agent.during(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = counting => {}
        () = listening => {}
    }
    let asked = server.take_asked();
    let writes: Vec<&Asked> =
        asked.iter().filter(|asked| asked.verb == Verb::Patch && asked.plural == SECURITY_GROUP.plural).collect();
    let [.., last_but_one, last] = writes[..] else { panic!("fewer than two writes: {writes:?}") };
    // Each goes to 5,000 agents.
    assert!(
        last.at.duration_since(last_but_one.at) >= Duration::from_secs(5),
        "1,000 agents are told in a second at most"
    );
    let pages = asked.iter().filter(|asked| asked.verb == Verb::List && asked.plural == LEASE.plural);
    let most = pages.clone().filter(|asked| asked.parameter("continue").is_some()).count();
    assert_eq!(most % 9, 0, "10 pages for a count");
    let all: usize = (0..NODES)
        .filter_map(|number| server.get(&LEASE, &format!("{NAMESPACE}/{}", name(number))))
        .map(|lease| lease.to_string().len())
        .sum();
    println!("{all} bytes of Leases; of all answers to one agent: {}", server.bytes_sent());
    assert!(all < 7_000_000, "{all} bytes");
}
