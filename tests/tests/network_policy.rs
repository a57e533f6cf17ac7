//! Kubernetes' NetworkPolicies: a table of who reaches whom, held against the model and the decision, and a good part of it
//! between real sockets.

#[path = "network_policy/table.rs"]
mod table;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead::policy::validate::{PolicyFile, validate};
use bulkhead::workload::{CgroupRef, SourceKind, Workload};
use bulkhead_ebpf::abi::Verdict;
use bulkhead_tests::case::Way::{Tcp as TcpTo, Udp as UdpTo};
use bulkhead_tests::case::{is_dropped, is_refused, reaches, tried};
use bulkhead_tests::check::Differences;
use bulkhead_tests::equivalence::{Implementation, Userspace, timeouts};
use bulkhead_tests::lab::{self, Lab, Version};
use bulkhead_tests::model::{Model, Packet, Spot, TCP, World};
use bulkhead_tests::world::Stage;
use table::{Pod, Service, TABLE};

fn file(policies: &[(&str, &str)]) -> String {
    let document = |(number, (namespace, spec)): (usize, &(&str, &str))| {
        let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: policy{number}, namespace: {namespace}}}\nspec:\n{spec}"
        )
    };
    policies.iter().enumerate().map(document).collect()
}

/// The pods, as those whose ports have names.
fn documents() -> String {
    let document = |pod: Pod| {
        format!(
            "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {}-{}, labels: {}}}\nspec: {{cgroup: {}}}\n",
            pod.namespace,
            pod.name,
            serde_json::json!(pod.labels()),
            pod.cgroup()
        )
    };
    Pod::all().map(document).collect()
}

fn world(policies: &[(&str, &str)]) -> World {
    let mut world = World { host: vec!["10.1.0.1".parse().expect("an address")], ..World::default() };
    if !policies.is_empty() {
        let text = file(policies) + &documents();
        let file = PolicyFile { path: Arc::new(PathBuf::from("policies.yaml")), text };
        world.policy = validate(&[file]).unwrap_or_else(|problems| panic!("{problems:?}"));
        world.policy.workloads.clear();
    }
    let workload = |(number, pod): (u64, Pod)| Workload {
        name: format!("pod:{}/{}", pod.namespace, pod.name).into(),
        source: SourceKind::File,
        labels: pod.labels().into(),
        cgroup: Some(CgroupRef { path: pod.cgroup(), id: 1_000 + number }),
        interface: None,
        addresses: Version::BOTH.map(|version| pod.address(version)).into(),
        local: true,
    };
    world.workloads = (0..).zip(Pod::all()).map(workload).collect();
    world
}

/// A packet as it leaves one pod, and as it reaches the other.
fn packets(from: IpAddr, to: IpAddr, service: Service, spots: [Option<String>; 2]) -> Vec<Packet> {
    let [leaves, arrives] = spots;
    let spots = [
        leaves.map(|cgroup| Spot::CgroupEgress { cgroup, loopback: false }),
        arrives.map(|cgroup| Spot::CgroupIngress { cgroup, loopback: false }),
    ];
    let packet = |spot| Packet {
        spot,
        source: from,
        destination: to,
        message: service.message(),
        hops: 64,
        fragment: None,
        dressed: false,
    };
    spots.into_iter().flatten().map(packet).collect()
}

/// Whether all pass, in the model and in the decision.
fn judged(world: &World, decision: &mut Userspace, packets: &[Packet]) -> [bool; 2] {
    let mut model = Model::new(world.clone(), timeouts());
    decision.start(world);
    [
        packets.iter().all(|packet| model.judge(packet, 0.0).verdict != Verdict::Deny),
        packets.iter().all(|packet| decision.judge(packet).passes),
    ]
}

fn decision() -> Userspace {
    let imagined = Stage::imagined();
    let cgroups = (0..).zip(Pod::all()).map(|(number, pod)| CgroupRef { path: pod.cgroup(), id: 1_000 + number });
    Userspace::new(Stage { cgroups: cgroups.collect(), ..imagined })
}

