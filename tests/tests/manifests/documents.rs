//! The manifests as they lie in the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Objects by `Kind/name`.
pub type Manifests = BTreeMap<String, Value>;

/// Where the manifests put everything that has a namespace.
pub const NAMESPACE: &str = "bulkhead-system";

/// A path of the repository.
pub fn repository(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The agent, as kustomize puts it together.
pub fn base() -> Manifests {
    kustomized("deploy/kubernetes/base")
}

/// What takes away what the agent left.
pub fn detach() -> Manifests {
    kustomized("deploy/kubernetes/detach")
}

/// The documents of a file of YAML, by its path in the repository.
pub fn parsed(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    documents(&text)
}

/// The documents of a text.
pub fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml::Deserializer::from_str(text).map(|it| Value::deserialize(it).expect("it is YAML"));
    documents.filter(|it| !it.is_null()).collect()
}

/// What a list of strings holds.
pub fn strings(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|it| it.as_str().expect("a string").to_owned()).collect()
}

/// A directory's objects, as its kustomization says: it names files and directories and one namespace, no more.
fn kustomized(directory: &str) -> Manifests {
    let mut manifests = Manifests::new();
    let kustomization = parsed(&Path::new(directory).join("kustomization.yaml")).remove(0);
    let fields: Vec<&String> = kustomization.as_object().expect("an object").keys().collect();
    assert!(
        fields.iter().all(|it| ["apiVersion", "kind", "namespace", "resources"].contains(&it.as_str())),
        "{fields:?}"
    );
    for resource in strings(&kustomization["resources"]) {
        let path = Path::new(directory).join(resource);
        if repository(&path).is_dir() {
            manifests.extend(kustomized(path.to_str().expect("it is ASCII")));
        } else {
            add(&mut manifests, parsed(&path));
        }
    }
    if let Some(namespace) = kustomization.get("namespace") {
        for (name, manifest) in &mut manifests {
            if !["Cluster", "CustomResourceDefinition/", "Namespace/"].iter().any(|it| name.starts_with(it)) {
                manifest["metadata"]["namespace"] = namespace.clone();
            }
        }
    }
    manifests
}

/// Adds objects, each of which is there once.
pub fn add(manifests: &mut Manifests, objects: Vec<Value>) {
    for object in objects {
        let part = |it: &Value| it.as_str().expect("a kind and a name").to_owned();
        let name = format!("{}/{}", part(&object["kind"]), part(&object["metadata"]["name"]));
        assert!(manifests.insert(name.clone(), object).is_none(), "{name} is there twice");
    }
}

/// Whether each field is one that the API has, of the type that it has there.
pub fn is_known_to_the_api(object: &Value) -> bool {
    match object["kind"].as_str().expect("a kind") {
        "ClusterRole" => comes_back::<ClusterRole>(object),
        "ClusterRoleBinding" => comes_back::<ClusterRoleBinding>(object),
        "ConfigMap" => comes_back::<ConfigMap>(object),
        "CustomResourceDefinition" => comes_back::<CustomResourceDefinition>(object),
        "DaemonSet" => comes_back::<DaemonSet>(object),
        "Namespace" => comes_back::<Namespace>(object),
        "Role" => comes_back::<Role>(object),
        "RoleBinding" => comes_back::<RoleBinding>(object),
        "ServiceAccount" => comes_back::<ServiceAccount>(object),
        other => panic!("no schema of the API's is at hand for a {other}"),
    }
}

/// The types are generated from the API's schema: what they don't have is lost on the way through them.
fn comes_back<T: DeserializeOwned + serde::Serialize>(object: &Value) -> bool {
    let back =
        serde_json::from_value::<T>(object.clone()).map(|typed| serde_json::to_value(typed).expect("it is JSON"));
    match back {
        Ok(back) => with_plain_numbers(&back) == with_plain_numbers(object),
        Err(error) => {
            println!("{error}");
            false
        }
    }
}

/// 1 and 1.0 are one number in JSON.
fn with_plain_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64()),
        Value::Array(values) => values.iter().map(with_plain_numbers).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), with_plain_numbers(value))).collect(),
        other => other.clone(),
    }
}
