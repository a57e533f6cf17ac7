use super::*;

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
