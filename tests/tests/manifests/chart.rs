//! The Helm chart: its values and their schema, and that it says the same as the kustomize base.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::documents::{Manifests, NAMESPACE, add, base, documents, is_known_to_the_api, parsed, repository};
use super::{settings, understood};

const CHART: &str = "deploy/helm/bulkhead";

fn values() -> Value {
    parsed(&Path::new(CHART).join("values.yaml")).remove(0)
}

fn schema() -> Value {
    let text = fs::read_to_string(repository(CHART).join("values.schema.json")).expect("there is a schema");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The values with some of them changed, as Helm merges them.
fn with(changes: &Value) -> Value {
    fn merge(values: &mut Value, changes: &Value) {
        match (values, changes) {
            (Value::Object(values), Value::Object(changes)) => {
                for (key, change) in changes {
                    if change.is_null() {
                        values.remove(key);
                    } else {
                        merge(values.entry(key).or_insert(Value::Null), change);
                    }
                }
            }
            (values, changes) => *values = changes.clone(),
        }
    }
    let mut values = values();
    merge(&mut values, changes);
    values
}

#[test]
fn the_schema_takes_the_default_values_and_sensible_changes() {
    let validator = jsonschema::draft7::new(&schema()).expect("it is a schema");
    let takes = |values: &Value| {
        let errors: Vec<String> = validator.iter_errors(values).map(|it| it.to_string()).collect();
        assert_eq!(errors, [""; 0], "{values:#}");
    };
    takes(&values());
    for changes in [
        json!({"image": {"repository": "registry.example:5000/bulkhead", "tag": "1.2.3"}, "imagePullSecrets": [{"name": "a"}]}),
        json!({"image": {"digest": format!("sha256:{}", "0a".repeat(32))}}),
        json!({"managedScopes": ["kubepods.slice=deny", "system.slice=allow"], "failsafe": ["in:tcp/22"]}),
        json!({"policies": {"cloud-metadata.yaml": null, "mine.yml": "kind: Guardrail"}}),
        json!({"metrics": {"address": "[::]", "port": 9999, "podMonitor": {"enabled": true, "labels": {"a": "b"}}}}),
        json!({"extraEnv": {"BULKHEAD_MAX_FLOWS": "1048576"}, "maxUnavailable": 1, "appArmorProfile": null}),
        json!({"global": {"anything": 1}}),
    ] {
        takes(&with(&changes));
    }
}

#[test]
fn the_schema_refuses_what_the_chart_does_not_know_or_the_agent_would_not_take() {
    let validator = jsonschema::draft7::new(&schema()).expect("it is a schema");
    for changes in [
        json!({"imagePullSecret": []}),
        json!({"image": {"repo": "bulkhead"}}),
        json!({"image": {"tag": 1.0}}),
        json!({"image": {"pullPolicy": "Sometimes"}}),
        json!({"image": {"digest": "sha256:0"}}),
        json!({"policies": {"cloud-metadata.yaml": null}}),
        json!({"policies": {"notes.txt": ""}}),
        json!({"policies": {".hidden.yaml": ""}}),
        json!({"managedScopes": ["kubepods.slice"]}),
        json!({"managedScopes": ["kubepods.slice=maybe"]}),
        json!({"managedScopes": []}),
        json!({"failsafe": ["tcp/22"]}),
        json!({"uplinks": ["eth0,eth1"]}),
        json!({"metrics": {"port": "9469"}}),
        json!({"metrics": {"port": 80}}),
        json!({"metrics": {"podMonitor": {"interval": "30"}}}),
        json!({"log": {"format": "yaml"}}),
        json!({"extraEnv": {"BULKHEAD_POLICIES": "/tmp"}}),
        json!({"extraEnv": {"PATH": "/tmp"}}),
        json!({"resources": {"limit": {}}}),
        json!({"maxUnavailable": 0}),
        json!({"maxUnavailable": "0%"}),
        json!({"tolerations": [{"operator": "Always"}]}),
        json!({"seccompProfile": {"type": "None"}}),
        json!({"podLabels": {"a": 1}}),
    ] {
        assert!(!validator.is_valid(&with(&changes)), "{changes}");
    }
}

#[test]
fn every_value_is_described_and_typed_has_a_default_and_is_used() {
    fn walk(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
        assert!(schema["description"].is_string() && !schema["type"].is_null(), "{path}: {schema}");
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            assert_eq!(schema["additionalProperties"], false, "{path}");
            properties.iter().for_each(|(name, schema)| walk(&format!("{path}.{name}"), schema, found));
        }
        for below in ["items", "additionalProperties"].map(|it| &schema[it]).into_iter().filter(|it| it.is_object()) {
            walk(&format!("{path}[]"), below, &mut BTreeSet::new());
        }
        found.insert(path.to_owned());
    }
    fn has(values: &Map<String, Value>, path: &mut std::str::Split<'_, char>) -> bool {
        let Some(name) = path.next() else { return true };
        values.get(name).is_some_and(|it| it.as_object().is_none_or(|it| has(it, path)))
    }
    let mut described = BTreeSet::new();
    walk("", &schema(), &mut described);
    let values = values();
    let templates: String = fs::read_dir(repository(CHART).join("templates"))
        .expect("there are templates")
        .map(|it| fs::read_to_string(it.expect("an entry").path()).expect("text"))
        .collect();
    // What the pods get as it is, by the name of the whole.
    let whole = ["resources", "seccompProfile", "appArmorProfile", "seLinuxOptions", "tolerations", "imagePullSecrets"];
    for path in described.iter().filter_map(|it| it.strip_prefix('.')).filter(|it| *it != "global") {
        let top = path.split('.').next().expect("a part");
        let is_whole = whole.contains(&top);
        if !is_whole || path == top {
            assert!(has(values.as_object().expect("an object"), &mut path.split('.')), "{path} has no default");
        }
        let used = if is_whole { top } else { path };
        assert!(templates.contains(&format!(".Values.{used}")), "no template uses {path}");
    }
    let named = templates.split(".Values.").skip(1);
    for name in named.map(|it| it.split(|c: char| !c.is_alphanumeric() && c != '.').next().expect("a part")) {
        assert!(described.contains(&format!(".{name}")), "a template uses {name}, which the schema has not");
    }
}