#[test]
fn network_policies_let_reach_whom_kubernetes_says() {
    let mut decision = decision();
    let mut differences = Differences::default();
    let mut denied = 0;
    for row in TABLE {
        let world = world(row.policies);
        for (from, to) in Pod::all().flat_map(|from| Pod::all().map(move |to| (from, to))) {
            for service in Service::all() {
                let expected = from == to || (row.reaches)(from, to, service);
                denied += usize::from(!expected);
                let [source, destination] = [from, to].map(|pod| pod.address(service.version));
                let spots = [from, to].map(|pod| Some(pod.cgroup()));
                let found = judged(&world, &mut decision, &packets(source, destination, service, spots));
                differences.case(
                    format!("{}: {from:?} to {to:?} {service:?}, in the model and the decision", row.what),
                    &[expected; 2],
                    &found,
                );
            }
        }
    }
    assert!(denied > 5_000, "the table denies something: {denied}");
    differences.end(String::new);
}

#[test]
fn a_node_and_its_pods_reach_each_other_whatever_policies_say_and_nobody_else_does() {
    let mut decision = decision();
    let world = world(&[("x", "podSelector: {}\npolicyTypes: [Ingress, Egress]")]);
    let pod = Pod { namespace: "x", name: "a" };
    let service = Service { version: Version::V4, protocol: TCP, port: 80 };
    for (other, expected) in [(world.host[0], true), ("192.0.2.7".parse().expect("an address"), false)] {
        let own = pod.address(Version::V4);
        for packets in [
            packets(other, own, service, [None, Some(pod.cgroup())]),
            packets(own, other, service, [Some(pod.cgroup()), None]),
        ] {
            assert_eq!(judged(&world, &mut decision, &packets), [expected; 2], "{packets:?}");
        }
    }
}

fn pod(lab: &mut Lab, namespace: &str, name: &str) -> lab::Workload {
    let labels = format!("pod={name},namespace={namespace},namespace.ns={namespace}");
    let pod = lab.container(&format!("{namespace}{name}"), &labels);
    pod.serve(&[80, 81]);
    lab.declare(&pod);
    pod
}

#[test]
fn network_policies_hold_between_real_sockets_and_verdicts_name_them() {
    let mut lab = Lab::new();
    let [xa, xb] = ["a", "b"].map(|name| pod(&mut lab, "x", name));
    let [ya, yb] = ["a", "b"].map(|name| pod(&mut lab, "y", name));
    let outsider = lab.outsider("outsider", "");
    outsider.serve(&[80, 81]);
    lab.policy(
        "network.yaml",
        &file(&[
            ("x", "podSelector: {}"),
            (
                "x",
                "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{podSelector: {}}], ports: [{port: 80}]}, {from: [{namespaceSelector: {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: b}}}], ports: [{protocol: UDP, port: 81}]}]",
            ),
            ("y", "podSelector: {matchLabels: {pod: b}}\npolicyTypes: [Egress]\negress: [{to: [{namespaceSelector: {matchLabels: {ns: x}}}]}]"),
        ]),
    );
    let agent = lab.agent();
    tried(&[
        reaches(&xb, TcpTo(80), &xa),
        is_dropped(&xb, TcpTo(81), &xa),
        is_dropped(&xb, UdpTo(80), &xa),
        reaches(&yb, UdpTo(81), &xa),
        is_dropped(&yb, TcpTo(80), &xa),
        is_dropped(&ya, UdpTo(81), &xa),
        is_dropped(&ya, TcpTo(80), &xa),
        is_dropped(&xa, TcpTo(80), &xb),
        is_refused(&yb, TcpTo(80), &ya),
        is_refused(&yb, UdpTo(81), &outsider),
        // Its policy says nothing of what comes in, and of the other pod there is none.
        reaches(&ya, TcpTo(81), &yb),
        reaches(&outsider, TcpTo(80), &yb),
        reaches(&ya, TcpTo(80), &outsider),
        is_dropped(&outsider, TcpTo(80), &xa),
    ])
    .end(|| agent.dump());
    assert!(
        agent.packets("cgroup_ingress", "allow", "open_ingress") + agent.packets("tc_ingress", "allow", "open_ingress")
            > 0.0
    );
    let rule = agent.eventually("a verdict that names the policy", || {
        let flows = agent.flows(&["--verdict", "allow"]);
        flows.iter().find_map(|flow| flow.rule.as_ref().filter(|rule| rule.group == "networkpolicy:x/policy1").cloned())
    });
    assert!(rule.direction == "ingress" && rule.index < 2, "{rule:?}");
}
