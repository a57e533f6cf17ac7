use super::*;
use crate::workload::port::PortName;

const UID: &str = "0b1c2d3e-1111-2222-3333-444455556666";
const SYSTEMD: &str = "0b1c2d3e_1111_2222_3333_444455556666";

#[test]
fn a_pods_cgroup_is_known_by_its_name_whatever_the_driver() {
    let systemd = |prefix: &str| format!("{prefix}-pod{SYSTEMD}.slice");
    for cgroup in [
        format!("kubepods.slice/{}", systemd("kubepods")),
        format!("kubepods.slice/kubepods-burstable.slice/{}", systemd("kubepods-burstable")),
        format!("kubelet.slice/kubelet-kubepods.slice/{}", systemd("kubelet-kubepods")),
        format!("kubepods/pod{UID}"),
        format!("kubepods/besteffort/pod{UID}"),
        format!("system.slice/docker-0a.scope/kubelet/kubepods/burstable/pod{UID}"),
    ] {
        assert_eq!(pod_cgroup(&cgroup), Some((cgroup.as_str(), UID.to_owned())), "{cgroup}");
        let container = format!("{cgroup}/cri-containerd-0a.scope/init");
        assert_eq!(pod_cgroup(&container), Some((cgroup.as_str(), UID.to_owned())), "{container}");
        let nested = format!("{cgroup}/kubepods/podother");
        assert_eq!(pod_cgroup(&nested), Some((cgroup.as_str(), UID.to_owned())), "{nested}");
    }
    let hash = "8fe2b1c0a9d3e4f5a6b7c8d9e0f1a2b3";
    assert_eq!(pod_cgroup(&format!("kubepods/burstable/pod{hash}")).map(|(_, uid)| uid), Some(hash.to_owned()));
}

#[test]
fn what_is_named_otherwise_is_no_pods_cgroup() {
    for cgroup in [
        "",
        "pod1",
        "kubepods",
        "kubepods.slice/kubepods-burstable.slice",
        "system.slice/podman.service",
        "system.slice/app-pod1.slice",
        "burstable/pod1",
        "other/burstable/pod1",
        "kubepods/system/pod1",
        "kubepods/pod",
        "kubepods/pod1 2",
        "kubepods.slice/kubepods-pod.slice",
        "kubepods.slice/kubepods-pod1.scope",
    ] {
        assert_eq!(pod_cgroup(cgroup), None, "{cgroup}");
    }
}

#[test]
fn what_a_pod_says_of_its_namespace_does_not_count() {
    let own =
        [("app", "web"), ("namespace", "prod"), ("namespace.team", "red"), ("namespaced", "yes"), ("a.namespace", "x")];
    let set = |pairs: &[(&str, &str)]| -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let merged = merged(&set(&own), "shop", &set(&[("env", "test"), ("kubernetes.io/metadata.name", "shop")]));
    let expected = [
        ("a.namespace", "x"),
        ("app", "web"),
        ("namespace", "shop"),
        ("namespace.env", "test"),
        ("namespace.kubernetes.io/metadata.name", "shop"),
        ("namespaced", "yes"),
    ];
    assert_eq!(merged, set(&expected));
}

fn pod(name: &str, uid: &str, app: &str) -> PodFact {
    let labels = Arc::new(Labels::from([("app".to_owned(), app.to_owned())]));
    let local = !uid.is_empty();
    PodFact { name: format!("shop/{name}"), uid: uid.to_owned(), labels, addresses: Vec::new(), local }
}

fn names(changed: &BTreeSet<Arc<str>>) -> Vec<&str> {
    changed.iter().map(|name| name.strip_prefix("pod:shop/").expect("a pod of this namespace")).collect()
}

