//! Many pods, and many changes.

use std::fs;
use std::time::{Duration, Instant};

use bulkhead::source::kubernetes::{Access, Pace};
use bulkhead_tests::apiserver::{ApiServer, NAMESPACE, POD};
use serde_json::{Value, json};

use crate::known::{HERE, Known, named, pod};

const PODS: usize = 20_000;
const NODES: usize = 1_000;
const CHANGES: usize = 2_000;

/// A pod with as much around it as one usually has.
fn usual(number: usize, generation: usize) -> Value {
    let node = if number.is_multiple_of(NODES) { HERE.to_owned() } else { format!("node-{}", number % NODES) };
    let [_, a, b, c] = u32::try_from(number).expect("few enough").to_be_bytes();
    let mut pod = pod(&format!("ns-{}/pod-{number}", number % 50), &node, &format!("10.{a}.{b}.{c}"));
    pod["metadata"]["labels"] = json!({"app": format!("app-{}", number % 300), "generation": generation.to_string()});
    pod["metadata"]["managedFields"] = json!([{"manager": "kubelet", "fieldsV1": {"f:status": "x".repeat(2_000)}}]);
    pod["spec"]["volumes"] = json!([{"name": "token", "projected": {"sources": "y".repeat(600)}}]);
    pod
}

fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn twenty_thousand_pods_come_in_pages_and_change() {
    let server = ApiServer::start();
    server.put_all(&NAMESPACE, (0..50).map(|n| named(&format!("ns-{n}"))));
    server.put_all(&POD, (0..PODS).map(|number| usual(number, 0)));
    let before = resident();
    let began = Instant::now();
    let mut known = Known::start_with(Access::Kubeconfig(server.kubeconfig()), Pace::default());
    known.until("all pods are told", |known| known.pods.len() == PODS).await;
    let listed = began.elapsed();
    println!(
        "{PODS} pods listed in {listed:?}, {} MB sent, {} MB more resident in server, source and test together",
        server.bytes_sent() / 1_000_000,
        resident().saturating_sub(before) / 1_000,
    );
    assert_eq!(known.pods.values().filter(|pod| pod.local).count(), PODS / NODES);

    known.until_settled(&server).await;
    let told = known.told;
    let began = Instant::now();
    for number in 0..CHANGES {
        server.put(&POD, usual(number * 7 % PODS, 1));
    }
    let put = began.elapsed();
    known.until("all changes are told", |known| known.told == told + CHANGES).await;
    println!("{CHANGES} changes put in {put:?} and told after {:?}", began.elapsed());
    assert_eq!(known.pods.values().filter(|pod| pod.labels["generation"] == "1").count(), CHANGES);
    assert_eq!(known.pod_lists, 1);
    assert!(listed < Duration::from_secs(60), "{listed:?}");
}
