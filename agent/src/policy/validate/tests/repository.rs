//! The examples and the reference are policies that hold.

use std::collections::BTreeSet;
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

/// A block of YAML in the documentation.
struct Block {
    /// The page, and the block's line.
    name: String,
    text: String,
}

/// The blocks of YAML on a page.
fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let mut lines = text.lines().enumerate();
    let mut blocks = Vec::new();
    while let Some((number, line)) = lines.next() {
        if line.trim() != "```yaml" {
            continue;
        }
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let text = inside.map(|line| format!("{line}\n")).collect();
        blocks.push(Block { name: format!("{}, block on line {}", page.display(), number + 1), text });
    }
    blocks
}

#[test]
fn every_policy_in_the_documentation_holds() {
    let entries = fs::read_dir(repository().join("docs")).expect("docs/ is there");
    let pages = entries.map(|entry| entry.expect("readable").path()).chain([repository().join("README.md")]);
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let blocks: Vec<Block> = pages.flat_map(|page| blocks(&page)).collect();
    let policies = blocks
        .iter()
        .filter(|block| block.text.contains("apiVersion: bulkhead.dev/") || block.text.contains("kind: NetworkPolicy"));
    let mut count = 0;
    for Block { name, text } in policies {
        compiles(&expect(validate(&[file(name, text)])), name);
        count += 1;
    }
    assert!(count >= 16, "{count} blocks");
}

/// The properties of every object in a schema, by the names that a document has for them.
fn properties<'a>(schema: &'a serde_json::Value, names: &mut BTreeSet<&'a str>) {
    match schema {
        serde_json::Value::Object(members) => {
            if let Some(serde_json::Value::Object(fields)) = members.get("properties") {
                names.extend(fields.keys().map(String::as_str));
            }
            members.values().for_each(|member| properties(member, names));
        }
        serde_json::Value::Array(entries) => entries.iter().for_each(|entry| properties(entry, names)),
        _ => {}
    }
}

/// The keys of every mapping in a document.
fn keys(value: &serde_yaml::Value, names: &mut BTreeSet<String>) {
    match value {
        serde_yaml::Value::Mapping(mapping) => {
            for (key, value) in mapping {
                names.extend(key.as_str().map(str::to_owned));
                keys(value, names);
            }
        }
        serde_yaml::Value::Sequence(entries) => entries.iter().for_each(|entry| keys(entry, names)),
        _ => {}
    }
}

#[test]
fn every_field_has_an_example_in_the_reference() {
    let schema = crate::policy::document::schema::schema();
    let mut fields = BTreeSet::new();
    properties(&schema, &mut fields);
    assert!(fields.len() > 20, "{fields:?}");
    let mut shown = BTreeSet::new();
    for block in blocks(&repository().join("docs/policy.md")) {
        for document in serde_yaml::Deserializer::from_str(&block.text) {
            let value =
                serde::Deserialize::deserialize(document).unwrap_or_else(|error| panic!("{}: {error}", block.name));
            keys(&value, &mut shown);
        }
    }
    let without: Vec<_> = fields.into_iter().filter(|field| !shown.contains(*field)).collect();
    assert!(without.is_empty(), "docs/policy.md has no example of {without:?}");
}
