//! What deploy/ installs on a cluster is what Kubernetes knows and what the agent takes: the manifests, the chart and the image.
//! Nothing here meets a cluster or the kernel.

#[path = "manifests/chart.rs"]
mod chart;
#[path = "manifests/documents.rs"]
mod documents;
#[path = "manifests/image.rs"]
mod image;
#[path = "manifests/kustomize.rs"]
mod kustomize;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bulkhead::cli::Cli;
use bulkhead::config::RunOptions;
use bulkhead::policy::load::load;
use bulkhead::policy::problem::Problem;
use bulkhead::privilege::KEPT;
use clap::{Args, CommandFactory, Parser};
use serde_json::{Value, json};

use documents::{Manifests, base, detach, parsed, strings};

/// The agent's container, or the one that detaches.
fn container(manifests: &Manifests, daemon_set: &str, kind: &str) -> Value {
    manifests[daemon_set]["spec"]["template"]["spec"][kind][0].clone()
}

fn agent() -> Value {
    container(&base(), "DaemonSet/bulkhead", "containers")
}

/// What a container is told by its environment, as far as the manifest says it.
fn settings(container: &Value) -> BTreeMap<String, String> {
    let variables = container["env"].as_array().expect("a list");
    let told = variables.iter().map(|it| {
        let value = it["value"].as_str().unwrap_or("a-node");
        (it["name"].as_str().expect("a name").to_owned(), value.to_owned())
    });
    let told: Vec<_> = told.collect();
    let settings: BTreeMap<_, _> = told.iter().cloned().collect();
    assert_eq!(settings.len(), told.len(), "a variable is named twice");
    settings
}

/// What the agent makes of it: each variable is an option's, and has its name.
fn understood(settings: &BTreeMap<String, String>) -> RunOptions {
    #[derive(Parser)]
    struct Run {
        #[command(flatten)]
        options: RunOptions,
    }
    let options = RunOptions::augment_args(clap::Command::new("run"));
    let mut arguments = vec!["run".to_owned()];
    for (variable, value) in settings {
        let option = options.get_arguments().find(|it| it.get_env().is_some_and(|it| it == variable.as_str()));
        let option = option.unwrap_or_else(|| panic!("`bulkhead run` has no {variable}"));
        let name = option.get_long().expect("every option is a long one");
        match option.get_action().takes_values() {
            true => arguments.push(format!("--{name}={value}")),
            false if value == "true" => arguments.push(format!("--{name}")),
            false => assert_eq!(value, "false", "{variable}"),
        }
    }
    Run::try_parse_from(arguments).expect("the agent takes these values").options
}

#[test]
fn every_manifest_is_what_the_api_knows_and_nothing_else() {
    for manifests in [base(), detach()] {
        for (name, manifest) in &manifests {
            assert!(documents::is_known_to_the_api(manifest), "{name} has what the API does not know: {manifest:#}");
        }
    }
    let mut odd = base()["DaemonSet/bulkhead"].clone();
    odd["spec"]["template"]["spec"]["hostNetworks"] = json!(true);
    assert!(!documents::is_known_to_the_api(&odd), "a field that nobody knows");
    odd = base()["DaemonSet/bulkhead"].clone();
    odd["spec"]["template"]["spec"]["hostNetwork"] = json!("yes");
    assert!(!documents::is_known_to_the_api(&odd), "text in place of a truth value");
}

#[test]
fn the_agent_takes_every_setting_and_argument() {
    let options = understood(&settings(&agent()));
    assert!(options.kubernetes && !options.detach_on_exit && options.node_name.is_some());
    assert!(options.managed_scope.iter().all(|scope| !scope.denies), "adoption begins with a look");
    let detaching = container(&detach(), "DaemonSet/bulkhead-detach", "initContainers");
    for (container, subcommand) in [(agent(), "run"), (detaching, "detach")] {
        let arguments = strings(&container["args"]);
        assert_eq!(arguments, [subcommand]);
        Cli::try_parse_from([vec!["bulkhead".to_owned()], arguments].concat()).expect("a subcommand");
        assert!(container.get("command").is_none(), "the image knows its program");
    }
}

