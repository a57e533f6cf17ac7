//! Good documents and what they mean; every kind of bad one is in [`bad`].

mod bad;
mod mutation;
mod network_policy;
mod repository;

use std::sync::Arc;

use super::*;
use crate::policy::model::{
    DenyEntry, Established, GroupId, Guardrail, Mode, Origin, Peer, PortMatch, Rule, SecurityGroup,
};
use crate::workload::{DeclaredWorkload, Requirement, Selector};

fn file(name: &str, text: &str) -> PolicyFile {
    PolicyFile { path: Arc::new(name.into()), text: text.to_owned() }
}

fn origin(line: usize, column: usize) -> Origin {
    Origin { file: Arc::new("test.yaml".into()), line, column }
}

/// The policy of one good file.
fn good(text: &str) -> PolicySet {
    validate(&[file("test.yaml", text)]).unwrap_or_else(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{text}\nis refused:\n{}", problems.join("\n"))
    })
}

/// A SecurityGroup `web` whose spec begins on line 5.
fn group(spec: &str) -> String {
    document("SecurityGroup", spec)
}

fn document(kind: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: bulkhead.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: web}}\nspec:\n{spec}")
}

fn cidr(text: &str) -> Peer {
    Peer::Cidr(text.parse().expect("a CIDR"))
}

const fn tcp(first: u16, last: u16) -> PortMatch {
    PortMatch::Ports { protocol: 6, first, last }
}

#[test]
fn a_group_means_what_it_says() {
    let policy = good(
        "apiVersion: bulkhead.dev/v1alpha1
kind: SecurityGroup
metadata:
  name: web
  labels: {team: shop}
  annotations: {example.com/note: any text at all}
spec:
  id: 100
  description: What customers see
  selector:
    matchLabels: {app: web, unit: getty@tty1.service}
    matchExpressions:
      - {key: env, operator: In, values: [prod, staging]}
      - {key: tier, operator: NotIn, values: [test]}
      - {key: owner, operator: Exists}
      - {key: old, operator: DoesNotExist, values: []}
  ingress:
    - description: HTTPS
      from: [{cidr: 0.0.0.0/0}, {cidr: '::/0'}, {cidr: 0.0.0.0/0}]
      ports: [{protocol: tcp, port: 443}, {protocol: tcp, port: 8000, endPort: 8099}]
  egress:
    - to: [{group: web}, {group: 7001}, {entity: world}, {entity: host}, {addresses: offices}]
  mode: audit
  established: keep
---
---
# Only a comment.
---
apiVersion: bulkhead.dev/v1alpha1
kind: AddressGroup
metadata: {name: offices}
spec: {cidrs: [192.0.2.0/24, 2001:db8::/32, 10.0.0.1/32]}
",
    );
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let expected = SecurityGroup {
        name: "web".to_owned(),
        id: GroupId(100),
        description: Some("What customers see".to_owned()),
        selector: Selector {
            requirements: vec![
                Requirement::In("app".to_owned(), values(&["web"])),
                Requirement::In("unit".to_owned(), values(&["getty@tty1.service"])),
                Requirement::In("env".to_owned(), values(&["prod", "staging"])),
                Requirement::NotIn("tier".to_owned(), values(&["test"])),
                Requirement::Exists("owner".to_owned()),
                Requirement::DoesNotExist("old".to_owned()),
            ],
        },
        ingress: Some(vec![Rule {
            description: Some("HTTPS".to_owned()),
            peers: vec![cidr("0.0.0.0/0"), cidr("::/0")],
            ports: Some(vec![tcp(443, 443), tcp(8000, 8099)]),
            named: Vec::new(),
            origin: origin(18, 7),
        }]),
        egress: Some(vec![Rule {
            description: None,
            peers: vec![
                Peer::Group(GroupId(100)),
                Peer::Group(GroupId(7001)),
                Peer::World,
                Peer::Host,
                cidr("192.0.2.0/24"),
                cidr("2001:db8::/32"),
                cidr("10.0.0.1/32"),
            ],
            ports: None,
            named: Vec::new(),
            origin: origin(22, 7),
        }]),
        mode: Mode::Audit,
        established: Established::Keep,
        origin: origin(1, 1),
    };
    assert_eq!(policy, PolicySet { groups: vec![expected], ..PolicySet::default() });
}

#[test]
fn an_absent_direction_is_not_an_empty_one() {
    for (spec, ingress, egress) in [
        ("selector: {}", 0, None),
        ("selector: {}\ningress: []", 0, None),
        ("selector: {}\negress: []", 0, Some(0)),
        ("selector: {}\ningress: [{from: [{entity: host}]}]\negress: [{to: [{entity: host}]}]", 1, Some(1)),
    ] {
        let group = good(&group(spec)).groups.remove(0);
        assert_eq!(group.ingress.as_ref().map(Vec::len), Some(ingress), "{spec}");
        assert_eq!(group.egress.as_ref().map(Vec::len), egress, "{spec}");
        assert_eq!((group.mode, group.established), (Mode::Enforce, Established::Revoke));
        assert_eq!(group.selector, Selector::default());
    }
}

