//! Kubernetes' NetworkPolicies: a table of who reaches whom, held against the model and the decision, and a good part of it
//! between real sockets.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bulkhead::policy::validate::{PolicyFile, validate};
use bulkhead::workload::{CgroupRef, Labels, SourceKind, Workload};
use bulkhead_ebpf::abi::Verdict;
use bulkhead_tests::case::Way::{Tcp as TcpTo, Udp as UdpTo};
use bulkhead_tests::case::{is_dropped, is_refused, reaches, tried};
use bulkhead_tests::check::Differences;
use bulkhead_tests::equivalence::{Implementation, Userspace};
use bulkhead_tests::lab::{self, Lab, Version};
use bulkhead_tests::model::{Message, Model, Packet, SCTP, Spot, TCP, Timeouts, UDP, World};
use bulkhead_tests::world::Stage;

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 3] = ["a", "b", "c"];

/// One pod of the nine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pod {
    namespace: &'static str,
    name: &'static str,
}

impl Pod {
    fn all() -> impl Iterator<Item = Self> {
        NAMESPACES.into_iter().flat_map(|namespace| PODS.into_iter().map(move |name| Self { namespace, name }))
    }

    fn is(self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    fn address(self, version: Version) -> IpAddr {
        let number = |of: &str, all: [&str; 3]| 1 + all.iter().position(|one| *one == of).expect("one of them");
        let (namespace, pod) = (number(self.namespace, NAMESPACES), number(self.name, PODS));
        let text = match version {
            Version::V4 => format!("10.1.{namespace}.{pod}"),
            Version::V6 => format!("fd00:1:{namespace}::{pod}"),
        };
        text.parse().expect("an address")
    }

    fn cgroup(self) -> String {
        format!("pods/{}-{}", self.namespace, self.name)
    }

    fn labels(self) -> Labels {
        let pairs = [
            ("pod", self.name),
            ("namespace", self.namespace),
            ("namespace.ns", self.namespace),
            ("namespace.kubernetes.io/metadata.name", self.namespace),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct Service {
    version: Version,
    protocol: u8,
    port: u16,
}

impl Service {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for version in Version::BOTH {
            for protocol in [TCP, UDP, SCTP] {
                all.extend([80, 81].map(|port| Self { version, protocol, port }));
            }
        }
        all
    }

    fn is(self, protocol: u8, port: u16) -> bool {
        self.protocol == protocol && self.port == port
    }

    fn message(self) -> Message {
        let (source, destination) = (40_000, self.port);
        match self.protocol {
            TCP => Message::Tcp { source, destination, flags: bulkhead_tests::model::SYN },
            UDP => Message::Udp { source, destination },
            _ => Message::Sctp { source, destination },
        }
    }
}

/// Policies, each in a namespace with a spec, and who reaches whom under them: a pod always reaches itself.
struct Row {
    what: &'static str,
    policies: &'static [(&'static str, &'static str)],
    reaches: fn(Pod, Pod, Service) -> bool,
}

const TABLE: &[Row] = &[
    Row { what: "nothing selects a pod: it is open", policies: &[], reaches: |_, _, _| true },
    Row {
        what: "no rules for ingress",
        policies: &[("x", "podSelector: {}")],
        reaches: |_, to, _| to.namespace != "x",
    },
    Row {
        what: "an empty list of rules for ingress",
        policies: &[("x", "podSelector: {}\ningress: []")],
        reaches: |_, to, _| to.namespace != "x",
    },
    Row {
        what: "an empty rule for ingress",
        policies: &[("x", "podSelector: {}\ningress: [{}]")],
        reaches: |_, _, _| true,
    },
    Row {
        what: "no egress: ingress stays open",
        policies: &[("x", "podSelector: {}\npolicyTypes: [Egress]")],
        reaches: |from, _, _| from.namespace != "x",
    },
    Row {
        what: "an empty list of rules for egress, without policyTypes, says nothing of egress",
        policies: &[("x", "podSelector: {}\negress: []")],
        reaches: |_, to, _| to.namespace != "x",
    },
    Row {
        what: "rules for egress, without policyTypes, say something of both directions",
        policies: &[("x", "podSelector: {}\negress: [{to: [{podSelector: {}}]}]")],
        reaches: |from, to, _| to.namespace != "x" && from.namespace != "x",
    },
    Row {
        what: "both types and no rules",
        policies: &[("x", "podSelector: {}\npolicyTypes: [Ingress, Egress]")],
        reaches: |from, to, _| from.namespace != "x" && to.namespace != "x",
    },
    Row {
        what: "rules for egress, of a policy that is for ingress alone, count for nothing",
        policies: &[("x", "podSelector: {}\npolicyTypes: [Ingress]\negress: [{to: [{podSelector: {}}]}]")],
        reaches: |_, to, _| to.namespace != "x",
    },
    Row {
        what: "an empty rule for egress",
        policies: &[("x", "podSelector: {}\npolicyTypes: [Egress]\negress: [{}]")],
        reaches: |_, _, _| true,
    },
    Row {
        what: "pods of the policy's own namespace",
        policies: &[(
            "x",
            concat!(
                "podSelector: {matchLabels: {pod: a}}\n",
                "ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]"
            ),
        )],
        reaches: |from, to, _| !to.is("x", "a") || from.is("x", "b"),
    },
    Row {
        what: "every pod of the policy's own namespace",
        policies: &[("x", "podSelector: {}\ningress: [{from: [{podSelector: {}}]}]")],
        reaches: |from, to, _| to.namespace != "x" || from.namespace == "x",
    },
    Row {
        what: "all pods of a namespace",
        policies: &[(
            "x",
            "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]",
        )],
        reaches: |from, to, _| !to.is("x", "a") || from.namespace == "y",
    },
    Row {
        what: "a namespace by the label that Kubernetes gives it",
        policies: &[(
            "x",
            "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]",
        )],
        reaches: |from, to, _| to.namespace != "x" || from.namespace == "z",
    },
    Row {
        what: "every namespace",
        policies: &[("x", "podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]")],
        reaches: |_, _, _| true,
    },
    Row {
        what: "both selectors in one peer: those pods of those namespaces",
        policies: &[(
            "x",
            "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: b}}}]}]",
        )],
        reaches: |from, to, _| !to.is("x", "a") || from.is("y", "b"),
    },
    Row {
        what: "the same selectors in two peers: either",
        policies: &[(
            "x",
            "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}, {podSelector: {matchLabels: {pod: b}}}]}]",
        )],
        reaches: |from, to, _| !to.is("x", "a") || from.namespace == "y" || from.is("x", "b"),
    },
    Row {
        what: "namespaces but for one",
        policies: &[(
            "x",
            "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}]}]",
        )],
        reaches: |from, to, _| to.namespace != "x" || from.namespace != "x",
    },
    Row {
        what: "pods by expressions, on both sides",
        policies: &[(
            "x",
            "podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}\n\
             ingress: [{from: [{podSelector: {matchExpressions: [{key: pod, operator: Exists}, {key: pod, operator: NotIn, values: [c]}]}}]}]",
        )],
        reaches: |from, to, _| to.namespace != "x" || to.name == "c" || (from.namespace == "x" && from.name != "c"),
    },
    Row {
        what: "a label that no pod has",
        policies: &[(
            "x",
            "podSelector: {}\ningress: [{from: [{podSelector: {matchExpressions: [{key: other, operator: DoesNotExist}]}}]}]",
        )],
        reaches: |from, to, _| to.namespace != "x" || from.namespace == "x",
    },
    Row {
        what: "an empty `from`: anyone",
        policies: &[("x", "podSelector: {}\ningress: [{from: [], ports: [{port: 80}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.is(TCP, 80),
    },
    Row {
        what: "a port without a protocol is TCP's",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{port: 80}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.is(TCP, 80),
    },
    Row {
        what: "a protocol without a port is all of it",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{protocol: UDP}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.protocol == UDP,
    },
    Row {
        what: "an entry with neither is all of TCP",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.protocol == TCP,
    },
    Row {
        what: "an empty list of ports: all",
        policies: &[("x", "podSelector: {}\ningress: [{from: [{podSelector: {}}], ports: []}]")],
        reaches: |from, to, _| to.namespace != "x" || from.namespace == "x",
    },
    Row {
        what: "a range of ports",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{protocol: UDP, port: 79, endPort: 80}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.is(UDP, 80),
    },
    Row {
        what: "ports of several protocols",
        policies: &[(
            "x",
            "podSelector: {}\ningress: [{ports: [{protocol: SCTP, port: 81}, {protocol: TCP, port: 80}]}]",
        )],
        reaches: |_, to, service| to.namespace != "x" || service.is(SCTP, 81) || service.is(TCP, 80),
    },
    Row {
        what: "a named port, of which nothing is known: nothing",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{port: http}]}]")],
        reaches: |_, to, _| to.namespace != "x",
    },
    Row {
        what: "a named port beside a number",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{port: http}, {port: 81}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.is(TCP, 81),
    },
    Row {
        what: "addresses of one IP version",
        policies: &[("x", "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 10.1.2.0/24}}]}]")],
        reaches: |from, to, service| to.namespace != "x" || (from.namespace == "y" && service.version == Version::V4),
    },
    Row {
        what: "addresses with bits beyond the prefix, as Kubernetes reads them",
        policies: &[("x", "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: \"fd00:1:2::7/48\"}}]}]")],
        reaches: |from, to, service| to.namespace != "x" || (from.namespace == "y" && service.version == Version::V6),
    },
    Row {
        what: "addresses but for some",
        policies: &[(
            "x",
            "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.1.3.0/24, 10.1.2.2/32]}}]}]",
        )],
        reaches: |from, to, service| {
            to.namespace != "x" || (service.version == Version::V4 && from.namespace != "z" && !from.is("y", "b"))
        },
    },
    Row {
        what: "addresses for egress",
        policies: &[(
            "x",
            "podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: \"fd00:1::/32\", except: [\"fd00:1:2::/48\"]}}], ports: [{port: 81}]}]",
        )],
        reaches: |from, to, service| {
            from.namespace != "x" || (service.version == Version::V6 && service.is(TCP, 81) && to.namespace != "y")
        },
    },
    Row {
        what: "policies are a union",
        policies: &[
            ("x", "podSelector: {}"),
            ("x", "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{podSelector: {}}], ports: [{port: 80}]}]"),
            (
                "x",
                "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: z}}}], ports: [{port: 81}]}]",
            ),
        ],
        reaches: |from, to, service| {
            to.namespace != "x"
                || (to.name == "a"
                    && ((from.namespace == "x" && service.is(TCP, 80))
                        || (from.namespace == "z" && service.is(TCP, 81))))
        },
    },
    Row {
        what: "rules of one policy are a union",
        policies: &[(
            "y",
            "podSelector: {}\ningress: [{from: [{podSelector: {}}]}, {ports: [{protocol: UDP, port: 81}]}]",
        )],
        reaches: |from, to, service| to.namespace != "y" || from.namespace == "y" || service.is(UDP, 81),
    },
    Row {
        what: "one policy for what comes in, another for what goes out: neither speaks for the other",
        policies: &[
            (
                "x",
                "podSelector: {matchLabels: {pod: a}}\npolicyTypes: [Ingress]\ningress: [{from: [{podSelector: {}}]}]",
            ),
            (
                "x",
                "podSelector: {matchLabels: {pod: a}}\npolicyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]",
            ),
        ],
        reaches: |from, to, _| (!to.is("x", "a") || from.namespace == "x") && (!from.is("x", "a") || to.is("x", "b")),
    },
    Row {
        what: "what the sender may and the receiver does not take is denied, and the other way round",
        policies: &[
            (
                "x",
                "podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: 80}]}]",
            ),
            (
                "y",
                "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}], ports: [{port: 80}, {port: 81}]}]",
            ),
        ],
        reaches: |from, to, service| match (from.namespace, to.namespace) {
            ("x", "y") => service.is(TCP, 80),
            ("x", _) | (_, "y") => false,
            _ => true,
        },
    },
];

fn file(policies: &[(&str, &str)]) -> String {
    let document = |(number, (namespace, spec)): (usize, &(&str, &str))| {
        let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: policy{number}, namespace: {namespace}}}\nspec:\n{spec}"
        )
    };
    policies.iter().enumerate().map(document).collect()
}

fn world(policies: &[(&str, &str)]) -> World {
    let mut world = World { host: vec!["10.1.0.1".parse().expect("an address")], ..World::default() };
    if !policies.is_empty() {
        let file = PolicyFile { path: Arc::new(PathBuf::from("policies.yaml")), text: file(policies) };
        world.policy = validate(&[file]).unwrap_or_else(|problems| panic!("{problems:?}"));
    }
    let workload = |(number, pod): (u64, Pod)| Workload {
        name: format!("pod:{}/{}", pod.namespace, pod.name),
        source: SourceKind::File,
        labels: pod.labels(),
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
    let timeouts = Timeouts {
        tcp_embryonic: 120.0,
        tcp_established: 350.0,
        tcp_closing: 120.0,
        udp_one_way: 30.0,
        udp_stream: 180.0,
        icmp: 30.0,
        other: 600.0,
    };
    let mut model = Model::new(world.clone(), timeouts);
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
    assert!(["ingress"].contains(&rule.direction.as_str()) && rule.index < 2, "{rule:?}");
}