#[test]
fn the_strict_component_denies_the_same_scope_and_changes_nothing_else() {
    let patch = parsed(Path::new("deploy/kubernetes/strict/daemonset.yaml")).remove(0);
    let base = base();
    assert_eq!(patch["metadata"]["name"], base["DaemonSet/bulkhead"]["metadata"]["name"]);
    let patch = &patch["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(patch["name"], agent()["name"]);
    let (lenient, changes) = (settings(&agent()), settings(patch));
    let strict = understood(&lenient.clone().into_iter().chain(changes).collect());
    let lenient = understood(&lenient);
    let paths = |options: &RunOptions| options.managed_scope.iter().map(|it| it.path.clone()).collect::<Vec<_>>();
    assert!(strict.managed_scope.iter().all(|scope| scope.denies));
    assert_eq!(paths(&strict), paths(&lenient));
    let others = |options: RunOptions| format!("{:?}", RunOptions { managed_scope: Vec::new(), ..options });
    assert_eq!(others(strict), others(lenient));
}

#[test]
fn every_port_is_the_one_that_the_agent_listens_at() {
    let base = base();
    let agent = agent();
    let metrics = settings(&agent)["BULKHEAD_METRICS"].parse::<std::net::SocketAddr>().expect("an address and a port");
    let port = json!(metrics.port());
    let declared = &agent["ports"][0];
    assert_eq!((&declared["containerPort"], &declared["hostPort"]), (&port, &port));
    let annotations = &base["DaemonSet/bulkhead"]["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], json!(metrics.port().to_string()));
    assert_eq!(annotations["prometheus.io/path"], "/metrics");
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &agent[probe]["httpGet"];
        assert_eq!((&get["port"], &get["path"]), (&declared["name"], &json!(path)), "{probe}");
        // The kubelet's own default is the address of the pod, where a listener on the loopback is not.
        assert_eq!(get["host"], "127.0.0.1", "{probe}");
    }
    let monitor = parsed(Path::new("deploy/kubernetes/monitoring/podmonitor.yaml")).remove(0);
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], declared["name"]);
    assert_eq!(monitor["spec"]["selector"], base["DaemonSet/bulkhead"]["spec"]["selector"]);
}

