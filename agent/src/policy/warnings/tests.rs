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
fn a_rule_that_another_one_covers_is_told() {
    let any = "{cidr: 0.0.0.0/0}, {cidr: '::/0'}";
    for (wide, narrow, covered) in [
        ("from: [{group: web}]", "from: [{group: web}]", true),
        ("from: [{group: web}]", "from: [{group: web}], ports: [{protocol: tcp, port: 1}]", true),
        ("from: [{cidr: 10.0.0.0/8}]", "from: [{cidr: 10.1.0.0/16}]", true),
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
        ("from: [{entity: host}], ports: [{protocol: 47}]", "from: [{entity: host}], ports: [{protocol: 47}]", true),
    ] {
        // Whichever stands first.
        for (rules, line, other) in [
            (format!("  - {{{wide}}}\n  - {{description: y, {narrow}}}"), 8, 7),
            (format!("  - {{{narrow}}}\n  - {{{wide}}}"), 7, 8),
        ] {
            let spec = format!("selector: {{}}\ningress:\n{rules}");
            let warnings = warned(&spec, "");
            assert_eq!(warnings.len(), usize::from(covered), "{spec}: {warnings:?}");
            // Of two that say the same the second one is told.
            let (line, other) = if wide == narrow { (8, 7) } else { (line, other) };
            for warning in warnings {
                assert!(warning.message.contains(&format!("the rule on line {other} allows")), "{warning}");
                assert_eq!(warning.origin.as_ref().map(|origin| origin.line), Some(line), "{warning}");
            }
        }
    }
    // Neither another direction nor another group covers.
    assert_eq!(warned("selector: {}\ningress: [{from: [{group: web}]}]\negress: [{to: [{group: web}]}]", ""), []);
}

/// Found by fuzzing: a description may have letters that a terminal takes for commands, or several lines.
#[test]
fn a_warning_that_quotes_a_description_is_one_line_that_a_terminal_can_show() {
    for (description, shown) in
        [("\"\\e[2J\\v\"", "(\"\u{fffd}[2J\")"), ("|\n      from\n      all", "(\"from\u{fffd}all\")")]
    {
        let rules =
            format!("  - from: [{{cidr: \"::/1\"}}]\n  - description: {description}\n    from: [{{cidr: \"::/0\"}}]");
        let warnings = warned(&format!("selector: {{}}\ningress:\n{rules}"), "");
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(
            warning.message.contains(shown) && !warning.message.contains(char::is_control),
            "{:?}",
            warning.message
        );
    }
}

#[test]
fn a_deny_entry_that_another_one_covers_is_told() {
    let ssh = "ports: [{protocol: tcp, port: 22}]";
    for (wide, narrow, covered) in [
        (ssh.to_owned(), format!("from: [{{entity: world}}], {ssh}"), true),
        (format!("from: [{{entity: world}}], {ssh}"), format!("from: [{{entity: world}}], {ssh}"), true),
        ("to: [{cidr: 10.0.0.0/8}]".to_owned(), format!("to: [{{cidr: 10.1.0.0/16}}], {ssh}"), true),
        ("to: [{cidr: 10.0.0.0/8}]".to_owned(), format!("from: [{{cidr: 10.1.0.0/16}}], {ssh}"), false),
        ("from: [{entity: world}]".to_owned(), ssh.to_owned(), false),
    ] {
        for [first, second] in [[&wide, &narrow], [&narrow, &wide]] {
            let rail = |name: &str, entry: &str| {
                format!(
                    "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {{name: {name}}}\nspec: {{deny: [{{{entry}}}]}}\n"
                )
            };
            let warnings = warned("selector: {}", &(rail("a", first) + &rail("b", second)));
            assert_eq!(warnings.len(), usize::from(covered), "{first}; {second}: {warnings:?}");
            let place = if first == &narrow && wide != narrow { "test.yaml:15:" } else { "test.yaml:10:" };
            assert!(warnings.iter().all(|it| it.message.contains(&format!("the entry at {place}"))), "{warnings:?}");
        }
    }
}

