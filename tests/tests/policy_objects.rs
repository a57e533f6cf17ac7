//! Policy from the Kubernetes API: from objects on a server to a policy, and back as their status.

#[path = "policy_objects/agent.rs"]
mod agent;
#[path = "policy_objects/in_force.rs"]
mod in_force;

use std::sync::Arc;
use std::time::Duration;

use bulkhead_tests::apiserver::{ApiServer, Asked, End, Fault, NETWORK_POLICY, NODE, Resource, Verb, What};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use agent::Agent;

const SECURITY_GROUP: Resource = Resource::new("bulkhead.dev", "v1alpha1", "securitygroups", "SecurityGroup");
const GUARDRAIL: Resource = Resource::new("bulkhead.dev", "v1alpha1", "guardrails", "Guardrail");
const ADDRESS_GROUP: Resource = Resource::new("bulkhead.dev", "v1alpha1", "addressgroups", "AddressGroup");
/// Two turns of an agent's writer, and what it takes to start.
const PATIENCE: Duration = Duration::from_secs(40);

fn group(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn objects_come_change_and_go_and_what_is_known_outlives_the_server() {
    let server = ApiServer::start();
    for name in ["a", "b", "c", "d"] {
        server.put(&SECURITY_GROUP, group(name, json!({"selector": {}})));
    }
    server.put(&NETWORK_POLICY, json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"podSelector": {}}}));
    server.put(&GUARDRAIL, group("rail", json!({"deny": [{"to": [{"addresses": "office"}]}]})));
    server.put(&ADDRESS_GROUP, group("office", json!({"cidrs": ["192.0.2.0/24"]})));
    let mut agent = Agent::start(&server, "n1");
    agent.until(&["a", "b", "c", "d", "networkpolicy:shop/web"]).await;
    assert_eq!((agent.refused().len(), agent.loads), (0, 1), "they are listed before they are judged");

    server.put(&SECURITY_GROUP, group("e", json!({"selector": {}, "mode": "loud"})));
    server.delete(&SECURITY_GROUP, "a");
    server.delete(&ADDRESS_GROUP, "office");
    agent.until(&["b", "c", "d", "e", "networkpolicy:shop/web"]).await;
    agent.during(Duration::from_millis(500)).await;
    assert_eq!(agent.refused(), ["SecurityGroup/e", "Guardrail/rail"]);

    server.stop();
    server.end_watches(End::WithinALine);
    assert_eq!(agent.during(Duration::from_secs(1)).await, 0, "what is known stays");
    // As a server that begins: it does not know custom kinds yet.
    for plural in ["securitygroups", "guardrails"] {
        server.fail(Fault::new(What::Status { code: 404, retry_after: None }).of(plural).times(4));
    }
    server.start_again();
    server.put(&SECURITY_GROUP, group("f", json!({"selector": {}})));
    agent.until(&["b", "c", "d", "e", "f", "networkpolicy:shop/web"]).await;
}

#[tokio::test]
async fn kinds_that_are_not_installed_have_no_objects_until_they_are() {
    let server = ApiServer::start();
    for plural in ["securitygroups", "guardrails", "addressgroups"] {
        server.fail(Fault::new(What::Status { code: 404, retry_after: None }).of(plural));
    }
    let policy = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"podSelector": {}}});
    server.put(&NETWORK_POLICY, policy);
    let mut agent = Agent::start(&server, "n1");
    agent.until(&["networkpolicy:shop/web"]).await;
    server.put(&SECURITY_GROUP, group("a", json!({"selector": {}})));
    server.mend();
    agent.until(&["a", "networkpolicy:shop/web"]).await;
}

fn condition(server: &ApiServer, name: &str) -> Option<Value> {
    let object = server.get(&SECURITY_GROUP, name)?;
    object["status"]["conditions"].as_array()?.first().cloned()
}

/// Waits until the conditions of these groups have these reasons.
async fn until_said(server: &ApiServer, reasons: &[(&str, &str)]) {
    let end = Instant::now() + PATIENCE;
    let said = |name: &str| condition(server, name).map(|condition| condition["reason"].clone());
    while !reasons.iter().all(|(name, reason)| said(name).is_some_and(|said| said == *reason)) {
        assert!(
            Instant::now() < end,
            "never {reasons:?}: {:?}",
            reasons.iter().map(|(name, _)| said(name)).collect::<Vec<_>>()
        );
        sleep(Duration::from_millis(50)).await;
    }
}

fn patches(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| asked.verb == Verb::Patch && asked.plural == SECURITY_GROUP.plural).count()
}

#[tokio::test]
async fn one_of_several_agents_writes_the_status_of_each_object_and_says_what_is_wrong() {
    let server = Arc::new(ApiServer::start());
    let nodes = ["n1", "n2", "n3"];
    for node in nodes {
        server.put(&NODE, json!({"metadata": {"name": node}}));
    }
    server.put(&SECURITY_GROUP, group("good", json!({"selector": {}})));
    server.put(&SECURITY_GROUP, group("bad", json!({"selector": {}, "ingress": [{"from": [{"group": "later"}]}]})));
    let mut agents: Vec<Agent> = nodes.into_iter().map(|node| Agent::start(&server, node)).collect();
    let listening = async {
        // Nobody has to read policies for statuses to be written, but the channel has an end.
        loop {
            for agent in &mut agents {
                agent.during(Duration::from_millis(20)).await;
            }
        }
    };
    let story = async {
        until_said(&server, &[("good", "Accepted"), ("bad", "InForceInPart")]).await;
        let bad = condition(&server, "bad").expect("a condition");
        assert_eq!((bad["type"].clone(), bad["status"].clone()), (json!("Accepted"), json!("False")));
        let message = bad["message"].as_str().unwrap_or_default();
        assert!(message.contains("spec.ingress[0].from[0].group: no SecurityGroup is named `later`"), "{message}");
        let generation = server.get(&SECURITY_GROUP, "bad").expect("it is there")["metadata"]["generation"].clone();
        assert_eq!(bad["observedGeneration"], generation, "a status is no change of the object");

        server.put(&SECURITY_GROUP, group("later", json!({"selector": {}})));
        until_said(&server, &[("later", "Accepted"), ("bad", "Accepted")]).await;
        // One write for each thing that there was to say.
        assert_eq!(patches(&server.take_asked()), 4);
    };
    tokio::select! {
        () = listening => {}
        () = story => {}
    }
}
