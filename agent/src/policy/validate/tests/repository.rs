//! The examples and the reference are policies that hold.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::policy::compile::{GroupSet, RuleNumbers, compile};
use crate::policy::load::load;
use crate::policy::warnings::warnings;

pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files in policies/.
pub(super) fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join("policies")).expect("policies/ is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{paths:?}");
    paths
}

/// Compiles a policy as if a workload were in each group, and one in all of them.
fn compiles(policy: &PolicySet, of: &str) {
    let each = policy.groups.iter().map(|group| GroupSet::from([group.id]));
    let all: GroupSet = policy.groups.iter().map(|group| group.id).collect();
    let sets = each.chain([all]).collect();
    compile(policy, &sets, &mut RuleNumbers::default()).unwrap_or_else(|error| panic!("{of}: {error}"));
}

fn expect(result: Result<PolicySet, Vec<Problem>>) -> PolicySet {
    result.unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

#[test]
fn every_example_holds_alone_and_all_hold_together() {
    for path in examples() {
        let policy = expect(load(std::slice::from_ref(&path)));
        assert!(!policy.groups.is_empty() || !policy.guardrails.is_empty());
        compiles(&policy, &path.display().to_string());
        assert_eq!(warnings(&policy), [], "{}", path.display());
    }
    compiles(&expect(load(&[repository().join("policies")])), "policies/");
}

#[test]
fn every_rule_of_the_shop_has_a_description() {
    let policy = expect(load(&[repository().join("policies/shop.yaml")]));
    let ids: Vec<(&str, u32)> = policy.groups.iter().map(|group| (group.name.as_str(), group.id.0)).collect();
    assert_eq!(ids, [("api", 200), ("batch", 400), ("db", 300), ("web", 100)]);
    for rule in policy.groups.iter().flat_map(SecurityGroup::all_rules) {
        assert!(rule.description.is_some(), "{}", rule.origin);
    }
}

#[test]
fn every_block_of_the_reference_holds() {
    let reference = fs::read_to_string(repository().join("docs/policy.md")).expect("docs/policy.md is there");
    let mut blocks = 0;
    let mut lines = reference.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() != "```yaml" {
            continue;
        }
        let block: String =
            lines.by_ref().take_while(|(_, line)| line.trim() != "```").map(|(_, line)| format!("{line}\n")).collect();
        let name = format!("docs/policy.md, block on line {}", number + 1);
        compiles(&expect(validate(&[file(&name, &block)])), &name);
        blocks += 1;
    }
    assert!(blocks >= 8, "{blocks} blocks");
}
