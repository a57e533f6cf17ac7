//! A case as a story that a person can follow.

use std::fmt::Write;

use bulkhead::policy::model::{Guardrail, NamedPort, Peer, PortMatch, PortOf, Rule};

use super::Difference;
use crate::model::{ACK, FIN, Message, Packet, RST, SYN, Spot, World};
use crate::world::{Case, Step};

/// Tells a case and where it went wrong.
#[must_use]
pub fn story(case: &Case, difference: &Difference) -> String {
    let mut text = String::from("In this world:\n");
    tell_world(&mut text, &case.world);
    text.push_str("this happens:\n");
    for (index, step) in case.steps.iter().enumerate().take(difference.step + 1) {
        let _ = write!(text, "  {}. ", index + 1);
        match step {
            Step::Wait(seconds) => {
                let _ = writeln!(text, "{seconds} seconds pass.");
            }
            Step::Change(world) => {
                text.push_str("the world changes to:\n");
                tell_world(&mut text, world);
            }
            Step::Packet(packet) | Step::Onward(packet) => {
                tell_packet(&mut text, packet);
                text.push('\n');
            }
        }
    }
    let Difference { implementation, expected, found, .. } = difference;
    let _ = writeln!(
        text,
        "The model says {}, because of {} {:?};\n{implementation} says {}.",
        expected.verdict.as_str(),
        expected.reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(" or "),
        expected.rules,
        match found.verdict {
            Some((verdict, reason)) => format!("{}, because of {} {:?}", verdict.as_str(), reason.as_str(), found.rule),
            None => (if found.passes { "that it passes" } else { "that it does not pass" }).to_owned(),
        }
    );
    text
}

fn tell_world(text: &mut String, world: &World) {
    for workload in &world.workloads {
        let labels: Vec<String> = workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let _ = write!(text, "    workload {} ({})", workload.name, labels.join(","));
        if let Some(cgroup) = &workload.cgroup {
            let _ = write!(text, " in {}", cgroup.path);
        }
        if let Some(link) = &workload.interface {
            let _ = write!(text, " behind link {}", link.index);
        }
        let _ = writeln!(text, " at {:?}", workload.addresses);
    }
    if !world.nodes.is_empty() {
        let _ = writeln!(text, "    other nodes at {:?}", world.nodes);
    }
    for service in &world.services {
        let _ = writeln!(text, "    service {} at {:?}", service.name, service.addresses);
        for port in &service.ports {
            let _ = writeln!(text, "        {}/{} stands for {:?}", port.protocol, port.port, port.backends);
        }
    }
    for scope in &world.scopes {
        let says = if scope.denies { "denies" } else { "allows" };
        let _ = writeln!(text, "    managed scope {} {says} what is unidentified", scope.cgroup.path);
    }
    if world.denies_midstream {
        text.push_str("    segments of unknown connections are denied\n");
    }
    for group in &world.policy.groups {
        let members: Vec<&str> = world
            .workloads
            .iter()
            .filter(|workload| group.selector.matches(&workload.labels))
            .map(|workload| &*workload.name)
            .collect();
        let _ = writeln!(
            text,
            "    group {} ({:?}, {:?}) of {}",
            group.id,
            group.mode,
            group.established,
            if members.is_empty() { "nobody".to_owned() } else { members.join(", ") }
        );
        tell_rules(text, "ingress", group.ingress.as_ref());
        tell_rules(text, "egress", group.egress.as_ref());
    }
    for guardrail in &world.policy.guardrails {
        tell_guardrail(text, guardrail);
    }
}

fn tell_guardrail(text: &mut String, guardrail: &Guardrail) {
    let side = |peers: &Option<Vec<Peer>>| {
        peers
            .as_ref()
            .map_or_else(|| "anyone".to_owned(), |peers| peers.iter().map(peer).collect::<Vec<_>>().join(", "))
    };
    for (index, entry) in guardrail.entries.iter().enumerate() {
        let (from, to) = (side(&entry.from), side(&entry.to));
        let _ = writeln!(
            text,
            "    guardrail {} {index}: from {from} to {to} for {}",
            guardrail.name,
            ports(entry.ports.as_ref())
        );
    }
}

