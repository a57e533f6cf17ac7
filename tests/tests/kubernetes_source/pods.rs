//! What is told of pods.

use std::net::IpAddr;
use std::sync::Arc;

use bulkhead::source::PodFact;
use bulkhead_tests::apiserver::{ApiServer, NAMESPACE, POD};
use serde_json::json;

use crate::known::{HERE, Known, named, pod};

#[tokio::test]
async fn everything_that_exists_is_told_at_once_and_then_what_changes() {
    let server = ApiServer::start();
    server.put(&NAMESPACE, named("shop"));
    server.put_all(&POD, (1..=7).map(|n| pod(&format!("shop/p{n}"), "n2", &format!("10.0.0.{n}"))));
    let mut known = Known::start(&server);
    known.until("all pods are told", |known| known.pods.len() == 7 && known.namespaces.len() == 1).await;
    assert_eq!(known.pod_lists, 1, "in one piece, though the pages are small");

    server.put(&POD, pod("shop/p8", HERE, "10.0.0.8"));
    server.delete(&POD, "shop/p1");
    known.until("the news are told", |known| known.pods.len() == 7 && !known.pods.contains_key("shop/p1")).await;
    let expected = PodFact {
        name: "shop/p8".into(),
        uid: "uid-p8".into(),
        labels: Arc::new([("app".into(), "p8".into())].into()),
        addresses: vec![IpAddr::from([10, 0, 0, 8])],
        local: true,
    };
    assert_eq!(known.pods["shop/p8"], expected);
    assert_eq!(known.pod_lists, 1, "changes cost no list");
    assert_eq!(known.metric(r#"bulkhead_kubernetes_objects{kind="pods"}"#) as u64, 7);
    known.stop().await;
}

#[tokio::test]
async fn a_finished_pod_is_gone_at_once() {
    let server = ApiServer::start();
    server.put(&POD, pod("jobs/a", HERE, "10.0.0.1"));
    server.put(&POD, pod("jobs/b", "n2", "10.0.0.2"));
    let mut done = pod("jobs/done", "n2", "10.0.0.3");
    done["status"]["phase"] = json!("Succeeded");
    server.put(&POD, done);
    let mut known = Known::start(&server);
    known.until_pods(&["jobs/a", "jobs/b"]).await;

    for (name, node, phase) in [("jobs/a", HERE, "Failed"), ("jobs/b", "n2", "Succeeded")] {
        let mut finished = pod(name, node, "10.0.0.9");
        finished["status"]["phase"] = json!(phase);
        server.put(&POD, finished);
    }
    known.until_pods(&[]).await;
    let asked = server.take_asked();
    let of_pods: Vec<_> = asked.iter().filter(|it| it.plural == "pods").collect();
    for it in &of_pods {
        let selector = it.parameter("fieldSelector");
        assert_eq!(selector, Some("status.phase!=Succeeded,status.phase!=Failed"), "finished pods are not even sent");
    }
    assert!(!of_pods.is_empty());
}

#[tokio::test]
async fn a_remote_pod_is_told_once_it_has_an_address_and_a_local_one_before() {
    let server = ApiServer::start();
    let bare = |name: &str, node: &str| {
        let mut pod = pod(name, node, "10.0.0.1");
        pod["status"] = json!({"phase": "Pending"});
        pod
    };
    server.put(&POD, bare("shop/here", HERE));
    server.put(&POD, bare("shop/there", "n2"));
    server.put(&POD, bare("shop/nowhere", ""));
    let mut host = pod("shop/host", HERE, "192.0.2.1");
    host["spec"]["hostNetwork"] = json!(true);
    server.put(&POD, host.clone());
    host["metadata"]["name"] = json!("other-host");
    host["spec"]["nodeName"] = json!("n2");
    server.put(&POD, host);
    let mut known = Known::start(&server);
    known.until_pods(&["shop/here", "shop/host"]).await;
    assert!(known.pods.values().all(|pod| pod.local && pod.addresses.is_empty()), "a node's addresses are no pod's");

    server.put(&POD, pod("shop/there", "n2", "fd00::2"));
    known.until_pods(&["shop/here", "shop/host", "shop/there"]).await;
    server.put(&POD, bare("shop/there", "n2"));
    known.until_pods(&["shop/here", "shop/host"]).await;
}

#[tokio::test]
async fn a_pod_that_moves_is_where_it_was_told_last() {
    let server = ApiServer::start();
    server.put(&POD, pod("db/db-0", "n2", "10.0.2.1"));
    let mut known = Known::start(&server);
    known.until_pods(&["db/db-0"]).await;
    assert!(!known.pods["db/db-0"].local);
    // As a StatefulSet does: gone, and back under the same name.
    server.delete(&POD, "db/db-0");
    let mut moved = pod("db/db-0", HERE, "10.0.1.1");
    moved["metadata"]["uid"] = json!("another");
    server.put(&POD, moved);
    known.until("it is here", |known| known.pods.get("db/db-0").is_some_and(|pod| pod.local)).await;
    assert_eq!(known.pods["db/db-0"].uid, "another");
    assert_eq!(known.pods["db/db-0"].addresses, [IpAddr::from([10, 0, 1, 1])]);
}

#[tokio::test]
async fn labels_are_told_as_they_are_whatever_they_say() {
    let server = ApiServer::start();
    let odd: serde_json::Map<String, serde_json::Value> = [
        ("example.test/legal-1_2.3", "A-z_0.9"),
        ("empty", ""),
        ("", "no key"),
        ("namespace", "kube-system"),
        ("quotes\"\\", "\u{0}\n\t\u{7f}\u{1f600}"),
        ("{{template}}", "$(rm -rf /)"),
        ("long", &"x".repeat(10_000)),
    ]
    .map(|(key, value)| (key.to_owned(), json!(value)))
    .into_iter()
    .collect();
    let mut labelled = pod("shop/odd", "n2", "10.0.0.1");
    labelled["metadata"]["labels"] = odd.clone().into();
    server.put(&POD, labelled);
    let mut known = Known::start(&server);
    known.until_pods(&["shop/odd"]).await;
    let told = &known.pods["shop/odd"].labels;
    assert_eq!(told.len(), odd.len());
    assert!(odd.iter().all(|(key, value)| told.get(key).map(String::as_str) == value.as_str()), "{told:?}");
    assert!(known.errors("object") <= 0.0);
}

#[tokio::test]
async fn a_server_that_lies_about_types_harms_only_what_it_lies_about() {
    let server = ApiServer::start();
    let lies = [
        ("/metadata/labels", json!(["app"])),
        ("/metadata/labels", json!({"app": 1})),
        ("/metadata/uid", json!(7)),
        ("/spec", json!("text")),
        ("/spec/nodeName", json!(true)),
        ("/spec/hostNetwork", json!("yes")),
        ("/status/podIPs", json!({"ip": "10.0.0.1"})),
        ("/status/phase", json!(["Running"])),
        ("/metadata", json!({"name": "lie-8", "namespace": "shop", "annotations": 1})),
    ];
    for (n, (path, lie)) in lies.iter().enumerate() {
        let mut pod = pod(&format!("shop/lie-{n}"), "n2", "10.0.0.1");
        pod["spec"]["hostNetwork"] = json!(false);
        *pod.pointer_mut(path).expect("a field of a pod") = lie.clone();
        server.put(&POD, pod);
    }
    server.put(&POD, pod("shop/a", HERE, "10.0.0.2"));
    server.put(&POD, pod("shop/b", "n2", "10.0.0.3"));
    let mut known = Known::start(&server);
    known.until_pods(&["shop/a", "shop/b"]).await;
    assert_eq!(known.errors("object") as usize, lies.len());

    // One that was told is not what it was told to be any more.
    let mut lie = pod("shop/a", HERE, "10.0.0.2");
    lie["metadata"]["labels"] = json!("app=admin");
    server.put(&POD, lie);
    known.until_pods(&["shop/b"]).await;
    server.put(&POD, pod("shop/a", HERE, "10.0.0.2"));
    known.until_pods(&["shop/a", "shop/b"]).await;
    assert_eq!(known.pod_lists, 1, "one bad object costs no list");
}

#[tokio::test]
async fn addresses_that_are_none_are_counted_and_the_others_hold() {
    let server = ApiServer::start();
    let mut odd = pod("shop/odd", "n2", "10.0.0.1");
    odd["status"]["podIPs"] = json!([{"ip": "10.0.0.300"}, {"ip": "10.0.0.1"}, {"ip": "0.0.0.0"}, {}]);
    server.put(&POD, odd);
    let mut known = Known::start(&server);
    known.until_pods(&["shop/odd"]).await;
    assert_eq!(known.pods["shop/odd"].addresses, [IpAddr::from([10, 0, 0, 1])]);
    assert_eq!(known.errors("address") as u64, 1, "once for the pod");
}
