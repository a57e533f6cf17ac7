//! Services and their back ends, in any order.

use serde_json::{Value, json};

use super::*;
use crate::source::kubernetes::endpoint::EndpointSlices;
use crate::source::kubernetes::read::{Read, read};

fn service(spec: &Value) -> Read<Service> {
    let metadata = json!({"namespace": "shop", "name": "web"});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"hostname": "lb.example"}]}});
    read(&Services, &json!({"metadata": metadata, "spec": spec, "status": status}).to_string())
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn clients_may_send_to_every_address_of_a_service() {
    let spec = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "externalIPs": ["198.51.100.1"],
        "ports": [{"port": 53, "protocol": "UDP", "name": "dns"}, {"port": 80}, {"port": 9, "protocol": "SCTP"}]});
    let fact = service(&spec).fact.expect("it has addresses");
    assert_eq!(fact.name, "shop/web");
    assert_eq!(fact.addresses, addresses(&["10.96.0.1", "198.51.100.1", "203.0.113.7", "fd00::1"]));
    let ports: Vec<_> = fact.ports.iter().map(|it| (it.name.as_str(), it.protocol, it.port)).collect();
    assert_eq!(ports, [("dns", 17, 53), ("", 6, 80), ("", 132, 9)]);
}

#[test]
fn headless_services_and_names_for_others_are_not_told() {
    for spec in [
        json!({"clusterIP": "None", "externalIPs": ["198.51.100.1"]}),
        json!({"clusterIPs": ["None"]}),
        json!({"type": "ExternalName", "externalName": "other.example", "externalIPs": ["198.51.100.1"]}),
    ] {
        let Read { fact, doubts, error, .. } = service(&spec);
        assert!(fact.is_none() && doubts.is_empty() && error.is_none(), "{spec}");
    }
}

#[test]
fn what_makes_no_sense_in_a_service_is_left_out() {
    let spec = json!({"clusterIPs": ["10.96.0.1", "10.96.0.300", ""], "ports": [{"port": 1, "protocol": "QUIC"}]});
    let Read { fact, doubts, .. } = service(&spec);
    let fact = fact.expect("it has an address");
    assert_eq!((fact.addresses, fact.ports.len()), (addresses(&["10.96.0.1", "203.0.113.7"]), 0));
    assert_eq!(doubts.len(), 2, "{doubts:?}");
    for lie in [json!({"port": 70_000}), json!({"port": "http"}), json!({})] {
        assert!(service(&json!({"clusterIP": "10.96.0.1", "ports": [lie]})).error.is_some());
    }
}

fn slice(name: &str, service: &str, ports: &Value, endpoints: &Value) -> Read<Slice> {
    let labels = json!({"kubernetes.io/service-name": service});
    let object = json!({"metadata": {"namespace": "shop", "name": name, "labels": labels}, "addressType": "IPv4",
        "ports": ports, "endpoints": endpoints});
    read(&EndpointSlices, &object.to_string())
}

fn one(name: &str, service: &str, endpoints: &Value) -> Slice {
    slice(name, service, &json!([{"name": "http", "port": 8080}]), endpoints).fact.expect("it is a slice")
}

#[test]
fn a_slices_endpoints_are_ready_unless_they_say_otherwise() {
    let endpoints = json!([
        {"addresses": ["10.0.0.1"]},
        {"addresses": ["10.0.0.2"], "conditions": {}},
        {"addresses": ["10.0.0.3", "10.0.0.4"], "conditions": {"ready": true, "serving": false}},
        {"addresses": ["10.0.0.5"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["10.0.0.6"], "conditions": {"ready": false, "serving": false}},
        {"addresses": ["nowhere"]},
        {},
    ]);
    let Read { fact, doubts, .. } =
        slice("web-1", "web", &json!([{"port": null}, {"name": "x", "port": 1}]), &endpoints);
    let fact = fact.expect("it is a slice");
    assert_eq!(fact.service, "shop/web");
    assert_eq!(fact.ready, addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]));
    assert_eq!(fact.serving, addresses(&["10.0.0.5"]));
    assert_eq!(fact.ports.len(), 1, "a port without a number is none of a service's");
    assert_eq!(doubts, [r#"endpoint "nowhere" is no address"#]);
}

/// A service with one port, and others that are not its back ends' matter.
fn web() -> Service {
    let port = |name: &str, port| Port { name: name.to_owned(), protocol: 6, port };
    Service {
        name: "shop/web".into(),
        addresses: addresses(&["10.96.0.1"]),
        ports: vec![port("http", 80), port("x", 81)],
    }
}

fn fact(backends: &[&str]) -> ServiceFact {
    let backends = backends.iter().map(|text| text.parse().expect("an address and a port")).collect();
    ServiceFact {
        name: "shop/web".into(),
        addresses: addresses(&["10.96.0.1"]),
        ports: vec![
            ServicePort { protocol: 6, port: 80, backends },
            ServicePort { protocol: 6, port: 81, backends: Vec::new() },
        ],
    }
}

fn ready(address: &str) -> Value {
    json!([{"addresses": [address]}])
}

#[test]
fn services_are_told_once_both_they_and_their_back_ends_are_known() {
    let mut balanced = Balanced::default();
    assert_eq!(balanced.tell_services(Told::All(vec![web()])), []);
    let slices = vec![one("web-1", "web", &ready("10.0.0.1")), one("other-1", "other", &ready("10.0.0.2"))];
    assert_eq!(balanced.tell_slices(Told::All(slices)), [Told::All(vec![fact(&["10.0.0.1:8080"])])]);
}

#[test]
fn only_what_changes_for_a_service_is_told() {
    let mut balanced = Balanced::default();
    balanced.tell_slices(Told::All(vec![one("web-1", "web", &ready("10.0.0.1"))]));
    balanced.tell_services(Told::All(vec![web()]));
    let mut slices = |told| balanced.tell_slices(told);
    let both = fact(&["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(slices(Told::One(one("web-1", "web", &ready("10.0.0.1")))), [], "nothing changed");
    assert_eq!(slices(Told::One(one("web-2", "web", &ready("10.0.0.2")))), [Told::One(both)]);
    assert_eq!(slices(Told::One(one("web-1", "other", &ready("10.0.0.1")))), [Told::One(fact(&["10.0.0.2:8080"]))]);
    assert_eq!(slices(Told::Gone("shop/web-1".into())), [], "it was another's");
    assert_eq!(slices(Told::Gone("shop/web-2".into())), [Told::One(fact(&[]))]);
    assert_eq!(balanced.tell_services(Told::One(web())), []);
    assert_eq!(balanced.tell_services(Told::Gone("shop/web".into())), [Told::Gone("shop/web".into())]);
    assert_eq!(balanced.tell_services(Told::Gone("shop/web".into())), []);
}

#[test]
fn those_that_terminate_serve_while_nobody_else_is_ready() {
    let mut balanced = Balanced::default();
    let leaving = json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true}}]);
    balanced.tell_slices(Told::All(vec![one("web-1", "web", &leaving)]));
    assert_eq!(balanced.tell_services(Told::All(vec![web()])), [Told::All(vec![fact(&["10.0.0.1:8080"])])]);
    let news = balanced.tell_slices(Told::One(one("web-2", "web", &ready("10.0.0.2"))));
    assert_eq!(news, [Told::One(fact(&["10.0.0.2:8080"]))]);
}