#[test]
fn a_rule_that_guardrails_deny_wholly_is_told() {
    let ssh = "ports: [{protocol: tcp, port: 22}]";
    for (rule, deny, denied) in [
        (format!("from: [{{entity: world}}], {ssh}"), format!("{{{ssh}}}"), true),
        (format!("from: [{{entity: world}}], {ssh}"), format!("{{from: [{{entity: world}}], {ssh}}}"), true),
        (format!("from: [{{entity: world}}], {ssh}"), format!("{{from: [{{entity: host}}], {ssh}}}"), false),
        (format!("from: [{{entity: world}}], {ssh}"), format!("{{to: [{{group: web}}], {ssh}}}"), true),
        (format!("from: [{{entity: world}}], {ssh}"), format!("{{to: [{{group: 7}}], {ssh}}}"), false),
        ("from: [{entity: world}]".to_owned(), format!("{{{ssh}}}"), false),
        (
            format!("from: [{{entity: world}}, {{cidr: 10.1.0.0/16}}], {ssh}"),
            format!("{{from: [{{entity: world}}]}}, {{from: [{{cidr: 10.0.0.0/8}}], {ssh}}}"),
            true,
        ),
        (
            format!("from: [{{entity: world}}, {{cidr: 10.1.0.0/16}}], {ssh}"),
            format!("{{from: [{{cidr: 10.0.0.0/8}}], {ssh}}}"),
            false,
        ),
    ] {
        let guardrail = format!(
            "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {{name: rail}}\nspec: {{deny: [{deny}]}}\n"
        );
        let warnings = warned(&format!("selector: {{}}\ningress: [{{{rule}}}]"), &guardrail);
        assert_eq!(warnings.len(), usize::from(denied), "{rule} {deny}: {warnings:?}");
        if denied {
            assert!(warnings[0].message.contains("guardrail `rail` (test.yaml:8:1) denies all"), "{warnings:?}");
        }
    }
    // For an egress rule the members send.
    let rail = "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {name: rail}\nspec: {deny: [{from: [{group: web}]}]}\n";
    assert_eq!(warned("selector: {}\negress: [{to: [{entity: world}]}]", rail).len(), 1);
    assert_eq!(warned("selector: {}\ningress: [{from: [{entity: world}]}]", rail), []);
}

#[test]
fn what_no_packet_can_match_is_told() {
    for (rule, never) in [
        ("from: [{cidr: '2001:db8::/32'}], ports: [{protocol: icmp}]", true),
        ("from: [{cidr: 10.0.0.0/8}], ports: [{protocol: icmpv6, type: 128}]", true),
        ("from: [{cidr: 10.0.0.0/8}], ports: [{protocol: icmpv6}, {protocol: tcp}]", false),
        ("from: [{cidr: 10.0.0.0/8}, {entity: host}], ports: [{protocol: icmpv6}]", false),
    ] {
        let warnings = warned(&format!("selector: {{}}\ningress: [{{{rule}}}]"), "");
        assert_eq!(warnings.len(), usize::from(never), "{rule}: {warnings:?}");
    }
    for (deny, never) in [
        ("from: [{cidr: 10.0.0.0/8}], to: [{cidr: '2001:db8::/32'}]", true),
        ("from: [{cidr: 10.0.0.0/8}], to: [{cidr: 10.0.0.0/8}]", false),
        ("from: [{group: web}]", true),
        ("from: [{group: web}, {entity: host}]", false),
    ] {
        let guardrail = format!(
            "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Guardrail\nmetadata: {{name: rail}}\nspec: {{deny: [{{{deny}}}]}}\n"
        );
        let nobody = "selector: {matchLabels: {a: b}, matchExpressions: [{key: a, operator: DoesNotExist}]}";
        let warnings = warned(nobody, &guardrail);
        let told = warnings.iter().any(|warning| warning.message.contains("this deny entry can never match"));
        assert_eq!(told, never, "{deny}: {warnings:?}");
    }
}

#[test]
fn an_address_of_two_workloads_is_told() {
    let two = format!("{}{}", WORKLOAD, WORKLOAD.replace("name: a", "name: b"));
    let warnings = warned("selector: {}", &two);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("address 10.0.0.1 of workload `b` is also that of `a`"), "{warnings:?}");
}