#[test]
fn each_protocol_has_its_own_fields() {
    let icmp = |protocol, kind, code| PortMatch::Icmp { protocol, kind, code };
    for (entry, expected) in [
        ("{protocol: tcp}", tcp(0, 65_535)),
        ("{protocol: tcp, port: 1}", tcp(1, 1)),
        ("{protocol: tcp, port: 65535, endPort: 65535}", tcp(65_535, 65_535)),
        ("{protocol: udp, port: 53}", PortMatch::Ports { protocol: 17, first: 53, last: 53 }),
        ("{protocol: sctp, port: 1, endPort: 2}", PortMatch::Ports { protocol: 132, first: 1, last: 2 }),
        ("{protocol: icmp}", icmp(1, None, None)),
        ("{protocol: icmp, type: 0}", icmp(1, Some(0), None)),
        ("{protocol: icmpv6, type: 255, code: 255}", icmp(58, Some(255), Some(255))),
        ("{protocol: 6}", tcp(0, 65_535)),
        ("{protocol: 132}", PortMatch::Ports { protocol: 132, first: 0, last: 65_535 }),
        ("{protocol: 58}", icmp(58, None, None)),
        ("{protocol: 47}", PortMatch::Protocol(47)),
        ("{protocol: 0}", PortMatch::Protocol(0)),
    ] {
        let spec = format!("selector: {{}}\ningress: [{{from: [{{entity: world}}], ports: [{entry}, {entry}]}}]");
        let group = good(&group(&spec)).groups.remove(0);
        assert_eq!(group.ingress.as_ref().expect("rules")[0].ports, Some(vec![expected]), "{entry}");
    }
}

#[test]
fn a_workload_means_what_it_says() {
    let policy = good(
        "apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: web-1, labels: {app: web, empty: ''}}
spec: {cgroup: shop/web-1, interface: veth-web1, addresses: [fd00::10, 10.0.0.10]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: a}
spec: {addresses: ['10.0.0.11']}
",
    );
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let address = |text: &str| text.parse().expect("an address");
    let remote = DeclaredWorkload {
        name: "a".to_owned(),
        labels: [].into(),
        cgroup: None,
        interface: None,
        addresses: [address("10.0.0.11")].into(),
        origin: origin(6, 1),
    };
    let local = DeclaredWorkload {
        name: "web-1".to_owned(),
        labels: [label("app", "web"), label("empty", "")].into(),
        cgroup: Some("shop/web-1".to_owned()),
        interface: Some("veth-web1".to_owned()),
        addresses: [address("10.0.0.10"), address("fd00::10")].into(),
        origin: origin(1, 1),
    };
    assert_eq!(policy, PolicySet { workloads: vec![remote, local], ..PolicySet::default() });
}

#[test]
fn a_guardrail_means_what_it_says() {
    let policy = good(
        "apiVersion: bulkhead.dev/v1alpha1
kind: Guardrail
metadata: {name: no-telnet}
spec:
  description: Nobody needs it
  deny:
    - description: Telnet
      ports: [{protocol: tcp, port: 23}]
    - from: [{group: 7001}, {entity: world}]
      to: [{cidr: 10.0.0.0/8}]
",
    );
    let entries = vec![
        DenyEntry {
            description: Some("Telnet".to_owned()),
            from: None,
            to: None,
            ports: Some(vec![tcp(23, 23)]),
            origin: origin(7, 7),
        },
        DenyEntry {
            description: None,
            from: Some(vec![Peer::Group(GroupId(7001)), Peer::World]),
            to: Some(vec![cidr("10.0.0.0/8")]),
            ports: None,
            origin: origin(9, 7),
        },
    ];
    let guardrail = Guardrail {
        name: "no-telnet".to_owned(),
        description: Some("Nobody needs it".to_owned()),
        entries,
        origin: origin(1, 1),
    };
    assert_eq!(policy, PolicySet { guardrails: vec![guardrail], ..PolicySet::default() });
}

#[test]
fn rules_may_name_groups_and_addresses_of_other_files() {
    let rule = "selector: {}\ningress: [{from: [{group: api}, {addresses: offices}]}]";
    let api = group("selector: {}").replace("name: web", "name: api");
    let offices = document("AddressGroup", "cidrs: [192.0.2.0/24]").replace("name: web", "name: offices");
    let mut files = [file("a", &group(rule)), file("b", &api), file("c", &offices)];
    let policy = validate(&files).expect("all is there");
    let [api, web] = policy.groups.as_slice() else { panic!("{policy:?}") };
    assert_eq!(web.ingress.as_ref().expect("rules")[0].peers, [Peer::Group(api.id), cidr("192.0.2.0/24")]);
    files.reverse();
    assert_eq!(validate(&files).expect("in any order"), policy);
}

#[test]
fn aliases_stand_for_what_they_repeat() {
    let spec = "selector: {}
ingress:
  - from: &anyone [{cidr: 0.0.0.0/0}]
    ports: &https [{protocol: tcp, port: 443}]
egress:
  - to: *anyone
    ports: *https";
    let group = good(&group(spec)).groups.remove(0);
    let egress = &group.egress.expect("mentioned")[0];
    assert_eq!(
        (&group.ingress.as_ref().expect("rules")[0].peers, &group.ingress.as_ref().expect("rules")[0].ports),
        (&egress.peers, &egress.ports)
    );
}

#[test]
fn two_names_whose_derived_ids_are_the_same_are_told_to_give_one() {
    let mut names = std::collections::HashMap::new();
    let (one, other) = (0_u32..)
        .find_map(|number| {
            let name = format!("g{number}");
            let other = names.insert(group_id::derived(&name), name.clone())?;
            Some((name, other))
        })
        .expect("2^31 IDs and more names");
    let named =
        |name: &str, more: &str| group(&format!("selector: {{}}{more}")).replace("name: web", &format!("name: {name}"));
    let text = format!("{}---\n{}", named(&one, ""), named(&other, ""));
    let problems = validate(&[file("test.yaml", &text)]).expect_err("the same ID twice");
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(problem.message.contains(&one) && problem.message.contains(&other), "{problem}");
    assert!(problem.cure.contains("`id` of its own"), "{problem}");
    good(&format!("{}---\n{}", named(&one, "\nid: 1"), named(&other, "")));
}
