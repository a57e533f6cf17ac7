//! Nine pods in three namespaces, and who of them reaches whom under which policies.

use std::net::IpAddr;

use bulkhead::workload::Labels;
use bulkhead_tests::lab::Version;
use bulkhead_tests::model::{Message, SCTP, SYN, TCP, UDP};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 3] = ["a", "b", "c"];

/// One pod of the nine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: &'static str,
    pub name: &'static str,
}

impl Pod {
    pub fn all() -> impl Iterator<Item = Self> {
        NAMESPACES.into_iter().flat_map(|namespace| PODS.into_iter().map(move |name| Self { namespace, name }))
    }

    pub fn is(self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }

    pub fn address(self, version: Version) -> IpAddr {
        let number = |of: &str, all: [&str; 3]| 1 + all.iter().position(|one| *one == of).expect("one of them");
        let (namespace, pod) = (number(self.namespace, NAMESPACES), number(self.name, PODS));
        let text = match version {
            Version::V4 => format!("10.1.{namespace}.{pod}"),
            Version::V6 => format!("fd00:1:{namespace}::{pod}"),
        };
        text.parse().expect("an address")
    }

    pub fn cgroup(self) -> String {
        format!("pods/{}-{}", self.namespace, self.name)
    }

    /// The number of the port that it calls `web`.
    pub fn web(self, protocol: u8) -> Option<u16> {
        match (self.namespace, self.name, protocol) {
            ("x", "a", TCP) | ("y", "b", TCP | UDP) | ("z", "c", TCP) => Some(80),
            ("x", "b", TCP) | ("x", "a", UDP) | ("y" | "z", "a", TCP) => Some(81),
            _ => None,
        }
    }

    pub fn labels(self) -> Labels {
        let ports = [("port.tcp.web", TCP), ("port.udp.web", UDP)]
            .into_iter()
            .filter_map(|(key, protocol)| Some((key.to_owned(), self.web(protocol)?.to_string())));
        let pairs = [
            ("pod", self.name),
            ("namespace", self.namespace),
            ("namespace.ns", self.namespace),
            ("namespace.kubernetes.io/metadata.name", self.namespace),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).chain(ports).collect()
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub version: Version,
    pub protocol: u8,
    pub port: u16,
}

impl Service {
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for version in Version::BOTH {
            for protocol in [TCP, UDP, SCTP] {
                all.extend([80, 81].map(|port| Self { version, protocol, port }));
            }
        }
        all
    }

    pub fn is(self, protocol: u8, port: u16) -> bool {
        self.protocol == protocol && self.port == port
    }

    /// Whether it is what a pod calls `web` in that protocol.
    pub fn is_web(self, protocol: u8, of: Pod) -> bool {
        self.protocol == protocol && of.web(protocol) == Some(self.port)
    }

    pub fn message(self) -> Message {
        let (source, destination) = (40_000, self.port);
        match self.protocol {
            TCP => Message::Tcp { source, destination, flags: SYN },
            UDP => Message::Udp { source, destination },
            _ => Message::Sctp { source, destination },
        }
    }
}

/// Policies, each in a namespace with a spec, and who reaches whom under them: a pod always reaches itself.
pub struct Row {
    pub what: &'static str,
    pub policies: &'static [(&'static str, &'static str)],
    pub reaches: fn(Pod, Pod, Service) -> bool,
}

pub const TABLE: &[Row] = &[
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
        what: "a named port that no pod has: nothing",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{port: http}]}]")],
        reaches: |_, to, _| to.namespace != "x",
    },
    Row {
        what: "a named port beside a number",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{port: http}, {port: 81}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.is(TCP, 81),
    },
    Row {
        what: "a named port for ingress: each pod's own number",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{port: web}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.is_web(TCP, to),
    },
    Row {
        what: "the same name of another protocol is another port",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{protocol: UDP, port: web}]}]")],
        reaches: |_, to, service| to.namespace != "x" || service.is_web(UDP, to),
    },
    Row {
        what: "a named port in a protocol in which no pod has it: nothing",
        policies: &[("x", "podSelector: {}\ningress: [{ports: [{protocol: SCTP, port: web}]}]")],
        reaches: |_, to, _| to.namespace != "x",
    },
    Row {
        what: "a named port beside others, from pods and addresses",
        policies: &[(
            "x",
            "podSelector: {}\ningress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.1.2.0/24}}], \
             ports: [{port: web}, {protocol: UDP, port: web}, {protocol: SCTP, port: 81}]}]",
        )],
        reaches: |from, to, service| {
            to.namespace != "x"
                || ((service.is_web(TCP, to) || service.is_web(UDP, to) || service.is(SCTP, 81))
                    && (from.namespace == "x" || (from.namespace == "y" && service.version == Version::V4)))
        },
    },
    Row {
        what: "policies with one named port each: for whom each is",
        policies: &[
            ("x", "podSelector: {matchLabels: {pod: a}}\ningress: [{from: [{podSelector: {}}], ports: [{port: web}]}]"),
            (
                "x",
                "podSelector: {matchLabels: {pod: b}}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: web}]}]",
            ),
        ],
        reaches: |from, to, service| match (to.namespace, to.name) {
            ("x", "a") => from.namespace == "x" && service.is_web(TCP, to),
            ("x", "b") => from.namespace == "y" && service.is_web(TCP, to),
            _ => true,
        },
    },
    Row {
        what: "a named port for egress: the number of who receives",
        policies: &[(
            "x",
            "podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{namespaceSelector: {matchLabels: {ns: y}}}], ports: [{port: web}]}]",
        )],
        reaches: |from, to, service| from.namespace != "x" || (to.namespace == "y" && service.is_web(TCP, to)),
    },
    Row {
        what: "a named port for egress to several peers, in two protocols",
        policies: &[(
            "y",
            "podSelector: {}\npolicyTypes: [Egress]\n\
             egress: [{to: [{podSelector: {matchLabels: {pod: b}}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}}], \
             ports: [{port: web}, {protocol: UDP, port: web}]}]",
        )],
        reaches: |from, to, service| {
            from.namespace != "y"
                || ((to.is("y", "b") || to.namespace == "x") && (service.is_web(TCP, to) || service.is_web(UDP, to)))
        },
    },
    Row {
        what: "a named port for egress to anyone: every pod that has it",
        policies: &[("x", "podSelector: {}\npolicyTypes: [Egress]\negress: [{ports: [{port: web}]}]")],
        reaches: |from, to, service| from.namespace != "x" || service.is_web(TCP, to),
    },
    Row {
        what: "a named port for egress to addresses: an address is no pod",
        policies: &[(
            "x",
            "podSelector: {}\npolicyTypes: [Egress]\n\
             egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}, {podSelector: {matchLabels: {pod: b}}}], ports: [{port: web}, {port: 80}]}]",
        )],
        reaches: |from, to, service| {
            from.namespace != "x"
                || (service.is(TCP, 80) && (service.version == Version::V4 || to.is("x", "b")))
                || (to.is("x", "b") && service.is_web(TCP, to))
        },
    },
    Row {
        what: "a named port that the sender may and the receiver takes by its number",
        policies: &[
            (
                "x",
                "podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{namespaceSelector: {}}], ports: [{port: web}]}]",
            ),
            ("y", "podSelector: {}\ningress: [{ports: [{port: 80}]}]"),
        ],
        reaches: |from, to, service| {
            (from.namespace != "x" || service.is_web(TCP, to)) && (to.namespace != "y" || service.is(TCP, 80))
        },
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