#[test]
fn every_mount_is_where_the_agent_looks_and_a_volume_of_its_pod() {
    let run = Cli::command().find_subcommand("run").expect("there is `bulkhead run`").clone();
    let default = |option: &str| {
        let option = run.get_arguments().find(|it| it.get_long() == Some(option)).expect("an option");
        option.get_default_values()[0].to_string_lossy().into_owned()
    };
    let admin = Path::new(&default("admin")).parent().expect("a file's directory").display().to_string();
    let expected = [default("policies"), default("bpffs"), "/sys/fs/cgroup".to_owned(), admin, default("state")];
    let of_the_kernel = |mounts: &Value| -> BTreeMap<String, String> {
        let mounts = mounts.as_array().expect("a list").iter();
        mounts.map(|it| (strings(&json!([it["mountPath"]])).remove(0), it["name"].to_string())).collect()
    };
    let base = base();
    let mounts = of_the_kernel(&agent()["volumeMounts"]);
    assert_eq!(mounts.keys().cloned().collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    let detach = detach();
    let detaching = container(&detach, "DaemonSet/bulkhead-detach", "initContainers");
    for (place, _) in of_the_kernel(&detaching["volumeMounts"]) {
        assert!(mounts.contains_key(&place), "{place} is not where the agent left anything");
    }
    let pods = [(&base["DaemonSet/bulkhead"], agent()), (&detach["DaemonSet/bulkhead-detach"], detaching)];
    for (daemon_set, container) in pods {
        for mount in container["volumeMounts"].as_array().expect("a list") {
            let volumes = daemon_set["spec"]["template"]["spec"]["volumes"].as_array().expect("a list");
            let volume = volumes.iter().find(|it| it["name"] == mount["name"]).expect("a mount's volume");
            // What is the host's is at the same place in the pod, so that messages name what an administrator sees.
            if let Some(host) = volume.get("hostPath") {
                assert_eq!(host["path"], mount["mountPath"]);
                // Bidirectional is for privileged containers.
                assert_ne!(mount["mountPropagation"], "Bidirectional");
            }
        }
    }
}

#[test]
fn the_agent_has_the_capabilities_that_it_keeps_and_no_more() {
    let detaching = container(&detach(), "DaemonSet/bulkhead-detach", "initContainers");
    for container in [agent(), detaching] {
        let security = &container["securityContext"];
        let kept: BTreeSet<String> = KEPT.iter().map(|it| it.to_string().replace("CAP_", "")).collect();
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(strings(&security["capabilities"]["add"]).into_iter().collect::<BTreeSet<_>>(), kept);
        for (field, value) in
            [("privileged", false), ("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)]
        {
            assert_eq!(security[field], json!(value), "{field}");
        }
    }
}

/// What the agent asks the API for: verb, group and resource. A source that asks for more is refused by the API server.
const ASKED: [(&str, &str, &[&str]); 5] = [
    ("list", "", &["namespaces", "nodes", "pods", "services"]),
    ("list", "discovery.k8s.io", &["endpointslices"]),
    ("list", "networking.k8s.io", &["networkpolicies"]),
    ("list", "bulkhead.dev", &["addressgroups", "guardrails", "securitygroups"]),
    ("patch", "bulkhead.dev", &["addressgroups/status", "guardrails/status", "securitygroups/status"]),
];

/// What it asks for in its own namespace.
const ASKED_AT_HOME: (&[&str], &str) = (&["create", "get", "list", "patch"], "coordination.k8s.io/leases");

/// Every verb that a role grants, with what it is granted for.
fn granted(role: &Value) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().expect("a list") {
        for group in strings(&rule["apiGroups"]) {
            for resource in strings(&rule["resources"]) {
                granted.extend(strings(&rule["verbs"]).iter().map(|verb| format!("{verb} {group}/{resource}")));
            }
        }
    }
    granted
}

#[test]
fn the_agent_may_read_what_it_asks_for_and_write_nothing_but_status_and_its_leases() {
    let mut expected = BTreeSet::new();
    for (verb, group, resources) in ASKED {
        let verbs: &[&str] = if verb == "list" { &["get", "list", "watch"] } else { &["patch"] };
        for (resource, verb) in resources.iter().flat_map(|resource| verbs.iter().map(move |verb| (resource, verb))) {
            expected.insert(format!("{verb} {group}/{resource}"));
        }
    }
    let base = base();
    assert_eq!(granted(&base["ClusterRole/bulkhead"]), expected);
    let (verbs, resource) = ASKED_AT_HOME;
    let expected = verbs.iter().map(|verb| format!("{verb} {resource}")).collect();
    assert_eq!(granted(&base["Role/bulkhead"]), expected, "in its own namespace");
    let home = &base["DaemonSet/bulkhead"]["metadata"]["namespace"];
    for kind in ["Role", "RoleBinding"] {
        assert_eq!(&base[&format!("{kind}/bulkhead")]["metadata"]["namespace"], home);
    }
    let defined = base.values().filter(|it| it["kind"] == "CustomResourceDefinition");
    let defined: BTreeSet<String> = defined.map(|it| it["spec"]["names"]["plural"].to_string()).collect();
    assert_eq!(defined, ASKED[3].2.iter().map(|it| format!("{it:?}")).collect(), "kinds of bulkhead.dev");
    for binding in ["ClusterRoleBinding/bulkhead", "RoleBinding/bulkhead"] {
        let account = &base[binding]["subjects"][0];
        assert_eq!(account["name"], base["DaemonSet/bulkhead"]["spec"]["template"]["spec"]["serviceAccountName"]);
        assert_eq!(account["namespace"], base["ServiceAccount/bulkhead"]["metadata"]["namespace"]);
    }
}

#[test]
fn the_agent_takes_the_default_policy_from_a_projected_volume_and_not_from_one_that_others_can_change() {
    let base = base();
    let volumes = base["DaemonSet/bulkhead"]["spec"]["template"]["spec"]["volumes"].as_array().expect("a list");
    let source = &volumes.iter().find(|it| it["name"] == "policies").expect("a volume")["projected"];
    let mode = source["defaultMode"].as_u64().and_then(|it| u32::try_from(it).ok()).expect("a file's mode");
    let files = base["ConfigMap/bulkhead-policies"]["data"].as_object().expect("files");
    assert_eq!(source["sources"][0]["configMap"]["name"], base["ConfigMap/bulkhead-policies"]["metadata"]["name"]);

    // As the kubelet lays them: a tmpfs as anyone would mount it, whereas the directory of a plain ConfigMap's volume is 0777.
    let read = |directory_mode: u32| -> Result<usize, Vec<Problem>> {
        let directory = tempfile::TempDir::with_prefix("bulkhead-manifests-").expect("a temporary directory");
        let dated = directory.path().join("..2026_01_01_00_00_00.1");
        fs::create_dir(&dated).expect("it is ours");
        for (name, text) in files {
            let file = dated.join(name);
            fs::write(&file, text.as_str().expect("text")).expect("it is ours");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
            symlink(Path::new("..data").join(name), directory.path().join(name)).expect("it is ours");
        }
        symlink(dated.file_name().expect("it has one"), directory.path().join("..data")).expect("it is ours");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(directory_mode)).expect("it is ours");
        load(&[directory.path().to_owned()]).map(|policy| policy.groups.len())
    };
    assert_eq!(read(0o1777).expect("it is valid"), 0, "the default policy governs somebody");
    let problems = read(0o777).expect_err("everybody could change it");
    assert!(problems.iter().any(|it| it.to_string().contains("written by everybody")), "{problems:?}");
}
