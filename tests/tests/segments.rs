//! Groups between workloads of every kind: each way that a rule allows beside its twins that none allows (another port, another
//! group, the other direction, no group), by TCP, UDP and echo, IPv4 and IPv6.

use bulkhead_tests::case::Way::{BoundUdp, Echo, Tcp, Udp};
use bulkhead_tests::case::{Case, Way, is_dropped, is_refused, reaches, tried};
use bulkhead_tests::document::group;
use bulkhead_tests::lab::{Lab, Workload};

/// How a workload is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By cgroup, interface and addresses.
    Container,
    /// By cgroup.
    Process,
    /// By interface and addresses.
    Device,
    /// By addresses, beyond the uplink.
    Remote,
}

const PORTS: [u16; 5] = [7999, 8000, 8050, 8099, 8100];

/// From group client: ports 8000 to 8099 and echo.
const SERVICE: &str = "[{protocol: tcp, port: 8000, endPort: 8099}, {protocol: udp, port: 8000, endPort: 8099}, \
                       {protocol: icmp, type: 8}, {protocol: icmpv6, type: 128}]";

fn add(lab: &mut Lab, kind: Kind, name: &str, labels: &str) -> Workload {
    let workload = match kind {
        Kind::Container => lab.container(name, labels),
        Kind::Process => lab.process(name, labels),
        Kind::Device => lab.device(name, labels),
        Kind::Remote => lab.outsider(name, labels),
    };
    workload.serve(&PORTS);
    lab.declare(&workload);
    workload
}

/// A server's ingress rule, with a friend that it names, a stranger of another group, and somebody in no group.
fn ingress_is_enforced(server: Kind, friend: Kind) {
    let mut lab = Lab::new();
    let is_host = server == Kind::Process;
    let server = add(&mut lab, server, "server", "app=server");
    let friend = add(&mut lab, friend, "friend", "app=client");
    let stranger = add(&mut lab, Kind::Container, "stranger", "app=other");
    let nobody = lab.outsider("nobody", "");
    nobody.serve(&PORTS);
    let rule = format!("ingress: [{{from: [{{group: client}}], ports: {SERVICE}}}]");
    lab.policy(
        "groups.yaml",
        &[
            group("server", 100, "server", &[&rule]),
            group("client", 200, "client", &[]),
            group("other", 300, "other", &["ingress: []"]),
        ]
        .concat(),
    );
    let agent = lab.agent();

    let mut cases = Vec::new();
    for way in [Tcp(8000), Tcp(8050), Tcp(8099), Udp(8000), Udp(8099), BoundUdp(8050)] {
        cases.push(reaches(&friend, way, &server));
    }
    for way in [Tcp(7999), Tcp(8100), Udp(7999), BoundUdp(8100)] {
        cases.push(is_dropped(&friend, way, &server));
    }
    for way in [Tcp(8050), Udp(8050)] {
        cases.push(is_dropped(&stranger, way, &server));
        cases.push(is_dropped(&nobody, way, &server));
        cases.push(is_dropped(&server, way, &stranger));
        // A server's egress is open, and whoever is in no group takes what comes.
        cases.push(reaches(&server, way, &nobody));
    }
    if !is_host {
        // Echo requests to the host's own addresses are the host's to answer.
        cases.push(reaches(&friend, Echo, &server));
        cases.extend([&stranger, &nobody].map(|from| is_dropped(from, Echo, &server)));
    }
    tried(&cases).end(|| agent.dump());
}

/// A client's egress rule, with a server that it names and one of another group.
fn egress_is_enforced(client: Kind, server: Kind) {
    let mut lab = Lab::new();
    let has_cgroup = matches!(client, Kind::Container | Kind::Process);
    let client = add(&mut lab, client, "client", "app=client");
    let server = add(&mut lab, server, "server", "app=server");
    let other = add(&mut lab, Kind::Device, "other", "app=other");
    let nobody = lab.outsider("nobody", "");
    nobody.serve(&PORTS);
    let rule = format!("egress: [{{to: [{{group: server}}], ports: {SERVICE}}}]");
    let open = "ingress: [{from: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}]}]";
    lab.policy(
        "groups.yaml",
        &[
            group("client", 100, "client", &[&rule]),
            group("server", 200, "server", &[open]),
            group("other", 300, "other", &[open]),
        ]
        .concat(),
    );
    let agent = lab.agent();

    let mut cases = Vec::new();
    for way in [Tcp(8000), Tcp(8099), Udp(8000), Udp(8099), BoundUdp(8050), Echo] {
        cases.push(reaches(&client, way, &server));
    }
    for way in [Tcp(7999), Tcp(8100), Udp(7999), Udp(8100), BoundUdp(8100)] {
        cases.push(is_denied(has_cgroup, &client, way, &server));
    }
    for way in [Tcp(8050), Udp(8050), BoundUdp(8050), Echo] {
        cases.push(is_denied(has_cgroup, &client, way, &other));
        cases.push(is_denied(has_cgroup, &client, way, &nobody));
    }
    for way in [Tcp(7999), Udp(7999), Echo] {
        // In no group: nothing holds for it as a sender.
        cases.push(reaches(&nobody, way, &other));
    }
    tried(&cases).end(|| agent.dump());
}

/// A sender with a cgroup is told at once.
fn is_denied<'a>(has_cgroup: bool, from: &'a Workload, way: Way, to: &'a Workload) -> Case<'a> {
    if has_cgroup { is_refused(from, way, to) } else { is_dropped(from, way, to) }
}

macro_rules! kinds {
    ($($name:ident: $test:ident($first:ident, $second:ident);)+) => {
        $(#[test] fn $name() { $test(Kind::$first, Kind::$second); })+
    };
}

kinds! {
    a_container_takes_from_a_container_what_a_rule_allows: ingress_is_enforced(Container, Container);
    a_container_takes_from_a_device_what_a_rule_allows: ingress_is_enforced(Container, Device);
    a_container_takes_from_a_remote_workload_what_a_rule_allows: ingress_is_enforced(Container, Remote);
    a_device_takes_from_a_container_what_a_rule_allows: ingress_is_enforced(Device, Container);
    a_device_takes_from_a_device_what_a_rule_allows: ingress_is_enforced(Device, Device);
    a_device_takes_from_a_remote_workload_what_a_rule_allows: ingress_is_enforced(Device, Remote);
    a_process_takes_from_a_container_what_a_rule_allows: ingress_is_enforced(Process, Container);
    a_process_takes_from_a_device_what_a_rule_allows: ingress_is_enforced(Process, Device);
    a_process_takes_from_a_remote_workload_what_a_rule_allows: ingress_is_enforced(Process, Remote);
    a_container_sends_to_a_container_what_a_rule_allows: egress_is_enforced(Container, Container);
    a_container_sends_to_a_remote_workload_what_a_rule_allows: egress_is_enforced(Container, Remote);
    a_device_sends_to_a_container_what_a_rule_allows: egress_is_enforced(Device, Container);
    a_device_sends_to_a_remote_workload_what_a_rule_allows: egress_is_enforced(Device, Remote);
    a_process_sends_to_a_device_what_a_rule_allows: egress_is_enforced(Process, Device);
    a_process_sends_to_a_remote_workload_what_a_rule_allows: egress_is_enforced(Process, Remote);
}
