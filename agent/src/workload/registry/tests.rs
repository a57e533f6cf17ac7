//! Who is a workload, for small worlds.

use super::*;
use crate::policy::model::Origin;
use crate::source::CgroupFact;

fn cgroup(path: &str, id: u64) -> CgroupFact {
    CgroupFact { path: path.to_owned(), id }
}

fn link(index: u32, name: &str, alias: Option<&str>, peers: &[&str]) -> LinkFact {
    LinkFact {
        index,
        name: name.to_owned(),
        alias: alias.map(str::to_owned),
        host_addresses: Vec::new(),
        peer_addresses: peers.iter().map(|text| text.parse().expect("a literal")).collect(),
    }
}

fn declared(name: &str, cgroup: Option<&str>, interface: Option<&str>) -> DeclaredWorkload {
    DeclaredWorkload {
        name: name.to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        cgroup: cgroup.map(str::to_owned),
        interface: interface.map(str::to_owned),
        addresses: Arc::default(),
        origin: Origin { file: Arc::new("test.yaml".into()), line: 1, column: 1 },
    }
}

fn documents(workloads: Vec<DeclaredWorkload>) -> Arc<PolicySet> {
    Arc::new(PolicySet { workloads, ..PolicySet::default() })
}

fn registry(cgroups: &[(&str, u64)], links: Vec<LinkFact>) -> Registry {
    let mut registry = Registry::new(vec!["system.slice".parse().expect("a scope")]);
    registry.take(Change::CgroupResync(cgroups.iter().map(|(path, id)| cgroup(path, *id)).collect()));
    registry.take(Change::LinkResync(links));
    registry
}

fn names(view: &View) -> Vec<&str> {
    view.workloads.iter().map(|workload| &*workload.name).collect()
}

fn labels_of<'a>(view: &'a View, name: &str) -> &'a Labels {
    &view.workloads.iter().find(|workload| *workload.name == *name).expect("the workload").labels
}

#[test]
fn units_and_slices_below_a_scope_are_workloads_and_what_a_unit_makes_is_not() {
    let registry = registry(
        &[
            ("system.slice", 1),
            ("system.slice/nginx.service", 2),
            ("system.slice/nginx.service/worker", 3),
            ("system.slice/db.slice", 4),
            ("system.slice/db.slice/pg.service", 5),
            ("user.slice/me.service", 6),
        ],
        Vec::new(),
    );
    let view = registry.view();
    assert_eq!(
        names(&view),
        [
            "cgroup:system.slice/db.slice",
            "cgroup:system.slice/db.slice/pg.service",
            "cgroup:system.slice/nginx.service"
        ]
    );
    let label = |name, key: &str| labels_of(&view, name).get(key).map(String::as_str);
    assert_eq!(label("cgroup:system.slice/nginx.service", UNIT), Some("nginx.service"));
    assert_eq!(label("cgroup:system.slice/nginx.service", SLICE), Some("system.slice"));
    assert_eq!(label("cgroup:system.slice/db.slice/pg.service", SLICE), Some("db.slice"));
    assert_eq!(label("cgroup:system.slice/db.slice", UNIT), None);
    let scopes: Vec<u64> = view.scopes.iter().map(|(cgroup, _)| cgroup.id).collect();
    assert_eq!(scopes, [1, 4], "what appears below a slice is unidentified as well");
}

#[test]
fn a_document_claims_its_cgroup_and_its_link() {
    let mut registry = registry(
        &[("system.slice/nginx.service", 2)],
        vec![link(7, "veth-web", Some("app=other,env=prod"), &["10.0.0.2"])],
    );
    registry.declare(&documents(vec![declared("web", Some("system.slice/nginx.service"), Some("veth-web"))]));
    let view = registry.view();
    assert_eq!(names(&view), ["web"]);
    let web = &view.workloads[0];
    assert_eq!(web.cgroup.as_ref().map(|cgroup| cgroup.id), Some(2));
    assert_eq!(*web.addresses, ["10.0.0.2".parse::<IpAddr>().expect("a literal")]);
    assert_eq!(web.labels["app"], "web", "the document's word wins");
    assert_eq!(web.labels["env"], "prod");
}

#[test]
fn a_declared_workload_without_its_cgroup_is_local_and_nowhere_yet() {
    let mut registry = registry(&[], Vec::new());
    registry.declare(&documents(vec![declared("web", Some("shop/web"), None)]));
    let view = registry.view();
    assert!(view.workloads[0].local && view.workloads[0].cgroup.is_none());
}

#[test]
fn a_link_with_labels_in_its_alias_is_a_workload_until_it_loses_them() {
    let mut registry = registry(&[], vec![link(7, "tap0", Some("app=vm"), &["10.0.0.9"]), link(8, "eth0", None, &[])]);
    assert_eq!(names(&registry.view()), ["interface:tap0"]);
    assert_eq!(
        registry.take(Change::LinkChanged(link(7, "tap1", Some("app=vm"), &["10.0.0.9"]))).workloads,
        ["interface:tap0", "interface:tap1"].map(str::to_owned).into()
    );
    assert_eq!(names(&registry.view()), ["interface:tap1"]);
    assert!(registry.take(Change::LinkChanged(link(7, "tap1", Some("app=vm"), &["10.0.0.9"]))).is_nothing());
    registry.take(Change::LinkChanged(link(7, "tap1", Some("a note"), &[])));
    assert!(names(&registry.view()).is_empty());
}

#[test]
fn a_resync_forgets_what_it_does_not_name() {
    let mut registry = registry(&[("system.slice/a.service", 2), ("system.slice/b.service", 3)], Vec::new());
    assert!(registry.take(Change::CgroupResync(vec![cgroup("system.slice/b.service", 4)])).everything);
    let view = registry.view();
    assert_eq!(names(&view), ["cgroup:system.slice/b.service"]);
    assert_eq!(view.workloads[0].cgroup.as_ref().map(|cgroup| cgroup.id), Some(4), "a new cgroup of the same name");
}

#[test]
fn a_cgroup_touches_the_workload_that_it_is_or_that_claims_it() {
    let mut registry = registry(&[("system.slice", 1)], Vec::new());
    registry.declare(&documents(vec![declared("web", Some("shop/web"), None)]));
    let touched = |registry: &mut Registry, path: &str| registry.take(Change::CgroupAppeared(cgroup(path, 9)));
    assert_eq!(touched(&mut registry, "shop/web").workloads, ["web".to_owned()].into());
    let unit = "system.slice/a.service";
    assert_eq!(touched(&mut registry, unit).workloads, [format!("cgroup:{unit}")].into());
    assert!(touched(&mut registry, "system.slice/a.service/worker").is_nothing());
    assert!(touched(&mut registry, "elsewhere").is_nothing());
    assert!(touched(&mut registry, "system.slice/b.slice").everything, "a slice is a scope for what is below");
    assert_eq!(registry.take(Change::CgroupGone("shop/web".to_owned())).workloads, ["web".to_owned()].into());
}
