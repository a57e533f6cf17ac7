//! The definitions are ones that an API server takes, and say what the agent says.

use super::*;
use crate::policy::load::read;

/// Every schema within one, with its path.
fn each(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Map<String, Value>)) {
    let of = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema: {schema}"));
    see(path, of);
    for key in ["items", "additionalProperties"] {
        of.get(key).into_iter().for_each(|below| each(&format!("{path}.{key}"), below, see));
    }
    for (name, below) in of.get("properties").and_then(Value::as_object).into_iter().flatten() {
        each(&format!("{path}.{name}"), below, see);
    }
}

/// The rules for structural schemas, from Kubernetes' documentation and `apiextensions-apiserver/pkg/apiserver/schema/validation.go`.
#[test]
fn every_schema_is_structural() {
    for kind in &KINDS {
        let mut seen = 0;
        each(kind.kind, &schema(kind), &mut |path, of| {
            seen += 1;
            for key in ["$ref", "$defs", "definitions", "$schema", "const", "oneOf", "allOf", "not", "title", "default"]
            {
                assert!(!of.contains_key(key), "{path} has {key}");
            }
            assert!(!(of.contains_key("properties") && of.contains_key("additionalProperties")), "{path}");
            if of.contains_key("x-kubernetes-int-or-string") {
                assert!(!of.contains_key("type"), "{path}");
                assert_eq!(of["anyOf"], json!([{"type": "integer"}, {"type": "string"}]), "{path}");
            } else {
                assert!(!of.contains_key("anyOf"), "{path}");
                let types = ["object", "array", "string", "integer"];
                let known = of.get("type").and_then(Value::as_str).is_some_and(|of| types.contains(&of));
                assert!(known, "{path}: {:?}", of.get("type"));
            }
            assert_eq!(of.get("type") == Some(&json!("array")), of.contains_key("items"), "{path}");
            let keys = [
                "type",
                "format",
                "description",
                "required",
                "properties",
                "additionalProperties",
                "items",
                "enum",
                "pattern",
                "minimum",
                "maximum",
                "minItems",
                "minLength",
                "maxLength",
                "minProperties",
                "maxProperties",
                "anyOf",
                "x-kubernetes-int-or-string",
                "x-kubernetes-list-type",
                "x-kubernetes-list-map-keys",
            ];
            of.keys().for_each(|key| assert!(keys.contains(&key.as_str()), "{path} has {key}"));
        });
        assert!(seen > 10, "{}", kind.kind);
    }
}

#[test]
fn a_schema_keeps_what_its_type_says() {
    let group = schema(&KINDS[0]);
    let spec = &group["properties"]["spec"];
    assert_eq!(spec["required"], json!(["selector"]));
    assert_eq!([&spec["properties"]["id"]["minimum"], &spec["properties"]["id"]["maximum"]], [1, 2_147_483_647]);
    assert_eq!(spec["properties"]["mode"]["enum"], json!(["enforce", "audit"]));
    let rule = &spec["properties"]["ingress"]["items"];
    assert_eq!(rule["properties"]["from"]["minItems"], 1);
    let peer = &rule["properties"]["from"]["items"];
    assert_eq!([&peer["minProperties"], &peer["maxProperties"]], [1, 1]);
    let protocol = &rule["properties"]["ports"]["items"]["properties"]["protocol"];
    assert_eq!(protocol["pattern"], "^(tcp|udp|sctp|icmp|icmpv6)$");
    assert_eq!(protocol["maximum"], 255);
    assert!(protocol["description"].as_str().is_some_and(|text| text.contains("number of an IP protocol")));
}

#[test]
fn the_delivered_file_is_what_the_code_makes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/bulkhead.dev.yaml");
    let delivered = std::fs::read_to_string(path).expect("deploy/crds/ is there");
    assert!(delivered == yaml(), "make it anew: bulkhead schema --crds > deploy/crds/bulkhead.dev.yaml");
    let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&delivered)
        .map(|document| serde::Deserialize::deserialize(document).expect("YAML"))
        .collect();
    assert_eq!(documents, KINDS.iter().map(definition).collect::<Vec<_>>());
}

fn valid(document: &Value) -> bool {
    let kind = KINDS.iter().find(|kind| document["kind"] == kind.kind).expect("a kind that clusters keep");
    jsonschema::validator_for(&schema(kind)).expect("a schema").is_valid(document)
}

#[test]
fn every_example_of_a_kind_fits_its_definition() {
    let (files, problems) = read(&[concat!(env!("CARGO_MANIFEST_DIR"), "/../policies").into()]);
    assert_eq!(problems, []);
    let mut seen = [0; 3];
    for document in files.iter().flat_map(|file| serde_yaml::Deserializer::from_str(&file.text)) {
        let document: Value = serde::Deserialize::deserialize(document).expect("YAML");
        if let Some(at) = KINDS.iter().position(|kind| document["kind"] == kind.kind) {
            assert!(valid(&document), "{document:#}");
            seen[at] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn what_a_definition_can_say_is_refused() {
    let document = |kind: &str, name: &str, spec: Value| json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let rule = |rule: Value| json!({"selector": {}, "ingress": [rule]});
    let host = json!([{"entity": "host"}]);
    for good in [json!({"selector": {}}), rule(json!({"from": [{"group": 7}], "ports": [{"protocol": 47}]}))] {
        assert!(valid(&document("SecurityGroup", "web", good.clone())), "{good}");
    }
    for bad in [
        json!({}),
        json!({"selector": {}, "mode": "loud"}),
        json!({"selector": {}, "id": 0}),
        json!({"selector": {"matchLabels": {"a": 1}}}),
        rule(json!({})),
        rule(json!({"from": []})),
        rule(json!({"from": [{}]})),
        rule(json!({"from": [{"group": "a", "cidr": "10.0.0.0/8"}]})),
        rule(json!({"from": [{"group": "A"}]})),
        rule(json!({"from": [{"group": true}]})),
        rule(json!({"from": host, "ports": [{"protocol": "gre"}]})),
        rule(json!({"from": host, "ports": [{"protocol": 256}]})),
        rule(json!({"from": host, "ports": [{"protocol": "tcp", "port": 65_536}]})),
    ] {
        assert!(!valid(&document("SecurityGroup", "web", bad.clone())), "{bad}");
    }
    assert!(!valid(&document("SecurityGroup", "web.shop", json!({"selector": {}}))));
    assert!(!valid(&document("Guardrail", "a", json!({"deny": []}))));
    assert!(!valid(&document("AddressGroup", "a", json!({"cidrs": []}))));
}
