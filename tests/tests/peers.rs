//! Whom a rule may name, whom a selector finds, and what several groups of one workload add up to.

use bulkhead_tests::case::Way::{Tcp, Udp};
use bulkhead_tests::case::{is_dropped, is_refused, reaches, tried};
use bulkhead_tests::check::Differences;
use bulkhead_tests::document::{group, selecting};
use bulkhead_tests::lab::{Lab, Outcome, Version, Workload};

const OPEN: &str = "ingress: [{from: [{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}]}]";

fn container(lab: &mut Lab, name: &str, labels: &str) -> Workload {
    let workload = lab.container(name, labels);
    workload.serve(&[8000, 9000]);
    lab.declare(&workload);
    workload
}

#[test]
fn a_group_may_be_named_by_its_id_even_if_nobody_here_is_in_it() {
    let mut lab = Lab::new();
    let server = container(&mut lab, "server", "app=server");
    let friend = container(&mut lab, "friend", "app=friend");
    let other = container(&mut lab, "other", "app=other");
    let rule = "ingress: [{from: [{group: 200}, {group: 4711}], ports: [{protocol: tcp, port: 8000}]}]";
    lab.policy(
        "groups.yaml",
        &[
            group("server", 100, "server", &[rule]),
            group("friend", 200, "friend", &[]),
            group("other", 300, "other", &[]),
        ]
        .concat(),
    );
    let agent = lab.agent();
    tried(&[
        reaches(&friend, Tcp(8000), &server),
        is_dropped(&friend, Tcp(9000), &server),
        is_dropped(&friend, Udp(8000), &server),
        is_dropped(&other, Tcp(8000), &server),
    ])
    .end(|| agent.dump());
}

#[test]
fn a_cidr_matches_by_address_alone() {
    let mut lab = Lab::new();
    let server = container(&mut lab, "server", "app=server");
    let inside = container(&mut lab, "inside", "app=inside");
    let client = lab.outsider("client", "");
    client.serve(&[8000, 9000]);
    // Exactly the outsider for ingress, the lab's containers for egress.
    let ingress = format!(
        "ingress: [{{from: [{{cidr: {}/32}}, {{cidr: \"{}/128\"}}], ports: [{{protocol: tcp, port: 8000}}]}}]",
        client.address(Version::V4),
        client.address(Version::V6)
    );
    let egress = "egress: [{to: [{cidr: 10.77.0.0/24}, {cidr: \"fd77::/112\"}], ports: [{protocol: tcp, port: 9000}]}]";
    lab.policy(
        "groups.yaml",
        &[group("server", 100, "server", &[&ingress, egress]), group("inside", 200, "inside", &[OPEN])].concat(),
    );
    let agent = lab.agent();
    tried(&[
        reaches(&client, Tcp(8000), &server),
        is_dropped(&client, Tcp(9000), &server),
        is_dropped(&inside, Tcp(8000), &server),
        reaches(&server, Tcp(9000), &inside),
        is_refused(&server, Tcp(8000), &inside),
        is_refused(&server, Tcp(9000), &client),
    ])
    .end(|| agent.dump());
}

#[test]
fn the_world_is_whoever_is_no_workload_and_the_host_is_the_host() {
    let mut lab = Lab::new();
    let for_world = container(&mut lab, "forworld", "app=forworld");
    let for_host = container(&mut lab, "forhost", "app=forhost");
    let known = lab.outsider("known", "app=known");
    lab.declare(&known);
    let unknown = lab.outsider("unknown", "");
    let process = lab.process("process", "app=none");
    let rule = |entity| format!("ingress: [{{from: [{{entity: {entity}}}], ports: [{{protocol: tcp, port: 8000}}]}}]");
    lab.policy(
        "groups.yaml",
        &[group("forworld", 100, "forworld", &[&rule("world")]), group("forhost", 200, "forhost", &[&rule("host")])]
            .concat(),
    );
    let agent = lab.agent();
    tried(&[
        reaches(&unknown, Tcp(8000), &for_world),
        is_dropped(&unknown, Tcp(9000), &for_world),
        is_dropped(&known, Tcp(8000), &for_world),
        is_dropped(&for_host, Tcp(8000), &for_world),
        is_dropped(&process, Tcp(8000), &for_world),
        reaches(&process, Tcp(8000), &for_host),
        is_dropped(&process, Tcp(9000), &for_host),
        is_dropped(&unknown, Tcp(8000), &for_host),
        is_dropped(&for_world, Tcp(8000), &for_host),
    ])
    .end(|| agent.dump());

    let host = lab.host();
    let mut differences = Differences::default();
    for version in Version::BOTH {
        differences.case("the host's own process to forhost", &Outcome::Reached, &host.tcp(for_host.at(version, 8000)));
        differences.case(
            "the host's own process to forworld",
            &Outcome::Silent,
            &host.tcp(for_world.at(version, 8000)),
        );
    }
    differences.end(|| agent.dump());
}

#[test]
fn the_rules_of_all_groups_of_a_workload_add_up() {
    let mut lab = Lab::new();
    let both = container(&mut lab, "both", "app=server,tier=monitored");
    let one = container(&mut lab, "one", "app=server");
    let client = container(&mut lab, "client", "app=client");
    let monitor = container(&mut lab, "monitor", "app=monitor");
    let rule =
        |peer, port| format!("ingress: [{{from: [{{group: {peer}}}], ports: [{{protocol: tcp, port: {port}}}]}}]");
    lab.policy(
        "groups.yaml",
        &[
            group("server", 100, "server", &[&rule("client", 8000)]),
            selecting("monitored", 110, "{matchLabels: {tier: monitored}}", &[&rule("monitor", 9000)]),
            group("client", 200, "client", &[]),
            group("monitor", 300, "monitor", &[]),
        ]
        .concat(),
    );
    let agent = lab.agent();
    tried(&[
        reaches(&client, Tcp(8000), &both),
        reaches(&monitor, Tcp(9000), &both),
        is_dropped(&client, Tcp(9000), &both),
        is_dropped(&monitor, Tcp(8000), &both),
        reaches(&client, Tcp(8000), &one),
        is_dropped(&monitor, Tcp(9000), &one),
    ])
    .end(|| agent.dump());
}