#[test]
fn the_chart_is_of_the_agents_version() {
    let chart = parsed(&Path::new(CHART).join("Chart.yaml")).remove(0);
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_chart_brings_the_same_custom_resources() {
    let definitions =
        |directory: &str| fs::read(repository(directory).join("bulkhead.dev.yaml")).expect("they are there");
    assert!(definitions(&format!("{CHART}/crds")) == definitions("deploy/crds"), "copy deploy/crds/bulkhead.dev.yaml");
}

/// What Helm makes of the chart, less the custom resources, which it installs apart; or `None` where there is no Helm.
fn template(changes: &Value) -> Option<Result<Manifests, String>> {
    let mut command = Command::new("helm");
    command.args(["template", "bulkhead"]).arg(repository(CHART)).args(["--namespace", NAMESPACE]);
    for (key, value) in changes.as_object().expect("an object") {
        command.args(["--set-json", &format!("{key}={value}")]);
    }
    let Ok(output) = command.output() else {
        println!("skipped: the chart by Helm: there is no `helm` on PATH");
        return None;
    };
    if !output.status.success() {
        return Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let mut manifests = Manifests::new();
    add(&mut manifests, documents(&String::from_utf8_lossy(&output.stdout)));
    Some(Ok(manifests))
}

#[test]
fn helm_makes_what_kustomize_makes_but_for_its_own_labels_and_the_namespace() {
    let Some(made) = template(&json!({})) else { return };
    let mut made = made.expect("the default values are fine");
    for manifest in made.values_mut() {
        let labels = manifest["metadata"]["labels"].as_object_mut().expect("each has labels");
        assert_eq!(labels.remove("app.kubernetes.io/managed-by"), Some(json!("Helm")));
        assert!(labels.remove("helm.sh/chart").is_some());
    }
    let mut base = base();
    base.remove(&format!("Namespace/{NAMESPACE}")).expect("the base makes it");
    base.retain(|name, _| !name.starts_with("CustomResourceDefinition/"));
    assert_eq!(made, base);
}

#[test]
fn helm_carries_values_to_the_agent_and_refuses_bad_ones() {
    let Some(made) = template(&json!({
        "image": {"repository": "registry.example/bulkhead", "tag": "9.9.9"},
        "managedScopes": ["kubepods.slice=deny", "system.slice=allow"],
        "failsafe": ["in:tcp/22"],
        "uplinks": ["eth0", "eth1"],
        "metrics": {"address": "[::]", "port": 9999, "podMonitor": {"enabled": true, "labels": {"release": "mine"}}},
        "extraEnv": {"BULKHEAD_MAX_FLOWS": "1048576"},
        "podLabels": {"team": "net"},
        "podAnnotations": {"note": "hers"},
        "imagePullSecrets": [{"name": "registry"}],
        "maxUnavailable": 1,
    })) else {
        return;
    };
    let mut made = made.expect("these values are fine");
    let monitor = made.remove("PodMonitor/bulkhead").expect("it was asked for");
    assert_eq!(monitor["metadata"]["labels"]["release"], "mine");
    assert!(made.values().all(is_known_to_the_api), "{made:#?}");
    let pod = &made["DaemonSet/bulkhead"]["spec"]["template"];
    let agent = &pod["spec"]["containers"][0];
    assert_eq!(agent["image"], "registry.example/bulkhead:9.9.9");
    assert_eq!(agent["ports"][0]["containerPort"], 9999);
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "9999");
    assert_eq!(pod["metadata"]["annotations"]["note"], "hers");
    assert_eq!(pod["metadata"]["labels"]["team"], "net");
    let options = understood(&settings(agent));
    assert_eq!(options.managed_scope.iter().map(|it| it.denies).collect::<Vec<_>>(), [true, false]);
    assert_eq!(options.uplink, ["eth0", "eth1"]);
    assert_eq!(options.max_flows, 1_048_576);
    assert_eq!(options.failsafe_ports().expect("ports alone").len(), 1);

    for bad in [json!({"managedScopes": ["a=b"]}), json!({"typo": 1})] {
        let refused = template(&bad).expect("Helm was there before").expect_err("the schema refuses it");
        let name = bad.as_object().and_then(|it| it.keys().next()).expect("one value");
        assert!(refused.contains(name.as_str()), "{refused}");
    }
}
