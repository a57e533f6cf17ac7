//! Guardrails between real sockets: they win over what groups allow, and hold for workloads in no group.

use bulkhead_tests::document::group;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload};

/// A server and a client that it lets in by two ports, and a workload in no group.
struct Scene {
    client: Workload,
    server: Workload,
    free: Workload,
    agent: Agent,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let client = lab.container("client", "app=client");
        let server = lab.container("server", "app=server");
        let free = lab.container("free", "app=free");
        for workload in [&client, &server, &free] {
            workload.serve(&[8000, 9000]);
            lab.declare(workload);
        }
        let ingress = "ingress: [{from: [{group: client}]}]";
        let groups = [
            group("server", 100, "server", &["mode: audit", "established: keep", ingress]),
            group("client", 200, "client", &["ingress: [{from: [{group: server}]}]"]),
        ];
        lab.policy("groups.yaml", &groups.concat());
        lab.policy("rail.yaml", "");
        let agent = lab.agent();
        Self { client, server, free, agent, lab }
    }

    /// Makes these the deny entries, and waits until they are in force.
    fn deny(&self, entries: &str) {
        let before = self.agent.status().reloads;
        let document = format!(
            "apiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {{name: rail}}\nspec: {{deny: [{entries}]}}\n"
        );
        self.lab.policy("rail.yaml", if entries.is_empty() { "" } else { &document });
        self.agent.eventually("the guardrail is in force", || (self.agent.status().reloads > before).then_some(()));
    }

    fn reaches(&self, from: &Workload, to: &Workload, port: u16) -> bool {
        let outcomes = Version::BOTH.map(|version| from.tcp(to.at(version, port)));
        assert_eq!(outcomes[0] == Outcome::Reached, outcomes[1] == Outcome::Reached, "{}", self.agent.dump());
        outcomes[0] == Outcome::Reached
    }
}

const PORT_9000: &str = "{description: not 9000, ports: [{protocol: tcp, port: 9000}]}";

#[test]
fn a_guardrail_wins_over_rules_and_audit_until_it_is_removed_and_is_named() {
    let scene = Scene::new();
    assert!(scene.reaches(&scene.client, &scene.server, 9000), "{}", scene.agent.dump());
    scene.deny(&format!("{{to: [{{cidr: 192.0.2.0/24}}]}}, {PORT_9000}"));
    assert!(!scene.reaches(&scene.client, &scene.server, 9000), "{}", scene.agent.dump());
    assert!(scene.reaches(&scene.client, &scene.server, 8000), "{}", scene.agent.dump());

    let denied = scene.agent.eventually("the denial shows", || {
        let flows = scene.agent.flows(&["--verdict", "deny", "--workload", "client"]);
        flows.into_iter().find(|flow| flow.reason == "guardrail")
    });
    let rule = denied.rule.clone().expect("it names its entry");
    assert_eq!((rule.group.as_str(), rule.direction.as_str(), rule.index), ("rail", "deny", 1));
    assert_eq!(rule.description.as_deref(), Some("not 9000"));
    let labels = [("group", "rail"), ("direction", "deny"), ("rule", "1")];
    assert!(scene.agent.metric("bulkhead_rule_hits_total", &labels) >= 1.0, "{}", scene.agent.metrics());
    assert_eq!(scene.agent.status().guardrails, 1);
    let rails = scene.agent.guardrails();
    let [other, entry] = rails[0].deny.as_slice() else { panic!("{rails:?}") };
    assert_eq!((rails[0].name.as_str(), entry.direction.as_str(), entry.index), ("rail", "deny", 1));
    assert_eq!((other.hits, entry.description.as_deref()), (0, Some("not 9000")));
    assert!(entry.hits >= 1 && entry.origin.contains("rail.yaml:4:"), "{rails:?}");

    scene.deny("");
    assert!(scene.reaches(&scene.client, &scene.server, 9000), "{}", scene.agent.dump());
}

#[test]
fn a_workload_in_no_group_is_held_in_both_directions() {
    let scene = Scene::new();
    assert!(scene.reaches(&scene.free, &scene.server, 9000), "audit lets it in: {}", scene.agent.dump());
    scene.deny(PORT_9000);
    assert!(!scene.reaches(&scene.free, &scene.server, 9000), "{}", scene.agent.dump());
    assert!(!scene.reaches(&scene.server, &scene.free, 9000), "{}", scene.agent.dump());
    assert!(scene.reaches(&scene.server, &scene.free, 8000), "{}", scene.agent.dump());
}

#[test]
fn a_new_guardrail_cuts_a_connection_that_a_group_keeps() {
    let scene = Scene::new();
    let kept = Version::BOTH.map(|version| scene.client.keep(scene.server.at(version, 9000)));
    scene.deny("{from: [{group: server}], to: [{group: client}], ports: [{protocol: tcp, port: 9000}]}");
    for kept in kept {
        assert_eq!(scene.client.exchange(kept), Outcome::Reached, "the other way\n{}", scene.agent.dump());
    }
    scene.deny("{from: [{group: client}], to: [{group: server}], ports: [{protocol: tcp, port: 9000}]}");
    for kept in kept {
        assert_eq!(scene.client.exchange(kept), Outcome::Silent, "{}", scene.agent.dump());
    }
}
