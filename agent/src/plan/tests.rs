//! What a plan says, and that it says what the decision then says.

use std::path::PathBuf;

use super::*;
use crate::policy::validate::{PolicyFile, validate};

const WORKLOADS: &str = "
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: web-1, labels: {app: web}}
spec: {cgroup: web-1, addresses: [10.0.0.1, \"fd00::1\"]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: web-2, labels: {app: web}}
spec: {cgroup: web-2, addresses: [10.0.0.3]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: db-1, labels: {app: db}}
spec: {cgroup: db-1, addresses: [10.0.0.2, \"fd00::2\"]}
---
";

fn policy(groups: &str) -> PolicySet {
    let text = format!("{WORKLOADS}{groups}");
    let file = PolicyFile { path: Arc::new(PathBuf::from("shop.yaml")), text };
    validate(&[file]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn group(name: &str, id: u32, spec: &str) -> String {
    format!(
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {{name: {name}}}\nspec:\n  id: {id}\n  \
         selector: {{matchLabels: {{app: {name}}}}}\n  {spec}\n---\n"
    )
}

fn between(before: &str, after: &str, connections: &[ConnectionView]) -> PlanView {
    let connections = ConnectionsView { connections: connections.to_vec(), omitted: 0 };
    plan(&Snapshot::offline(policy(before)), policy(after), &connections).expect("it fits")
}

fn connection(source: &str, destination: &str, port: u16) -> ConnectionView {
    let address = |text: &str| text.parse().expect("an address");
    ConnectionView {
        protocol: 6,
        source: address(source),
        source_port: 40_000,
        destination: address(destination),
        destination_port: port,
        source_cgroup: None,
        destination_cgroup: None,
    }
}

fn lines(view: &PlanView) -> Vec<String> {
    let line = |change: &FlowChange| {
        format!("{} -> {} {}: {} to {}", change.from, change.to, change.ports.join(" "), change.before, change.after)
    };
    view.flows.iter().map(line).collect()
}

const OPEN: &str = "ingress: [{from: [{group: web}], ports: [{protocol: tcp, port: 5432}]}]";

#[test]
fn the_same_policy_changes_nothing_however_it_is_written() {
    let one = group("web", 1, "egress: [{to: [{group: db}]}]") + &group("db", 2, OPEN);
    let split =
        "ingress: [{description: split, from: [{group: web}], ports: [{protocol: tcp, port: 5432, endPort: 5432}]}]";
    let other = group("db", 2, split) + &group("web", 1, "egress: [{to: [{group: db}]}]");
    let view = between(&one, &other, &[connection("10.0.0.1", "10.0.0.2", 5432)]);
    assert!(!view.changes && view.omitted.is_empty(), "{view:#?}");
}

#[test]
fn who_comes_to_be_governed_and_what_that_denies_is_told() {
    let before = group("web", 1, "egress: []");
    let after = before.clone() + &group("db", 2, OPEN);
    let view = between(&before, &after, &[]);
    let becomes: Vec<_> = view.workloads.iter().map(|it| (it.workload.as_str(), it.becomes.as_str())).collect();
    assert_eq!(becomes, [("db-1", "governed")]);
    let lines = lines(&view);
    assert!(lines.contains(&"world -> db all: allow to deny".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("web -> db")), "web sends nothing either way: {lines:?}");
    let back = between(&after, &before, &[]);
    assert!(self::lines(&back).contains(&"world -> db all: deny to allow".to_owned()), "{back:?}");
    assert_eq!(back.workloads[0].becomes, "ungoverned");
}

#[test]
fn ports_that_change_are_told_as_ranges_and_others_are_not() {
    let with = |ports: &str| {
        group("web", 1, "") + &group("db", 2, &format!("ingress: [{{from: [{{group: web}}], ports: [{ports}]}}]"))
    };
    let view = between(&with("{protocol: tcp, port: 5432}"), &with("{protocol: tcp, port: 5430, endPort: 5439}"), &[]);
    assert_eq!(lines(&view), ["web -> db tcp/5430-5431 tcp/5433-5439: deny to allow"]);
    assert_eq!(view.flows[0].by, "db/ingress/0");
}

#[test]
fn outside_addresses_are_told_by_the_cidr_that_makes_the_difference() {
    let with = |cidr: &str| {
        group("db", 2, &format!("ingress: [{{from: [{{cidr: {cidr}}}], ports: [{{protocol: tcp, port: 22}}]}}]"))
    };
    let view = between(&with("192.0.2.0/25"), &with("192.0.2.0/24"), &[]);
    assert_eq!(lines(&view), ["192.0.2.0/24 -> db tcp/22: deny to allow"]);
}

#[test]
fn a_flow_that_is_no_longer_allowed_is_cut_unless_its_group_keeps_it() {
    let closed = group("web", 1, "") + &group("db", 2, "ingress: []");
    let flows = [connection("10.0.0.1", "10.0.0.2", 5432), connection("10.0.0.2", "10.0.0.1", 80)];
    let open = group("web", 1, "") + &group("db", 2, OPEN);
    let view = between(&open, &closed, &flows);
    let cut: Vec<_> =
        view.cut.iter().map(|cut| (cut.from.as_deref(), cut.to.as_deref(), cut.reason.as_str())).collect();
    assert_eq!(cut, [(Some("web-1"), Some("db-1"), "no_rule")], "the other one was not allowed before either");
    let keeping = group("web", 1, "") + &group("db", 2, &format!("established: keep\n  {OPEN}"));
    let view = between(&keeping, &closed, &flows[..1]);
    assert_eq!(view.cut, []);
    assert!(!view.flows.is_empty(), "new flows are denied all the same");
}

#[test]
fn a_guardrail_and_a_mode_are_part_of_it() {
    let rail = "apiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {name: no-ssh}\nspec:\n  deny: [{ports: [{protocol: tcp, port: 22}]}]\n";
    let view = between("", rail, &[]);
    assert!(lines(&view).contains(&"world -> workloads in no group tcp/22: allow to deny".to_owned()), "{view:#?}");
    assert!(view.workloads.is_empty());
    let audited = group("db", 2, "mode: audit");
    let view = between(&audited, &group("db", 2, ""), &[]);
    assert!(lines(&view).contains(&"world -> db all: audit to deny".to_owned()), "{:?}", lines(&view));
}

/// A generator of numbers without any claim (Marsaglia, "Xorshift RNGs", 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A policy of two groups and now and then a guardrail.
    fn policy(&mut self) -> String {
        let rules = |numbers: &mut Self, word: &str| {
            let rule = |numbers: &mut Self| {
                let peer = numbers.pick(&[
                    "{group: web}",
                    "{group: db}",
                    "{cidr: 10.0.0.0/30}",
                    "{entity: world}",
                    "{cidr: 0.0.0.0/0}",
                ]);
                let port = numbers.pick(&["port: 80", "port: 80, endPort: 90", "port: 5432", "port: 1, endPort: 1024"]);
                format!("{{{word}: [{peer}], ports: [{{protocol: tcp, {port}}}]}}")
            };
            (0..numbers.below(3)).map(|_| rule(numbers)).collect::<Vec<_>>().join(", ")
        };
        let mut text = String::new();
        for (id, name) in [(1, "web"), (2, "db")] {
            let mode = self.pick(&["enforce", "enforce", "audit"]);
            let mut spec = format!("mode: {mode}\n  ingress: [{}]", rules(self, "from"));
            if self.below(2) == 0 {
                spec += &format!("\n  egress: [{}]", rules(self, "to"));
            }
            text += &group(name, id, &spec);
        }
        if self.below(3) == 0 {
            text += "apiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {name: rail}\nspec:\n  deny: [{ports: [{protocol: tcp, port: 85}]}]\n";
        }
        text
    }
}

#[test]
fn whatever_two_policies_say_differently_of_a_flow_is_in_the_plan_and_nothing_else() {
    let kind = |end: &str| match end {
        "web-1" | "web-2" => "web".to_owned(),
        "db-1" => "db".to_owned(),
        outside => outside.to_owned(),
    };
    for seed in 1..=25 {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let [before, after] = [numbers.policy(), numbers.policy()];
        let view = between(&before, &after, &[]);
        let snapshots = [&before, &after].map(|text| Snapshot::offline(policy(text)));
        for _ in 0..30 {
            let from = numbers.pick(&["web-1", "web-2", "db-1", "203.0.113.1"]);
            let to = numbers.pick(&["web-1", "db-1", "203.0.113.1"]);
            let port =
                numbers.pick(&["tcp/80", "tcp/85", "tcp/90", "tcp/91", "tcp/1024", "tcp/5432", "tcp/6000", "udp/53"]);
            if from == to || kind(from) == kind(to) && from.starts_with("203") {
                continue;
            }
            let asked: crate::explain::Port = port.parse().expect("a port");
            let [was, is] = snapshots.each_ref().map(|snapshot| {
                let view = crate::explain::explain(snapshot, from, to, &asked).expect("both are there");
                // The plan's example has both IP versions; these rules tell them apart.
                view.answers[0].verdict.clone()
            });
            let covers = |change: &&FlowChange| {
                let name = |end: &str| if end.starts_with("203") { "world".to_owned() } else { kind(end) };
                change.from == name(from)
                    && change.to == name(to)
                    && change.ports.iter().any(|ports| covers(ports, port))
            };
            let told: Vec<_> =
                view.flows.iter().filter(covers).map(|it| (it.before.clone(), it.after.clone())).collect();
            let story =
                format!("seed {seed}: {from} to {to} {port}, {was} and {is}\n{before}\n{after}\n{:#?}", view.flows);
            assert_eq!(told.contains(&(was.clone(), is.clone())), was != is, "{story}");
        }
    }
}

/// Whether a range as a plan tells it has a port.
fn covers(ports: &str, port: &str) -> bool {
    let (protocol, number) = port.split_once('/').expect("a protocol and a port");
    let number: u16 = number.parse().expect("a port");
    match ports.split_once('/') {
        None => ports == "all" || ports == protocol,
        Some((name, range)) => {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let bound = |text: &str| text.parse::<u16>().expect("a port");
            name == protocol && (bound(first)..=bound(last)).contains(&number)
        }
    }
}
