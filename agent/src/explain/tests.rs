//! What is explained, and that the steps and changes agree with the decision.

use std::path::PathBuf;

use super::*;
use crate::policy::validate::{PolicyFile, validate};

const SHOP: &str = "
apiVersion: bulkhead.dev/v1alpha1
kind: SecurityGroup
metadata: {name: web}
spec:
  id: 1
  selector: {matchLabels: {app: web}}
  egress:
    - {description: orders, to: [{group: db}], ports: [{protocol: tcp, port: 5432}]}
    - {to: [{cidr: 192.0.2.0/24}], ports: [{protocol: tcp, port: 443}]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SecurityGroup
metadata: {name: db}
spec:
  id: 2
  selector: {matchLabels: {app: db}}
  ingress:
    - {from: [{group: web}], ports: [{protocol: tcp, port: 5432}]}
    - {from: [{group: web}], ports: [{protocol: udp, port: 53}]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: SecurityGroup
metadata: {name: batch}
spec:
  id: 3
  mode: audit
  selector: {matchLabels: {app: batch}}
  egress: []
---
apiVersion: bulkhead.dev/v1alpha1
kind: Guardrail
metadata: {name: no-telnet}
spec:
  deny: [{description: never, ports: [{protocol: tcp, port: 23}]}]
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: web-1, labels: {app: web}}
spec: {cgroup: web-1, addresses: [10.0.0.1, \"fd00::1\"]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: db-1, labels: {app: db}}
spec: {cgroup: db-1, addresses: [10.0.0.2, \"fd00::2\"]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: db-2, labels: {app: db, tier: spare}}
spec: {addresses: [10.0.1.2]}
---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: other, labels: {app: other}}
spec: {cgroup: other, addresses: [10.0.0.9]}
";

fn snapshot(policy: &str) -> Snapshot {
    let file = PolicyFile { path: Arc::new(PathBuf::from("shop.yaml")), text: policy.to_owned() };
    Snapshot::offline(validate(&[file]).unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn ask(from: &str, to: &str, port: &str) -> ExplainView {
    let port = port.parse().unwrap_or_else(|error| panic!("{port}: {error}"));
    explain(&snapshot(SHOP), from, to, &port).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_verdict_has_steps_with_every_rule_considered_and_where_it_stands() {
    let view = ask("web-1", "db-1", "tcp/5432");
    assert_eq!((view.verdict.as_str(), view.mixed, view.answers.len()), ("allow", false, 2), "both IP versions");
    let rules: Vec<_> = view.steps.iter().filter(|step| step.kind == "rule").collect();
    let seen: Vec<_> = rules.iter().map(|step| (step.name.as_deref(), step.index, step.matches)).collect();
    assert_eq!(
        seen,
        [
            (Some("web"), Some(0), Some(true)),
            (Some("web"), Some(1), Some(false)),
            (Some("db"), Some(0), Some(true)),
            (Some("db"), Some(1), Some(false)),
        ]
    );
    assert_eq!(rules[0].origin.as_deref(), Some("shop.yaml:9:7"));
    assert!(rules[3].text.ends_with("it has the peer, not the port"), "{}", rules[3].text);
    assert!(rules[1].text.ends_with("none of its peers, and it does not have the port"), "{}", rules[1].text);
    assert_eq!(view.answers[0].sides[1].rule.as_deref(), Some("db/ingress/0"));
}

#[test]
fn what_would_have_to_change_was_tried() {
    for (from, to, port, verdict, other, what) in [
        ("web-1", "db-1", "tcp/5432", "allow", "deny", "take rule db/ingress/0 away"),
        ("web-1", "db-1", "tcp/5433", "deny", "allow", "add a rule to the ingress of group db"),
        ("db-1", "web-1", "tcp/80", "deny", "allow", "add a rule to the ingress of group web"),
        ("other", "db-1", "tcp/5432", "deny", "allow", "add a rule to the ingress of group db"),
        ("app=batch", "192.0.2.1", "tcp/443", "audit", "allow", "add a rule to the egress of group batch"),
        ("web-1", "db-1", "tcp/23", "deny", "allow", "take entry 0 of guardrail no-telnet away"),
        ("other", "203.0.113.5", "tcp/443", "allow", "deny", "write a group"),
        ("db-1", "203.0.113.5", "tcp/443", "allow", "deny", "have group db mention egress"),
    ] {
        let view = ask(from, to, port);
        let case = format!("{from} to {to} {port}: {view:#?}");
        assert_eq!(view.verdict, verdict, "{case}");
        for answer in &view.answers {
            assert_eq!(answer.change.verdict, other, "{case}");
            assert!(answer.change.tried, "{case}");
            assert!(answer.change.what.iter().any(|step| step.contains(what)), "{case}");
        }
    }
}

#[test]
fn a_rule_that_is_told_allows_when_it_is_added() {
    let view = ask("other", "db-1", "tcp/5432");
    let yaml = view.answers[0].change.yaml.as_deref().expect("a rule");
    let rule: String = yaml.lines().filter(|line| !line.starts_with('#')).map(|line| format!("    {line}\n")).collect();
    let at = SHOP.find("    - {from: [{group: web}], ports: [{protocol: udp").expect("it is there");
    let changed = format!("{}{rule}{}", &SHOP[..at], &SHOP[at..]);
    let port = "tcp/5432".parse().expect("a port");
    let view = explain(&snapshot(&changed), "other", "db-1", &port).expect("it is explained");
    assert_eq!(view.verdict, "allow", "{yaml}");
    let twin = explain(&snapshot(&changed), "203.0.113.5", "db-1", &port).expect("it is explained");
    assert_eq!(twin.verdict, "deny");
}

#[test]
fn labels_mean_everyone_who_has_them_and_different_verdicts_are_all_shown() {
    let view = ask("app=web", "app=db", "udp/53");
    let verdicts: Vec<_> =
        view.answers.iter().map(|answer| (answer.to.workload.as_deref(), answer.verdict.as_str())).collect();
    assert_eq!(verdicts, [(Some("db-1"), "deny"), (Some("db-1"), "deny"), (Some("db-2"), "deny")]);
    let view = ask("web-1", "world", "tcp/443");
    assert_eq!(view.verdict, "deny");
    let view = ask("app=other", "tier=spare", "tcp/1");
    assert!(
        view.steps.iter().any(|step| step.kind == "assumption" && step.text.contains("on another host")),
        "{view:?}"
    );
    let mixed = explain(&snapshot(SHOP), "app=web", "world", &"tcp/443".parse().expect("a port")).expect("explained");
    assert!(!mixed.mixed);
}

#[test]
fn who_has_no_such_labels_is_imagined_and_a_wrong_name_gets_a_suggestion() {
    let view = ask("app=batch", "db-1", "tcp/5432");
    assert_eq!(view.verdict, "deny", "batch is in audit, db is not");
    assert!(view.steps.iter().any(|step| step.kind == "assumption" && step.text.contains("one is imagined")));
    let error = explain(&snapshot(SHOP), "web-2", "db-1", &"tcp/1".parse().expect("a port")).expect_err("nobody");
    assert!(error.contains("there is web-1"), "{error}");
}

#[test]
fn ports_read_as_they_are_named() {
    for text in ["tcp/5432", "udp/53", "sctp/9", "icmp/8/0", "icmpv6/128/0", "47"] {
        assert_eq!(text.parse::<Port>().map(|port| name_of(port.0)).as_deref(), Ok(text));
    }
    for wrong in ["", "tcp", "tcp/", "tcp/x", "tcp/65536", "6", "icmp/1/2/3", "icmp/256", "256", "tcp/1/2", "http"] {
        assert!(wrong.parse::<Port>().is_err_and(|error| error.contains("tcp/5432")), "{wrong}");
    }
}
