//! Each hook on its own: what it allows and what it denies show in its counters and in the flows, with the one who was judged.

use std::sync::Arc;
use std::time::Instant;

use bulkhead::view::FlowView;
use bulkhead_tests::check::slowed;
use bulkhead_tests::document::group;
use bulkhead_tests::frame;
use bulkhead_tests::lab::probe::PATIENCE;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Transport, Version, Workload};

/// From everyone to 8000; to everyone's 8000.
const RULES: [&str; 2] = [
    "ingress: [{from: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}], ports: [{protocol: tcp, port: 8000}, {protocol: udp, port: 8000}]}]",
    "egress: [{to: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}], ports: [{protocol: tcp, port: 8000}, {protocol: udp, port: 8000}]}]",
];

/// One governed workload, `subject`, and one beyond the uplink that nothing holds for.
struct Scene {
    agent: Agent,
    subject: Workload,
    outsider: Workload,
    lab: Lab,
}

impl Scene {
    fn new(subject: impl FnOnce(&mut Lab) -> Workload) -> Self {
        let mut lab = Lab::new();
        let subject = subject(&mut lab);
        let outsider = lab.outsider("outsider", "");
        for workload in [&subject, &outsider] {
            workload.serve(&[8000, 9000]);
        }
        lab.declare(&subject);
        lab.policy("groups.yaml", &group("subjects", 100, "subject", &RULES));
        let agent = lab.agent();
        Self { agent, subject, outsider, lab }
    }

    /// Makes an attempt that is to end like this, and sees that the hook counts it.
    fn counts(&self, hook: &str, verdict: &str, reason: &str, expected: &Outcome, attempt: impl FnOnce() -> Outcome) {
        let before = self.agent.packets(hook, verdict, reason);
        let seen = attempt();
        assert_eq!(&seen, expected, "{hook} {verdict} {reason}\n{}", self.agent.dump());
        let after = self.agent.packets(hook, verdict, reason);
        assert!(after > before, "{hook} counts no {verdict} for {reason}\n{}", self.agent.dump());
    }

    /// The denial at port 9000 shows in the flows.
    fn tells_of_a_denial(&self, hook: &str, direction: &str, version: Version) -> Arc<FlowView> {
        let flow = self.agent.eventually(&format!("a denial at {hook} by {version:?} shows in the flows"), || {
            let flows = self.agent.flows(&["--verdict", "deny", "--workload", "subject", "--port", "9000"]);
            let is_v4 = version == Version::V4;
            flows.into_iter().find(|flow| flow.hook == hook && flow.destination.is_ipv4() == is_v4)
        });
        assert_eq!(flow.direction, direction, "{flow:#?}");
        assert_eq!(flow.reason, "no_rule", "{flow:#?}");
        assert_eq!(flow.workload.as_deref(), Some("subject"), "{flow:#?}");
        assert_eq!(flow.groups, ["subjects"], "{flow:#?}");
        flow
    }
}

#[test]
fn connect_fails_at_once() {
    let scene = Scene::new(|lab| lab.container("subject", "app=subject"));
    for version in Version::BOTH {
        let at = |port| scene.outsider.at(version, port);
        scene.counts("connect", "allow", "rule", &Outcome::Reached, || scene.subject.tcp(at(8000)));
        scene.counts("connect", "deny", "no_rule", &Outcome::Refused, || {
            let start = Instant::now();
            let outcome = scene.subject.tcp(at(9000));
            assert!(start.elapsed() < slowed(PATIENCE), "no time-out is waited for");
            outcome
        });
        let flow = scene.tells_of_a_denial("connect", "egress", version);
        assert_eq!(flow.process, Some(scene.subject.pid()), "the process is named");
        scene.counts("connect", "deny", "no_rule", &Outcome::Refused, || scene.subject.udp_with(at(9000), None, true));
        scene.counts("connect", "allow", "rule", &Outcome::Reached, || scene.subject.udp_with(at(8000), None, true));
    }
}

#[test]
fn connect_to_an_ipv4_address_by_an_ipv6_socket_is_the_same() {
    let scene = Scene::new(|lab| lab.container("subject", "app=subject"));
    let mapped = |port| match scene.outsider.at(Version::V4, port) {
        std::net::SocketAddr::V4(at) => (at.ip().to_ipv6_mapped(), at.port()).into(),
        std::net::SocketAddr::V6(_) => unreachable!("it was asked for by IPv4"),
    };
    scene.counts("connect", "allow", "rule", &Outcome::Reached, || scene.subject.tcp(mapped(8000)));
    scene.counts("connect", "deny", "no_rule", &Outcome::Refused, || scene.subject.tcp(mapped(9000)));
    assert_eq!(scene.subject.udp(mapped(8000)), Outcome::Reached, "{}", scene.agent.dump());
    assert_eq!(scene.subject.udp(mapped(9000)), Outcome::Refused, "{}", scene.agent.dump());
}

