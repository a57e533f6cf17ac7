//! Failsafe ports: the host's own traffic that no policy cuts, and nothing more than that.

use std::net::SocketAddr;

use bulkhead_tests::case::Way::{Tcp, Udp};
use bulkhead_tests::case::{is_dropped, is_refused, reaches, tried};
use bulkhead_tests::document::group;
use bulkhead_tests::lab::protocol::Request;
use bulkhead_tests::lab::{Lab, Outcome, Version, Workload};

const PORTS: &[&str] = &["--failsafe", "in:tcp/22,in:udp/68,out:tcp/6443,out:udp/67"];

/// A daemon of the host, a container and somebody beyond: the first two in a group that allows nothing.
struct Scene {
    daemon: Workload,
    container: Workload,
    outsider: Workload,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let daemon = lab.process("daemon", "app=closed");
        let container = lab.container("container", "app=closed");
        let outsider = lab.outsider("outsider", "");
        for workload in [&daemon, &container, &outsider] {
            workload.serve(&[22, 67, 68, 6443, 8000]);
        }
        for workload in [&daemon, &container] {
            lab.declare(workload);
        }
        lab.policy("groups.yaml", &group("closed", 100, "closed", &["ingress: []", "egress: []"]));
        Self { daemon, container, outsider, lab }
    }
}

#[test]
fn a_failsafe_port_of_the_host_is_open_whatever_the_policy_says() {
    let Scene { daemon, container, outsider, lab } = Scene::new();
    // Not even a guardrail cuts it.
    let rail = "apiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {name: rail}\n\
                spec: {deny: [{ports: [{protocol: tcp}]}]}\n";
    lab.policy("rail.yaml", rail);
    let agent = lab.agent_with(PORTS);
    tried(&[
        reaches(&outsider, Tcp(22), &daemon),
        reaches(&outsider, Udp(68), &daemon),
        reaches(&daemon, Tcp(6443), &outsider),
        reaches(&daemon, Udp(67), &outsider),
        // The other way round it is another port.
        is_dropped(&outsider, Tcp(6443), &daemon),
        is_dropped(&outsider, Udp(67), &daemon),
        is_refused(&daemon, Tcp(22), &outsider),
        is_refused(&daemon, Udp(68), &outsider),
        is_dropped(&outsider, Tcp(8000), &daemon),
        is_refused(&daemon, Tcp(8000), &outsider),
    ])
    .end(|| agent.dump());
    // A container's traffic is its own, not the host's.
    tried(&[
        is_dropped(&outsider, Tcp(22), &container),
        is_dropped(&outsider, Udp(68), &container),
        // The call does not know whose address it will have; the packet does.
        is_dropped(&container, Tcp(6443), &outsider),
        is_refused(&container, Udp(67), &outsider),
    ])
    .end(|| agent.dump());
    let flows = agent.flows(&[]);
    let mut seen = flows.iter().filter(|flow| flow.reason == "failsafe").peekable();
    assert!(seen.peek().is_some(), "{}", agent.dump());
    let is_daemons = |workload: Option<&str>| workload == Some("daemon");
    assert!(seen.all(|flow| flow.verdict == "allow" && is_daemons(flow.workload.as_deref())), "{}", agent.dump());
}

#[test]
fn a_failsafe_port_opens_nothing_to_who_merely_sends_from_it() {
    let Scene { daemon, outsider, lab, .. } = Scene::new();
    // A port that the daemon does not listen at.
    let agent = lab.agent_with(&["--failsafe", "in:udp/69"]);
    for version in Version::BOTH {
        let from = Some(SocketAddr::new(daemon.address(version), 69));
        let to = outsider.at(version, 8000);
        let sent = daemon.attempt(&Request::Datagram { to, from, connected: false, patience: 500 });
        assert_eq!(sent, Outcome::Refused, "{version:?}\n{}", agent.dump());
    }
}

#[test]
fn without_failsafe_ports_the_policy_alone_decides() {
    let Scene { daemon, outsider, lab, .. } = Scene::new();
    let agent = lab.agent_with(&["--failsafe", "none"]);
    tried(&[
        is_dropped(&outsider, Tcp(22), &daemon),
        is_dropped(&outsider, Udp(68), &daemon),
        is_refused(&daemon, Tcp(6443), &outsider),
        is_refused(&daemon, Udp(67), &outsider),
    ])
    .end(|| agent.dump());
}

#[test]
fn a_daemon_that_nobody_has_identified_yet_has_the_failsafe_ports_too() {
    let mut lab = Lab::new();
    let outsider = lab.outsider("outsider", "");
    lab.policy("groups.yaml", &group("closed", 100, "closed", &["ingress: []"]));
    // Nobody is there to identify what starts after this.
    lab.agent_with(&[PORTS, &["--managed-scope", "managed=deny"]].concat()).kill();
    let daemon = lab.process_in("managed/daemon", "daemon", "");
    for workload in [&daemon, &outsider] {
        workload.serve(&[22, 6443, 8000]);
    }
    tried(&[
        reaches(&outsider, Tcp(22), &daemon),
        reaches(&daemon, Tcp(6443), &outsider),
        is_dropped(&outsider, Tcp(8000), &daemon),
        is_dropped(&daemon, Tcp(8000), &outsider),
    ])
    .end(|| "with no agent".to_owned());
}
