//! Pods as they stand in JSON, and what is told of them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::source::kubernetes::read::{Read, read};

const HERE: &str = "n1";

fn told(pod: &Value) -> Read<PodFact> {
    read(&Pods::new(HERE.to_owned()), &pod.to_string())
}

/// Changes fields of a pod that runs here.
fn pod(changes: &[(&str, Value)]) -> Value {
    let mut pod = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "7", "labels": {"app": "web"},
            "annotations": {}},
        "spec": {"nodeName": HERE, "hostNetwork": false},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    });
    for (path, value) in changes {
        let (parent, field) = path.rsplit_once('/').expect("a path");
        pod.pointer_mut(parent).expect("the parent is there")[field] = value.clone();
    }
    pod
}

fn fact() -> PodFact {
    PodFact {
        name: "shop/web".into(),
        uid: "u".into(),
        labels: Arc::new([("app".into(), "web".into())].into()),
        addresses: ["10.0.0.1", "fd00::1"].map(|text| text.parse().expect("an address")).into(),
        local: true,
    }
}

#[test]
fn a_pod_has_a_name_a_uid_labels_and_all_of_its_addresses() {
    let read = told(&pod(&[]));
    assert_eq!(read.fact, Some(fact()));
    assert_eq!((read.name.as_deref(), read.version.as_deref()), (Some("shop/web"), Some("7")));
    let remote = told(&pod(&[("/spec/nodeName", json!("n2"))]));
    assert_eq!(remote.fact, Some(PodFact { local: false, ..fact() }));
}

#[test]
fn what_is_absent_or_null_is_as_if_it_were_empty() {
    let nulls = ["/metadata/labels", "/metadata/annotations", "/spec/hostNetwork", "/status"];
    let read = told(&pod(&nulls.map(|path| (path, Value::Null))));
    assert_eq!(read.fact, Some(PodFact { labels: Arc::default(), addresses: Vec::new(), ..fact() }));
    let bare = told(&json!({"metadata": {"name": "web", "namespace": "shop"}}));
    assert!(bare.fact.is_none() && bare.error.is_none(), "nobody knows where it is, and it has no address: {bare:?}");
}

#[test]
fn named_ports_are_labels_those_of_containers_that_stay_and_the_first_of_a_name() {
    let containers = json!([
        {"name": "main", "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"containerPort": 9090},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        ]},
        {"name": "other", "ports": [{"name": "http", "containerPort": 1}, {"name": "metrics", "containerPort": 9100, "hostPort": 19100}, {"name": "sig", "containerPort": 7, "protocol": "SCTP"}]},
        {"name": "bare"},
        {"name": "null", "ports": null},
    ]);
    let init = json!([
        {"name": "before", "ports": [{"name": "setup", "containerPort": 1}]},
        {"name": "beside", "restartPolicy": "Always", "ports": [{"name": "admin", "containerPort": 15000}]},
    ]);
    let own = json!({"app": "web", "port.tcp.http": "22", "port.udp.fake": "53", "port.x": "1", "portal": "y"});
    let read =
        told(&pod(&[("/metadata/labels", own), ("/spec/containers", containers), ("/spec/initContainers", init)]));
    let expected = [
        ("app", "web"),
        ("port.sctp.sig", "7"),
        ("port.tcp.admin", "15000"),
        ("port.tcp.http", "8080"),
        ("port.tcp.metrics", "9100"),
        ("port.udp.dns", "53"),
        ("port.x", "1"),
        ("portal", "y"),
    ];
    let labels = read.fact.expect("it is told").labels;
    let found: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!((found, read.doubts), (expected.into(), vec![]), "what a pod says itself of its ports does not count");
}

#[test]
fn ports_that_can_not_be_right_are_left_out_and_spoken_of() {
    let many: Vec<Value> =
        (1..=300).map(|number| json!({"name": format!("p{number}"), "containerPort": number})).collect();
    for (ports, left, doubt) in [
        (json!([{"name": "a", "containerPort": 0}, {"name": "b", "containerPort": 1}]), 1, "\"a\""),
        (json!([{"name": "a", "containerPort": 65536}]), 0, "65535"),
        (json!([{"name": "a"}]), 0, "no number"),
        (json!([{"name": "a", "containerPort": 1, "protocol": "QUIC"}]), 0, "\"QUIC\""),
        (json!(many), 256, "more than 256"),
    ] {
        let Read { fact, doubts, .. } = told(&pod(&[("/spec/containers", json!([{"ports": ports}]))]));
        let labels = fact.expect("it is told").labels.len();
        assert_eq!((labels - 1, doubts.len()), (left, 1), "{doubts:?}");
        assert!(doubts[0].contains(doubt), "{doubts:?}");
    }
}

#[test]
fn an_old_server_tells_of_one_address_only() {
    let only = ["10.0.0.1".parse().expect("an address")].into();
    let read = told(&pod(&[("/status/podIPs", Value::Null)]));
    assert_eq!(read.fact, Some(PodFact { addresses: only, ..fact() }));
}

#[test]
fn finished_pods_are_told_as_gone() {
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(told(&pod(&[("/status/phase", json!(phase))])).fact, None, "{phase}");
    }
    for phase in ["Pending", "Running", "Unknown", ""] {
        assert!(told(&pod(&[("/status/phase", json!(phase))])).fact.is_some(), "{phase}");
    }
}

#[test]
fn a_pod_with_its_nodes_network_has_no_addresses_of_its_own() {
    let host = ("/spec/hostNetwork", json!(true));
    assert_eq!(told(&pod(std::slice::from_ref(&host))).fact, Some(PodFact { addresses: Vec::new(), ..fact() }));
    assert_eq!(told(&pod(&[host, ("/spec/nodeName", json!("n2"))])).fact, None, "a remote one is its node");
}

#[test]
fn a_static_pod_is_known_by_the_kubelets_own_hash() {
    let mirror = ("kubernetes.io/config.mirror", json!("h"));
    let hash = ("kubernetes.io/config.hash", json!("h"));
    let annotated = |annotations: &[(&str, Value)]| {
        let annotations: Value = annotations.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        told(&pod(&[("/metadata/annotations", annotations)])).fact.expect("it is told").uid
    };
    assert_eq!(annotated(&[mirror.clone(), hash.clone()]), "h");
    assert_eq!(annotated(&[hash]), "u", "whoever writes a pod must not choose whose cgroup it has");
    assert_eq!(annotated(&[mirror]), "u");
}

#[test]
fn a_local_pod_without_uid_is_left_out_and_spoken_of() {
    for uid in [Value::Null, json!("")] {
        let Read { fact, doubts, .. } = told(&pod(&[("/metadata/uid", uid)]));
        assert_eq!((fact, doubts.len()), (None, 1));
    }
}

#[test]
fn a_pod_that_cannot_be_read_keeps_its_name() {
    let read = told(&pod(&[("/status/podIPs", json!("10.0.0.1"))]));
    assert!(read.fact.is_none());
    assert!(read.error.as_deref().is_some_and(|error| error.contains("invalid type")), "{:?}", read.error);
    assert_eq!((read.name.as_deref(), read.version.as_deref()), (Some("shop/web"), Some("7")));
    for hopeless in ["null", "7", "[]", "{}", r#"{"metadata": {"name": 1}}"#, r#"{"metadata": "web"}"#] {
        let read = super::super::read::read(&Pods::new(HERE.to_owned()), hopeless);
        assert!(read.error.is_some() && read.name.is_none(), "{hopeless}: {read:?}");
    }
}