fn ports(ports: Option<&Vec<PortMatch>>) -> String {
    ports.map_or_else(|| "everything".to_owned(), |ports| ports.iter().map(port).collect::<Vec<_>>().join(", "))
}

fn tell_rules(text: &mut String, direction: &str, rules: Option<&Vec<Rule>>) {
    let Some(rules) = rules else { return };
    if rules.is_empty() {
        let _ = writeln!(text, "        {direction}: nothing");
    }
    for (index, rule) in rules.iter().enumerate() {
        let peers: Vec<String> = rule.peers.iter().map(peer).collect();
        let ports = ports(rule.ports.as_ref());
        let named: String = rule.named.iter().map(named).collect();
        let _ = writeln!(text, "        {direction} {index}: {} for {ports}{named}", peers.join(", "));
    }
}

fn named(named: &NamedPort) -> String {
    match &named.of {
        PortOf::Subjects(id) => format!("; to members of group {id} too for {}", port(&named.port)),
        PortOf::Peers(peers) => {
            format!("; {} for {}", peers.iter().map(peer).collect::<Vec<_>>().join(", "), port(&named.port))
        }
    }
}

fn peer(peer: &Peer) -> String {
    match peer {
        Peer::Group(id) => format!("group {id}"),
        Peer::Cidr(net) => net.to_string(),
        Peer::World => "world".to_owned(),
        Peer::Host => "host".to_owned(),
        Peer::RemoteHost => "remote-host".to_owned(),
    }
}

fn port(port: &PortMatch) -> String {
    match port {
        PortMatch::Ports { protocol, first, last } => format!("protocol {protocol} ports {first}-{last}"),
        PortMatch::Icmp { protocol, kind, code } => format!("protocol {protocol} type {kind:?} code {code:?}"),
        PortMatch::Protocol(protocol) => format!("protocol {protocol}"),
    }
}

fn tell_packet(text: &mut String, packet: &Packet) {
    let spot = match &packet.spot {
        Spot::CgroupEgress { cgroup, loopback } => format!("leaves {cgroup}{}", on_loopback(*loopback)),
        Spot::CgroupIngress { cgroup, loopback } => format!("reaches {cgroup}{}", on_loopback(*loopback)),
        Spot::TcEgress { interface } => format!("comes from link {interface}"),
        Spot::TcIngress { interface } => format!("goes to link {interface}"),
        Spot::Xdp => "arrives at the uplink".to_owned(),
    };
    let _ = write!(text, "{} -> {} {} {spot}", packet.source, packet.destination, message(&packet.message));
    if packet.hops != 64 {
        let _ = write!(text, ", hop limit {}", packet.hops);
    }
    if let Some(id) = packet.fragment {
        let _ = write!(text, ", fragment of datagram {id}");
    }
    if packet.dressed {
        text.push_str(", with tags and options");
    }
}

const fn on_loopback(loopback: bool) -> &'static str {
    if loopback { " on loopback" } else { "" }
}

fn message(message_of: &Message) -> String {
    match message_of {
        Message::Tcp { source, destination, flags } => {
            let names = [(SYN, "SYN"), (ACK, "ACK"), (FIN, "FIN"), (RST, "RST")];
            let set: Vec<&str> = names.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect();
            format!("tcp {source} -> {destination} [{}]", set.join(" "))
        }
        Message::Udp { source, destination } => format!("udp {source} -> {destination}"),
        Message::Sctp { source, destination } => format!("sctp {source} -> {destination}"),
        Message::Icmp { kind, code, identifier } => format!("icmp type {kind} code {code} id {identifier}"),
        Message::IcmpError { kind, code, quote: None } => format!("icmp error type {kind} code {code}"),
        Message::IcmpError { kind, code, quote: Some(quote) } => format!(
            "icmp error type {kind} code {code} about {} -> {} {}",
            quote.source,
            quote.destination,
            message(&quote.message)
        ),
        Message::Other(protocol) => format!("protocol {protocol}"),
        Message::LaterFragment { protocol } => format!("later fragment of protocol {protocol}"),
        Message::Malformed { protocol } => format!("malformed, protocol {protocol}"),
        Message::NotIp { ethertype } => format!("ethertype {ethertype:#06x}"),
        Message::Arp => "ARP".to_owned(),
    }
}
