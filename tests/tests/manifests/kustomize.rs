//! kustomize itself makes of the directories what the other tests read in them, where there is one.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::documents::{Manifests, NAMESPACE, add, base, detach, documents, repository};

/// What kustomize builds, or `None` where no program here knows components, as kustomize does since 3.7.
fn build(directory: &str) -> Option<Manifests> {
    let attempts = [("kustomize", "build"), ("kubectl", "kustomize")];
    for (program, subcommand) in attempts {
        let Ok(output) = Command::new(program).arg(subcommand).arg(repository(directory)).output() else { continue };
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() && said.contains("unknown field") {
            continue;
        }
        assert!(output.status.success(), "{program} {subcommand} {directory}: {said}");
        let mut manifests = Manifests::new();
        add(&mut manifests, documents(&String::from_utf8_lossy(&output.stdout)));
        return Some(manifests);
    }
    println!("skipped: {directory} by kustomize: neither a `kustomize` nor a `kubectl` of 1.21 or newer is on PATH");
    None
}

#[test]
fn kustomize_builds_what_the_files_say() {
    for (directory, expected) in [("deploy/kubernetes/base", base()), ("deploy/kubernetes/detach", detach())] {
        if let Some(built) = build(directory) {
            assert_eq!(built, expected, "{directory}");
        }
    }
}

#[test]
fn an_overlay_takes_the_base_with_its_components() {
    let overlay = tempfile::TempDir::with_prefix_in(".overlay-", repository("target")).expect("a temporary directory");
    let kustomization = json!({
        "resources": ["../../deploy/kubernetes/base"],
        "components": ["../../deploy/kubernetes/strict", "../../deploy/kubernetes/monitoring"],
        "images": [{"name": "bulkhead", "newName": "registry.example/bulkhead", "newTag": "9.9.9"}],
    });
    fs::write(overlay.path().join("kustomization.yaml"), kustomization.to_string()).expect("it is ours");
    let Some(mut built) = build(overlay.path().to_str().expect("it is ASCII")) else { return };
    let monitor = built.remove("PodMonitor/bulkhead").expect("the component's");
    assert_eq!(monitor["metadata"]["namespace"], NAMESPACE);
    let agent = |manifests: &mut Manifests| -> Value {
        manifests.get_mut("DaemonSet/bulkhead").expect("it is there")["spec"]["template"]["spec"]["containers"][0]
            .take()
    };
    let mut base = base();
    let (strict, lenient) = (agent(&mut built), agent(&mut base));
    assert_eq!(built, base, "a component changed more than the agent");
    assert_eq!(strict["image"], "registry.example/bulkhead:9.9.9");
    let scope = |agent: &Value| -> Value {
        let variables = agent["env"].as_array().expect("a list");
        variables.iter().find(|it| it["name"] == "BULKHEAD_MANAGED_SCOPE").expect("it is set")["value"].clone()
    };
    assert_eq!((scope(&lenient), scope(&strict)), (json!("kubepods.slice=allow"), json!("kubepods.slice=deny")));
}