#[test]
fn one_groups_empty_egress_closes_and_anothers_rule_opens_as_much_as_it_says() {
    let mut lab = Lab::new();
    let closed = container(&mut lab, "closed", "app=closed");
    let opened = container(&mut lab, "opened", "app=closed,extra=yes");
    let free = container(&mut lab, "free", "app=free");
    let server = container(&mut lab, "server", "app=server");
    lab.policy(
        "groups.yaml",
        &[
            group("closed", 100, "closed", &["egress: []"]),
            selecting(
                "extra",
                110,
                "{matchLabels: {extra: yes}}",
                &["egress: [{to: [{group: server}], ports: [{protocol: tcp, port: 8000}]}]"],
            )
            .replace("extra: yes", "extra: \"yes\""),
            group("free", 200, "free", &["ingress: []"]),
            group("server", 300, "server", &[OPEN]),
        ]
        .concat(),
    );
    let agent = lab.agent();
    tried(&[
        is_refused(&closed, Tcp(8000), &server),
        reaches(&opened, Tcp(8000), &server),
        is_refused(&opened, Tcp(9000), &server),
        reaches(&free, Tcp(8000), &server),
        reaches(&free, Tcp(9000), &server),
        is_dropped(&server, Tcp(8000), &free),
    ])
    .end(|| agent.dump());
}

#[test]
fn expressions_select_by_value_and_by_presence() {
    let mut lab = Lab::new();
    let server = container(&mut lab, "server", "app=server");
    let production = container(&mut lab, "production", "env=prod");
    let staging = container(&mut lab, "staging", "env=staging");
    let test = container(&mut lab, "test", "env=test");
    let bare = container(&mut lab, "bare", "other=yes");
    let client =
        |name, id, expression: &str| selecting(name, id, &format!("{{matchExpressions: [{expression}]}}"), &[]);
    let rule = |group, port| format!("{{from: [{{group: {group}}}], ports: [{{protocol: tcp, port: {port}}}]}}");
    let rules = format!(
        "ingress: [{}, {}, {}, {}]",
        rule("in", 8001),
        rule("notin", 8002),
        rule("exists", 8003),
        rule("absent", 8004)
    );
    server.serve(&[8001, 8002, 8003, 8004]);
    lab.policy(
        "groups.yaml",
        &[
            group("server", 100, "server", &[&rules]),
            client("in", 201, "{key: env, operator: In, values: [prod, staging]}"),
            // As in Kubernetes, NotIn also matches where the label is absent.
            client("notin", 202, "{key: env, operator: NotIn, values: [prod]}"),
            client("exists", 203, "{key: env, operator: Exists}"),
            client("absent", 204, "{key: env, operator: DoesNotExist}"),
        ]
        .concat(),
    );
    let agent = lab.agent();
    let mut cases = Vec::new();
    for (from, ports) in [
        (&production, [8001, 8003].as_slice()),
        (&staging, &[8001, 8002, 8003]),
        (&test, &[8002, 8003]),
        (&bare, &[8002, 8004]),
    ] {
        for port in 8001..=8004 {
            let reached = ports.contains(&port);
            cases.push(if reached { reaches(from, Tcp(port), &server) } else { is_dropped(from, Tcp(port), &server) });
        }
    }
    tried(&cases).end(|| agent.dump());
}

#[test]
fn audit_lets_pass_what_it_would_deny_and_tells_of_it() {
    let mut lab = Lab::new();
    let server = container(&mut lab, "server", "app=server");
    let enforced = container(&mut lab, "enforced", "app=enforced");
    let mixed = container(&mut lab, "mixed", "app=server,also=enforced");
    let client = container(&mut lab, "client", "app=client");
    let rule = "ingress: [{from: [{group: client}], ports: [{protocol: tcp, port: 8000}]}]";
    lab.policy(
        "groups.yaml",
        &[
            group("server", 100, "server", &["mode: audit", rule, "egress: []"]),
            group("enforced", 110, "enforced", &[rule]),
            selecting("also", 120, "{matchLabels: {also: enforced}}", &["ingress: []"]),
            group("client", 200, "client", &[OPEN]),
        ]
        .concat(),
    );
    let agent = lab.agent();
    tried(&[
        reaches(&client, Tcp(8000), &server),
        reaches(&client, Tcp(9000), &server),
        reaches(&server, Tcp(9000), &client),
        reaches(&client, Tcp(8000), &enforced),
        is_dropped(&client, Tcp(9000), &enforced),
        // A group in audit never loosens one that is enforced.
        reaches(&client, Tcp(8000), &mixed),
        is_dropped(&client, Tcp(9000), &mixed),
    ])
    .end(|| agent.dump());
    for direction in ["ingress", "egress"] {
        agent.eventually(&format!("an audit of {direction} shows in the flows"), || {
            let flows = agent.flows(&["--verdict", "audit", "--workload", "server", "--port", "9000"]);
            flows.into_iter().find(|flow| flow.direction == direction && flow.reason == "no_rule")
        });
    }
    let audits = agent.flows(&["--verdict", "audit"]);
    assert!(audits.iter().all(|flow| flow.workload.as_deref() == Some("server")), "{audits:#?}");
    assert!(audits.iter().all(|flow| flow.destination_port == Some(9000)), "{audits:#?}");
}
