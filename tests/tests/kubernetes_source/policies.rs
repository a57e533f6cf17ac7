//! Policy objects come by the same way.

use std::time::Duration;

use bulkhead::policy::objects::ObjectKind;
use bulkhead::source::kubernetes::{Access, Options};
use bulkhead::source::policy_objects::PolicyObjects;
use bulkhead_tests::apiserver::{ApiServer, Fault, NETWORK_POLICY, POD, Resource, What};
use serde_json::json;

use crate::known::{HERE, Known, pod, quick};

const SECURITY_GROUP: Resource = Resource::new("bulkhead.dev", "v1alpha1", "securitygroups", "SecurityGroup");

#[tokio::test]
async fn policy_objects_are_listed_and_watched_and_a_kind_that_is_not_installed_has_none() {
    let server = ApiServer::start();
    server.put(&POD, pod("x/a", HERE, "10.0.0.1"));
    let group =
        |id: u32| json!({"metadata": {"name": "web"}, "spec": {"id": id, "selector": {"matchLabels": {"app": "web"}}}});
    server.put(&SECURITY_GROUP, group(100));
    server.put(
        &NETWORK_POLICY,
        json!({"metadata": {"namespace": "x", "name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
    );
    server.fail(Fault::new(What::Status { code: 404, retry_after: None }).of("guardrails").always());
    let policies = PolicyObjects::new(&[]).expect("no files, no problems");
    let access = Access::Kubeconfig(server.kubeconfig());
    let namespace = "bulkhead-system".to_owned();
    let policies_told = Some(policies.clone());
    let options = Options { access, node_name: HERE.to_owned(), pace: quick(), policies: policies_told, namespace };
    let mut known = Known::start_as(options);
    assert!(policies.listed(Duration::from_secs(20)).await, "each of {:?} is listed, or not there", ObjectKind::ALL);
    known.until_pods(&["x/a"]).await;
    let ids = || {
        let judged = policies.judge().result.expect("what is right is in force");
        judged.groups.iter().map(|group| (group.name.clone(), group.id.0)).collect::<Vec<_>>()
    };
    assert_eq!(ids().len(), 2, "{:?}", ids());
    assert!(ids().contains(&("web".to_owned(), 100)));
    server.put(&SECURITY_GROUP, group(200));
    known.until("the change is told", |_| ids().contains(&("web".to_owned(), 200))).await;
    server.delete(&SECURITY_GROUP, "web");
    known.until("it is gone", |_| ids().len() == 1).await;
}
