//! The custom resource definitions of the kinds that a cluster keeps, from the very types that read policy files.
//!
//! The API server takes only *structural* schemas (Kubernetes' documentation, "Extend the Kubernetes API with
//! CustomResourceDefinitions"): every level says its type, nothing is referred to, and what joins schemas (`anyOf`, `oneOf`)
//! says no types. What a schema of that form can't say the agent says in the object's status. There are no rules in CEL: the
//! API server refuses a definition whose rules might cost too much, and within lists without a bound any may.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{API_VERSION, AddressGroupSpec, GuardrailSpec, SecurityGroupSpec};

/// What `bulkhead schema --crds` prints begins so.
const HEADER: &str =
    "# What a cluster has to know of Bulkhead's custom resources. Made by `bulkhead schema --crds`: don't edit.\n";

/// A kind as the API server knows it.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// As in documents.
    pub kind: &'static str,
    /// As in URLs.
    pub plural: &'static str,
    singular: &'static str,
    short: &'static str,
    spec: fn() -> Value,
    columns: &'static [Column],
    description: &'static str,
}

/// Name, type, path and priority of a column that `kubectl get` shows.
type Column = (&'static str, &'static str, &'static str, u8);

/// The kinds, all of them cluster-scoped.
pub const KINDS: [Kind; 3] = [
    Kind {
        kind: "SecurityGroup",
        plural: "securitygroups",
        singular: "securitygroup",
        short: "bsg",
        spec: spec::<SecurityGroupSpec>,
        columns: &[("ID", "integer", ".spec.id", 0), ("Mode", "string", ".spec.mode", 0)],
        description: "Who is in a group, and what its members may receive and send",
    },
    Kind {
        kind: "Guardrail",
        plural: "guardrails",
        singular: "guardrail",
        short: "bgr",
        spec: spec::<GuardrailSpec>,
        columns: &[],
        description: "What is denied, whatever groups allow",
    },
    Kind {
        kind: "AddressGroup",
        plural: "addressgroups",
        singular: "addressgroup",
        short: "bag",
        spec: spec::<AddressGroupSpec>,
        columns: &[],
        description: "CIDRs under a name, for rules",
    },
];

/// Columns of every kind, after its own.
const COLUMNS: [Column; 5] = [
    ("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].status", 0),
    ("Reason", "string", ".status.conditions[?(@.type==\"Accepted\")].reason", 1),
    ("In force", "integer", ".status.nodesInForce", 0),
    ("Nodes", "integer", ".status.nodes", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
];

/// The group and the version of [`API_VERSION`].
#[must_use]
pub fn group_and_version() -> (&'static str, &'static str) {
    API_VERSION.split_once('/').expect("a group and a version")
}

/// Every definition, as one YAML text of several documents.
#[must_use]
pub fn yaml() -> String {
    let documents = KINDS.iter().map(|kind| serde_yaml::to_string(&definition(kind)).expect("plain data"));
    HEADER.to_owned() + &documents.collect::<Vec<_>>().join("---\n")
}

/// One kind's definition.
#[must_use]
pub fn definition(kind: &Kind) -> Value {
    let (group, version) = group_and_version();
    let columns =
        kind.columns.iter().chain(&COLUMNS).map(
            |(name, of, path, priority)| json!({"name": name, "type": of, "jsonPath": path, "priority": priority}),
        );
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{group}", kind.plural)},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": format!("{}List", kind.kind),
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": ["bulkhead"],
            },
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns.collect::<Vec<_>>(),
                "schema": {"openAPIV3Schema": schema(kind)},
            }],
        },
    })
}

/// The structural schema of a whole object.
#[must_use]
pub fn schema(kind: &Kind) -> Value {
    json!({
        "type": "object",
        "description": kind.description,
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            // Of metadata the API server lets a definition restrict the name alone.
            "metadata": {"type": "object", "properties": {"name": {
                "type": "string",
                "maxLength": 63,
                "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            }}},
            "spec": (kind.spec)(),
            "status": status(),
        },
    })
}

/// The schema of a spec, as it comes from its type, made structural.
fn spec<S: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<S>().to_value();
    for key in ["$schema", "title"] {
        schema.as_object_mut().expect("a schema of an object").remove(key);
    }
    structural(&mut schema);
    schema
}

/// Makes a schema structural, with all below it.
fn structural(schema: &mut Value) {
    let Value::Object(of) = schema else { return };
    // Fields that a schema does not name are never stored: the API server prunes them, or refuses them where the client asks
    // for that, as kubectl does.
    if of.get("additionalProperties") == Some(&Value::Bool(false)) {
        of.remove("additionalProperties");
    }
    if let Some(Value::Array(choices)) = of.remove("oneOf").or_else(|| of.remove("anyOf")) {
        let choices = choices.iter().filter_map(Value::as_object).collect::<Vec<_>>();
        match names(&choices) {
            Some(names) => {
                of.insert("type".to_owned(), "string".into());
                of.insert("enum".to_owned(), names.into());
            }
            None => int_or_string(&choices, of),
        }
    }
    for key in ["items", "additionalProperties"] {
        of.get_mut(key).into_iter().for_each(structural);
    }
    let properties = of.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(Map::values_mut).for_each(structural);
}

/// The texts of a choice between texts alone, each of which has a description of its own.
fn names(choices: &[&Map<String, Value>]) -> Option<Vec<Value>> {
    let one = |choice: &&Map<String, Value>| match (choice.get("const"), choice.get("enum")) {
        (Some(name), _) => Some(vec![name.clone()]),
        (None, Some(Value::Array(names))) => Some(names.clone()),
        _ => None,
    };
    Some(choices.iter().map(one).collect::<Option<Vec<_>>>()?.concat())
}

/// A name or a number, in the one form that the API server takes: what is asked of texts says nothing of numbers, and the other
/// way round.
fn int_or_string(choices: &[&Map<String, Value>], of: &mut Map<String, Value>) {
    of.insert("x-kubernetes-int-or-string".to_owned(), true.into());
    of.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
    for choice in choices {
        for (key, value) in *choice {
            match (key.as_str(), value) {
                ("type" | "format" | "description", _) => {}
                ("enum", Value::Array(names)) => {
                    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                    of.insert("pattern".to_owned(), format!("^({})$", names.join("|")).into());
                }
                _ => drop(of.insert(key.clone(), value.clone())),
            }
        }
    }
}

/// What the agents say of an object.
fn status() -> Value {
    json!({
        "type": "object",
        "description": "What Bulkhead makes of it; written by one of the agents",
        "properties": {
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "description": "The generation of the object that the conditions speak of",
            },
            "nodesInForce": {
                "type": "integer",
                "format": "int32",
                "description": "On how many nodes all of it is in force as it is written",
            },
            "nodes": {
                "type": "integer",
                "format": "int32",
                "description": "How many nodes told what is in force on them when that was counted",
            },
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object",
                    "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                    "properties": {
                        "type": {"type": "string", "description": "`Accepted`: whether all of it is in force"},
                        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                        "observedGeneration": {"type": "integer", "format": "int64"},
                        "lastTransitionTime": {"type": "string", "format": "date-time"},
                        "reason": {"type": "string", "description": "Why, in one word"},
                        "message": {"type": "string", "description": "What is wrong, and how to mend it"},
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests;
