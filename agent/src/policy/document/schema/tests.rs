//! The schema takes what the agent takes, and refuses what an editor should underline.

use serde_json::Value;

use super::*;

fn valid(text: &str) -> bool {
    let document: Value = serde_yaml::from_str(text).expect("YAML");
    jsonschema::validator_for(&schema()).expect("a schema").is_valid(&document)
}

const GROUP: &str = "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: web}\nspec: ";

#[test]
fn every_example_fits_the_schema() {
    let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    let mut documents = 0;
    for entry in std::fs::read_dir(policies).expect("policies/ is there") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("text");
        for document in text.split("---\n").filter(|text| text.contains("kind:")) {
            assert!(valid(document), "{}:\n{document}", path.display());
            documents += 1;
        }
    }
    assert!(documents > 5);
}

#[test]
fn what_an_editor_can_see_is_refused() {
    assert!(valid(&format!("{GROUP}{{selector: {{}}, egress: [{{to: [{{group: 7}}], ports: [{{protocol: 47}}]}}]}}")));
    for spec in [
        "{}",
        "{selector: {}, ingres: []}",
        "{selector: {}, mode: loud}",
        "{selector: {}, id: 0}",
        "{selector: {}, ingress: [{}]}",
        "{selector: {}, ingress: [{from: []}]}",
        "{selector: {}, ingress: [{from: [{}]}]}",
        "{selector: {}, ingress: [{from: [{group: a, cidr: 10.0.0.0/8}]}]}",
        "{selector: {}, ingress: [{from: [{entity: moon}]}]}",
        "{selector: {}, ingress: [{from: [{entity: host}], ports: [{port: 1}]}]}",
        "{selector: {}, ingress: [{from: [{entity: host}], ports: [{protocol: gre}]}]}",
        "{selector: {}, ingress: [{from: [{entity: host}], ports: [{protocol: tcp, port: 0}]}]}",
        "{selector: {matchExpressions: [{key: a, operator: Has}]}}",
        "{selector: {matchLabels: {a: 1}}}",
    ] {
        assert!(!valid(&format!("{GROUP}{spec}")), "{spec}");
    }
    let guardrail = GROUP.replace("SecurityGroup", "Guardrail");
    assert!(valid(&format!("{guardrail}{{deny: [{{ports: [{{protocol: tcp, port: 23}}]}}]}}")));
    for spec in ["{}", "{deny: []}", "{deny: [{form: []}]}", "{deny: [{from: []}]}"] {
        assert!(!valid(&format!("{guardrail}{spec}")), "{spec}");
    }
    for (from, to) in [("SecurityGroup", "Workload"), ("v1alpha1", "v2"), ("name:", "nam:")] {
        assert!(!valid(&format!("{GROUP}{{selector: {{}}}}").replace(from, to)), "{to}");
    }
}

#[test]
fn fields_carry_their_descriptions() {
    let schema = schema().to_string();
    for words in ["What members may receive", "Who may send", "Path of its cgroup below the cgroup root"] {
        assert!(schema.contains(words), "{words}");
    }
}