#[test]
fn sendmsg_fails_at_once() {
    let scene = Scene::new(|lab| lab.container("subject", "app=subject"));
    for version in Version::BOTH {
        let at = |port| scene.outsider.at(version, port);
        // The kernel binds a socket before it calls the hook, which so can't tell a first send from an answer: it leaves the
        // decision to the packet, whose denial the same system call returns.
        scene.counts("sendmsg", "allow", "deferred", &Outcome::Reached, || scene.subject.udp(at(8000)));
        scene.counts("cgroup_egress", "allow", "rule", &Outcome::Reached, || scene.subject.udp(at(8000)));
        scene.counts("cgroup_egress", "deny", "no_rule", &Outcome::Refused, || scene.subject.udp(at(9000)));
        scene.tells_of_a_denial("cgroup_egress", "egress", version);
    }
}

#[test]
fn sendmsg_leaves_answers_alone() {
    // Nothing may go out, but what came in by a rule is answered, by a socket that never connected.
    let mut lab = Lab::new();
    let subject = lab.process("subject", "app=subject");
    subject.serve(&[8000]);
    let client = lab.container("client", "");
    lab.declare(&subject);
    lab.policy("groups.yaml", &group("subjects", 100, "subject", &[RULES[0], "egress: []"]));
    let agent = lab.agent();
    for version in Version::BOTH {
        assert_eq!(client.udp(subject.at(version, 8000)), Outcome::Reached, "{}", agent.dump());
        assert_eq!(subject.udp(client.at(version, 8000)), Outcome::Refused, "{}", agent.dump());
    }
}

#[test]
fn cgroup_egress_judges_what_no_system_call_tells() {
    let scene = Scene::new(|lab| lab.process("subject", "app=subject"));
    for version in Version::BOTH {
        let bound =
            |port| scene.subject.udp_with(scene.outsider.at(version, port), Some(scene.subject.at(version, 0)), false);
        scene.counts("cgroup_egress", "allow", "rule", &Outcome::Reached, || bound(8000));
        scene.counts("cgroup_egress", "deny", "no_rule", &Outcome::Refused, || bound(9000));
        scene.tells_of_a_denial("cgroup_egress", "egress", version);
        // The kernel keeps the error of an ICMPv6 packet to itself.
        let denied = if version == Version::V4 { Outcome::Refused } else { Outcome::Silent };
        let echo = || scene.subject.echo(scene.outsider.address(version));
        scene.counts("cgroup_egress", "deny", "no_rule", &denied, echo);
    }
}

#[test]
fn cgroup_ingress_judges_what_a_process_receives() {
    let mut lab = Lab::new();
    let subject = lab.process("subject", "app=subject");
    subject.serve(&[8000, 9000]);
    let sender = lab.container("sender", "");
    lab.declare(&subject);
    lab.policy("groups.yaml", &group("subjects", 100, "subject", &RULES));
    let agent = lab.agent();
    let scene = Scene { agent, subject, outsider: sender, lab };
    for version in Version::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            let attempt = |port| scene.outsider.reach(transport, scene.subject.at(version, port));
            scene.counts("cgroup_ingress", "allow", "rule", &Outcome::Reached, || attempt(8000));
            scene.counts("cgroup_ingress", "deny", "no_rule", &Outcome::Silent, || attempt(9000));
        }
        scene.tells_of_a_denial("cgroup_ingress", "ingress", version);
    }
}

#[test]
fn xdp_judges_what_comes_from_outside() {
    let scene = Scene::new(|lab| lab.container("subject", "app=subject"));
    for version in Version::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            let attempt = |port| scene.outsider.reach(transport, scene.subject.at(version, port));
            scene.counts("xdp", "allow", "rule", &Outcome::Reached, || attempt(8000));
            scene.counts("xdp", "deny", "no_rule", &Outcome::Silent, || attempt(9000));
        }
        scene.tells_of_a_denial("xdp", "ingress", version);
    }
}

