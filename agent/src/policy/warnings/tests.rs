//! What is worth a warning, and what is not.

use std::sync::Arc;

use super::*;
use crate::policy::validate::{PolicyFile, validate};

/// Warnings of a SecurityGroup `web` with this spec, and of further documents.
fn warned(spec: &str, more: &str) -> Vec<Problem> {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let text =
        format!("apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {{name: web}}\nspec:\n{spec}{more}");
    let file = PolicyFile { path: Arc::new("test.yaml".into()), text };
    warnings(&validate(&[file]).unwrap_or_else(|problems| panic!("{problems:?}")))
}

const WORKLOAD: &str = "---
apiVersion: bulkhead.dev/v1alpha1
kind: Workload
metadata: {name: a, labels: {app: web}}
spec: {addresses: [10.0.0.1]}
";

#[test]
fn a_selector_that_contradicts_itself_is_told() {
    for (selector, why) in [
        (
            "{matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [c, d]}]}",
            Some("no value of label `a`"),
        ),
        (
            "{matchLabels: {a: b}, matchExpressions: [{key: a, operator: NotIn, values: [b]}]}",
            Some("no value of label `a`"),
        ),
        (
            "{matchLabels: {a: b}, matchExpressions: [{key: a, operator: DoesNotExist}]}",
            Some("must be there and must not"),
        ),
        (
            "{matchExpressions: [{key: a, operator: Exists}, {key: a, operator: DoesNotExist}]}",
            Some("must be there and must not"),
        ),
        ("{matchLabels: {a: b}, matchExpressions: [{key: a, operator: In, values: [c, b]}]}", None),
        ("{matchExpressions: [{key: a, operator: NotIn, values: [b]}, {key: a, operator: DoesNotExist}]}", None),
        ("{matchLabels: {a: b}, matchExpressions: [{key: c, operator: DoesNotExist}]}", None),
    ] {
        let warnings = warned(&format!("selector: {selector}"), "");
        assert_eq!(warnings.len(), usize::from(why.is_some()), "{selector}: {warnings:?}");
        for warning in warnings {
            assert!(warning.message.contains(why.expect("one is expected")), "{warning}");
        }
    }
}

#[test]
fn a_group_without_members_is_told_only_where_workloads_are_declared() {
    let selector = "selector: {matchLabels: {app: api}}";
    assert_eq!(warned(selector, ""), []);
    let warnings = warned(selector, WORKLOAD);
    assert!(warnings[0].message.contains("group `web` selects none of the declared workloads"), "{warnings:?}");
    assert_eq!(warned("selector: {matchLabels: {app: web}}", WORKLOAD), []);
}

#[test]
fn a_rule_that_an_earlier_one_covers_is_told() {
    let any = "{cidr: 0.0.0.0/0}, {cidr: '::/0'}";
    for (wide, narrow, covered) in [
        ("from: [{group: web}]", "from: [{group: web}]", true),
        ("from: [{group: web}]", "from: [{group: web}], ports: [{protocol: tcp, port: 1}]", true),
        ("from: [{group: web}], ports: [{protocol: tcp, port: 1}]", "from: [{group: web}]", false),
        ("from: [{cidr: 10.0.0.0/8}]", "from: [{cidr: 10.1.0.0/16}]", true),
        ("from: [{cidr: 10.1.0.0/16}]", "from: [{cidr: 10.0.0.0/8}]", false),
        ("from: [{cidr: 10.0.0.0/8}]", "from: [{cidr: 10.1.0.0/16}, {entity: host}]", false),
        (&format!("from: [{any}]"), "from: [{entity: world}]", true),
        ("from: [{cidr: 0.0.0.0/0}]", "from: [{entity: world}]", false),
        (&format!("from: [{any}]"), "from: [{group: web}]", false),
        (
            "from: [{entity: host}], ports: [{protocol: tcp, port: 1, endPort: 9}]",
            "from: [{entity: host}], ports: [{protocol: tcp, port: 5}]",
            true,
        ),
        (
            "from: [{entity: host}], ports: [{protocol: tcp, port: 5}]",
            "from: [{entity: host}], ports: [{protocol: udp, port: 5}]",
            false,
        ),
        (
            "from: [{entity: host}], ports: [{protocol: icmp, type: 3}]",
            "from: [{entity: host}], ports: [{protocol: icmp, type: 3, code: 4}]",
            true,
        ),
        (
            "from: [{entity: host}], ports: [{protocol: icmp, type: 3, code: 4}]",
            "from: [{entity: host}], ports: [{protocol: icmp, type: 3}]",
            false,
        ),
        ("from: [{entity: host}], ports: [{protocol: 47}]", "from: [{entity: host}], ports: [{protocol: 47}]", true),
    ] {
        let spec = format!("selector: {{}}\ningress:\n  - {{{wide}}}\n  - {{description: y, {narrow}}}");
        let warnings = warned(&spec, "");
        assert_eq!(warnings.len(), usize::from(covered), "{spec}: {warnings:?}");
        if covered {
            assert!(warnings[0].message.contains("the rule on line 7 allows already"), "{warnings:?}");
            assert_eq!(warnings[0].origin.as_ref().map(|origin| origin.line), Some(8));
        }
    }
    // Neither another direction nor another group covers.
    assert_eq!(warned("selector: {}\ningress: [{from: [{group: web}]}]\negress: [{to: [{group: web}]}]", ""), []);
}

#[test]
fn an_address_of_two_workloads_is_told() {
    let two = format!("{}{}", WORKLOAD, WORKLOAD.replace("name: a", "name: b"));
    let warnings = warned("selector: {}", &two);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("address 10.0.0.1 of workload `b` is also that of `a`"), "{warnings:?}");
}