#[test]
fn a_list_changes_those_that_differ_and_those_that_are_not_in_it() {
    let mut pods = Pods::default();
    pods.tell_namespaces(Told::One(NamespaceFact { name: "shop".to_owned(), labels: Labels::new() }));
    let all = |facts: &[(&str, &str, &str)]| Told::All(facts.iter().map(|(n, uid, app)| pod(n, uid, app)).collect());
    let first = [("same", "1", "web"), ("relabelled", "", "web"), ("gone", "2", "web"), ("heir", "3", "web")];
    assert_eq!(names(&pods.tell(all(&first))), ["gone", "heir", "relabelled", "same"]);
    assert!(pods.tell(all(&first)).is_empty(), "nothing has changed");
    let changed =
        pods.tell(all(&[("same", "1", "web"), ("relabelled", "", "db"), ("heir", "2", "web"), ("new", "", "web")]));
    assert_eq!(names(&changed), ["gone", "heir", "new", "relabelled"]);
    assert_eq!(pods.found("2".to_owned(), "there").as_deref(), Some("pod:shop/heir"));
    assert_eq!(pods.place("pod:shop/heir").map(String::as_str), Some("there"));
    let labels = |pods: &Pods, name| pods.workload(name, |_| None).map(|pod| pod.labels["app"].clone());
    assert_eq!(labels(&pods, "pod:shop/relabelled").as_deref(), Some("db"));

    // Two that are said to have one UID: whoever has it no more has changed, too.
    let changed = pods.tell(all(&[("same", "1", "web"), ("heir", "2", "web"), ("other", "2", "web")]));
    assert!(names(&changed).contains(&"heir") && pods.place("pod:shop/heir").is_none(), "{changed:?}");
}

#[test]
fn a_pod_is_none_while_its_namespace_is_not_known() {
    let mut pods = Pods::default();
    assert_eq!(names(&pods.tell(Told::One(pod("web", "1", "web")))), ["web"]);
    let labels = |pods: &Pods| pods.workload("pod:shop/web", |_| None).map(|pod| pod.labels.keys().cloned().collect());
    assert_eq!(labels(&pods), None::<Vec<String>>);
    let team =
        |team: &str| NamespaceFact { name: "shop".to_owned(), labels: [("team".to_owned(), team.to_owned())].into() };
    assert_eq!(names(&pods.tell_namespaces(Told::One(team("red")))), ["web"]);
    assert_eq!(labels(&pods), Some(["app", "namespace", "namespace.team"].map(String::from).into()));
    assert!(pods.tell(Told::One(pod("web", "1", "web"))).is_empty(), "the same as before");
    assert_eq!(names(&pods.tell_namespaces(Told::All(Vec::new()))), ["web"]);
    assert_eq!(labels(&pods), None);
    assert_eq!(names(&pods.tell_namespaces(Told::One(team("blue")))), ["web"]);
    assert_eq!(labels(&pods), Some(["app", "namespace", "namespace.team"].map(String::from).into()));
}

#[test]
fn numbers_of_named_ports_are_known_by_namespace_for_as_long_as_they_may_be_back_soon() {
    let fact = |name: &str, number: u16| {
        let labels = Labels::from([("port.tcp.http".to_owned(), number.to_string())]);
        let (name, uid) = (name.to_owned(), name.to_owned());
        PodFact { name, uid, labels: Arc::new(labels), addresses: Vec::new(), local: true }
    };
    let http = PortName { protocol: 6, name: "http".to_owned() };
    let shop = ["shop".to_owned()];
    let mut pods = Pods::default();
    pods.tell(Told::One(fact("shop/web", 80)));
    assert!(pods.take_change_of_ports());
    assert_eq!(pods.port_numbers().of(&http, Some(&shop)), (vec![80], false));
    let all = || Told::All(vec![fact("shop/web", 80), fact("ops/web", 8080)]);
    pods.tell(all());
    assert!(pods.take_change_of_ports());
    assert_eq!(pods.port_numbers().of(&http, Some(&shop)), (vec![80], false));
    assert_eq!(pods.port_numbers().of(&http, None), (vec![80, 8080], false));
    // Told again, replaced, and another of its kind.
    pods.tell(all());
    pods.tell(Told::Gone("ops/web".to_owned()));
    pods.tell(Told::One(fact("ops/web-2", 8080)));
    pods.tell(Told::One(fact("ops/web-3", 8080)));
    assert!(!pods.take_change_of_ports());
    let changed = pods.tell(Told::One(fact("ops/web-3", 8081)));
    assert_eq!(changed, BTreeSet::from(["pod:ops/web-3".into()]), "a port is a label as any other");
    assert!(pods.take_change_of_ports());
}