#[test]
fn xdp_lets_nobody_from_outside_pose_as_a_workload_of_this_host() {
    let mut neighbour = None;
    let scene = Scene::new(|lab| {
        neighbour = Some(lab.container("neighbour", "app=neighbour"));
        neighbour.iter().for_each(|neighbour| lab.declare(neighbour));
        lab.container("subject", "app=subject")
    });
    let neighbour = neighbour.expect("it was made");
    let mac = scene.outsider.gateway_mac();
    let spoofed = || scene.agent.packets("xdp", "deny", "spoofed");
    for version in Version::BOTH {
        // A port that is open to everyone.
        let to = scene.subject.at(version, 8000);
        for posed in [&neighbour, &scene.subject] {
            let before = spoofed();
            scene.outsider.inject("eth0", &frame::udp(mac, posed.at(version, 4000), to, b"posed"));
            scene.agent.eventually(&format!("what claims to be {} is dropped", posed.name), || {
                (spoofed() > before).then_some(())
            });
        }
        let honest = format!("honest by {version:?}");
        scene.outsider.inject("eth0", &frame::udp(mac, scene.outsider.at(version, 4000), to, honest.as_bytes()));
        scene.agent.eventually("what claims to be nobody else arrives", || {
            scene.subject.received(8000).contains(&honest).then_some(())
        });
        assert!(!scene.subject.received(8000).contains(&"posed".to_owned()), "{}", scene.agent.dump());
    }
}

#[test]
fn tc_judges_what_a_device_sends() {
    let scene = Scene::new(|lab| lab.device("subject", "app=subject"));
    for version in Version::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            let attempt = |port| scene.subject.reach(transport, scene.outsider.at(version, port));
            scene.counts("tc_egress", "allow", "rule", &Outcome::Reached, || attempt(8000));
            scene.counts("tc_egress", "deny", "no_rule", &Outcome::Silent, || attempt(9000));
        }
        scene.tells_of_a_denial("tc_egress", "egress", version);
    }
}

#[test]
fn tc_judges_what_a_device_receives() {
    let mut lab = Lab::new();
    let subject = lab.device("subject", "app=subject");
    subject.serve(&[8000, 9000]);
    // A container, because what comes through the uplink is judged there already.
    let sender = lab.container("sender", "");
    lab.declare(&subject);
    lab.policy("groups.yaml", &group("subjects", 100, "subject", &RULES));
    let agent = lab.agent();
    let scene = Scene { agent, subject, outsider: sender, lab };
    for version in Version::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            let attempt = |port| scene.outsider.reach(transport, scene.subject.at(version, port));
            scene.counts("tc_ingress", "allow", "rule", &Outcome::Reached, || attempt(8000));
            scene.counts("tc_ingress", "deny", "no_rule", &Outcome::Silent, || attempt(9000));
        }
        scene.tells_of_a_denial("tc_ingress", "ingress", version);
    }
}

#[test]
fn tc_is_the_wall_behind_the_cgroup_programs() {
    let scene = Scene::new(|lab| lab.container("subject", "app=subject"));
    let mac = scene.subject.gateway_mac();
    for version in Version::BOTH {
        let (own, stolen) = (scene.subject.at(version, 4000), scene.lab.host_address(version));
        let to = |port| scene.outsider.at(version, port);
        let denied = || scene.agent.packets("tc_egress", "deny", "no_rule");
        let spoofed = || scene.agent.packets("tc_egress", "deny", "spoofed");
        let (denied_before, spoofed_before) = (denied(), spoofed());
        scene.subject.inject("eth0", &frame::udp(mac, own, to(9000), b"another port"));
        scene.subject.inject("eth0", &frame::udp(mac, (stolen, 4000).into(), to(8000), b"another sender"));
        let allowed = format!("allowed by {version:?}");
        scene.subject.inject("eth0", &frame::udp(mac, own, to(8000), allowed.as_bytes()));
        // The link keeps the order: when the last one is there, the others would be.
        scene.agent.eventually("an injected datagram that a rule allows arrives", || {
            scene.outsider.received(8000).contains(&allowed).then_some(())
        });
        assert!(denied() > denied_before && spoofed() > spoofed_before, "{}", scene.agent.dump());
        assert_eq!(scene.outsider.received(9000), [""; 0], "{}", scene.agent.dump());
        assert!(!scene.outsider.received(8000).contains(&"another sender".to_owned()), "{}", scene.agent.dump());
    }
}

#[test]
fn loopback_is_never_cut() {
    let scene = Scene::new(|lab| lab.container("subject", "app=subject"));
    for version in Version::BOTH {
        // To itself by its own address, at a port that no rule names.
        scene.counts("cgroup_ingress", "allow", "loopback", &Outcome::Reached, || {
            scene.subject.tcp(scene.subject.at(version, 9000))
        });
    }
}
