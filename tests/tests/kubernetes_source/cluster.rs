//! What is told of namespaces, nodes and services.

use std::net::IpAddr;

use bulkhead::source::{NodeFact, ServiceFact, ServicePort};
use bulkhead_tests::apiserver::{ApiServer, ENDPOINT_SLICE, Fault, NAMESPACE, NODE, SERVICE, What};
use serde_json::{Value, json};

use crate::known::{Known, named};

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn namespaces_and_nodes_come_change_and_go() {
    let server = ApiServer::start();
    server.put(&NAMESPACE, named("a"));
    server.put(&NAMESPACE, json!({"metadata": {"name": "lie", "labels": "none"}}));
    server.put(
        &NODE,
        json!({"metadata": {"name": "n1"}, "status": {"addresses": [
        {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}]}}),
    );
    let mut known = Known::start(&server);
    known.until("both are told", |known| known.namespaces.len() == 1 && known.nodes.len() == 1).await;
    assert_eq!(known.nodes["n1"], NodeFact { name: "n1".into(), addresses: vec![address("192.0.2.1")] });

    server.put(&NAMESPACE, json!({"metadata": {"name": "a", "labels": {"team": "blue"}}}));
    known.until("its labels are told", |known| known.namespaces["a"].labels.len() == 1).await;
    server.delete(&NAMESPACE, "a");
    server.delete(&NODE, "n1");
    known.until("both are gone", |known| known.namespaces.is_empty() && known.nodes.is_empty()).await;
}

fn service(name: &str, cluster_ip: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "ports": [
            {"name": "https", "protocol": "TCP", "port": 443, "targetPort": "web"}]},
    })
}

fn slice(name: &str, service: &str, endpoints: &Value) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "protocol": "TCP", "port": 8443}],
        "endpoints": endpoints,
    })
}

fn with_backends(backends: &[&str]) -> ServiceFact {
    let backends = backends.iter().map(|text| text.parse().expect("an address and a port")).collect();
    ServiceFact {
        name: "shop/web".into(),
        addresses: vec![address("10.96.0.7")],
        ports: vec![ServicePort { protocol: 6, port: 443, backends }],
    }
}

#[tokio::test]
async fn a_service_stands_for_its_ready_back_ends() {
    let server = ApiServer::start();
    server.put(&SERVICE, service("web", "10.96.0.7"));
    server.put(&SERVICE, service("headless", "None"));
    server.put(
        &ENDPOINT_SLICE,
        slice(
            "web-1",
            "web",
            &json!([
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.3"]},
            ]),
        ),
    );
    let mut known = Known::start(&server);
    let backends = ["10.0.0.1:8443", "10.0.0.3:8443"];
    known.until("it is told", |known| known.services.get("shop/web") == Some(&with_backends(&backends))).await;
    assert_eq!(known.services.len(), 1, "a headless service has no address");

    let more = ["10.0.0.1:8443", "10.0.0.3:8443", "10.0.0.9:8443"];
    server.put(&ENDPOINT_SLICE, slice("web-2", "web", &json!([{"addresses": ["10.0.0.9"]}])));
    known.until("slices add up", |known| known.services.get("shop/web") == Some(&with_backends(&more))).await;
    server.delete(&ENDPOINT_SLICE, "shop/web-1");
    server.delete(&ENDPOINT_SLICE, "shop/web-2");
    known.until("nobody is behind it", |known| known.services.get("shop/web") == Some(&with_backends(&[]))).await;
    server.delete(&SERVICE, "shop/web");
    known.until("it is gone", |known| known.services.is_empty()).await;
}

#[tokio::test]
async fn a_service_is_told_only_once_its_back_ends_are_known() {
    let server = ApiServer::start();
    server.put(&SERVICE, service("web", "10.96.0.7"));
    server.put(&ENDPOINT_SLICE, slice("web-1", "web", &json!([{"addresses": ["10.0.0.1"]}])));
    server.fail(Fault::new(What::Status { code: 500, retry_after: None }).on_list().of("endpointslices").times(5));
    let mut known = Known::start(&server);
    known.until("it is told", |known| !known.services.is_empty()).await;
    assert_eq!(known.services["shop/web"], with_backends(&["10.0.0.1:8443"]));
    let asked = server.take_asked();
    let slices = asked.iter().filter(|it| it.plural == "endpointslices");
    let selectors: Vec<_> = slices.map(|it| it.parameter("labelSelector")).collect();
    let expected = Some("kubernetes.io/service-name,!service.kubernetes.io/headless");
    assert!(selectors.iter().all(|selector| *selector == expected), "{selectors:?}");
}
