//! Files and objects change in any order, and what is told of them is the outcome of both.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::policy::model::PolicySet;
use crate::policy::objects::Standing;

/// Far longer than any judgement takes.
const LONG: Duration = Duration::from_secs(20);

pub(super) fn group(name: &str, spec: serde_json::Value) -> ApiObject {
    let object = json!({"metadata": {"name": name, "uid": name, "generation": 1}, "spec": spec});
    ApiObject::new(ObjectKind::SecurityGroup, &object).expect("a name")
}

fn write(directory: &Path, name: &str, spec: &str) {
    let text =
        format!("apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {{name: {name}}}\nspec: {spec}");
    fs::write(directory.join("policy.yaml"), text).expect("a file that can be written");
}

fn groups(policy: &PolicySet) -> Vec<&str> {
    policy.groups.iter().map(|group| group.name.as_str()).collect()
}

/// Everything of every kind but groups is told of: there is nothing.
fn tell_the_rest(objects: &PolicyObjects) {
    for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::SecurityGroup) {
        objects.tell(Instant::now(), kind, Told::All(Vec::new()));
    }
}

#[tokio::test]
async fn a_burst_of_changes_is_judged_once_everything_was_listed() {
    let objects = PolicyObjects::new(&[]).expect("no files");
    let (events, mut outcomes) = mpsc::channel(16);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(objects.clone().watch(events, stopped));
    let seen = Instant::now();
    let all = vec![group("a", json!({"selector": {}})), group("b", json!({"selector": {}, "mode": "loud"}))];
    objects.tell(seen, ObjectKind::SecurityGroup, Told::All(all));
    assert!(!objects.listed(Duration::from_millis(300)).await);
    assert!(outcomes.try_recv().is_err(), "half of a policy is none");
    tell_the_rest(&objects);
    objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::One(group("c", json!({"selector": {}}))));
    objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::Gone("a".to_owned()));

    let event = timeout(LONG, outcomes.recv()).await.expect("in time").expect("a live task");
    let Event::Policy(load) = event else { panic!("{event:?}") };
    assert_eq!(groups(load.result.as_ref().expect("objects are never refused as a whole")), ["b", "c"]);
    assert_eq!((load.seen, load.objects.order), (seen, 1));
    let refused: Vec<_> = load.objects.refused.values().map(|refusal| refusal.standing).collect();
    assert_eq!(refused, [Standing::Closed]);
    // Nothing new.
    objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::One(group("c", json!({"selector": {}}))));
    objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::Gone("d".to_owned()));
    assert!(timeout(DEBOUNCE * 4, outcomes.recv()).await.is_err());
    stop.send(true).expect("a live task");
    timeout(LONG, task).await.expect("it ends").expect("it does not panic");
}

#[test]
fn a_list_takes_the_place_of_what_was_known_of_its_kind_alone() {
    let objects = PolicyObjects::new(&[]).expect("no files");
    let policy = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"podSelector": {}}});
    let policy = ApiObject::new(ObjectKind::NetworkPolicy, &policy).expect("a name");
    objects.tell(Instant::now(), ObjectKind::NetworkPolicy, Told::All(vec![policy]));
    for name in ["a", "b"] {
        objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::All(vec![group(name, json!({"selector": {}}))]));
    }
    assert_eq!(groups(&objects.judge().result.expect("a policy")), ["b", "networkpolicy:shop/web"]);
    objects.tell(Instant::now(), ObjectKind::NetworkPolicy, Told::Gone("shop/web".to_owned()));
    assert_eq!(groups(&objects.judge().result.expect("a policy")), ["b"]);
}

/// Of one pod whose port has a name.
fn numbers(key: &str, number: u16) -> PortNumbers {
    let mut numbers = PortNumbers::default();
    numbers.add(&[("namespace".to_owned(), "shop".to_owned()), (key.to_owned(), number.to_string())].into());
    numbers
}

#[tokio::test]
async fn a_number_that_a_named_port_never_had_has_policy_judged_and_names_that_no_rule_uses_do_not() {
    let objects = PolicyObjects::new(&[]).expect("no files");
    let ports = json!([{"ports": [{"port": "http"}]}]);
    let spec = json!({"podSelector": {}, "ingress": ports});
    let policy = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec});
    let policy = ApiObject::new(ObjectKind::NetworkPolicy, &policy).expect("a name");
    for kind in ObjectKind::ALL {
        objects.tell(Instant::now(), kind, Told::All(Vec::new()));
    }
    objects.tell(Instant::now(), ObjectKind::NetworkPolicy, Told::One(policy));
    objects.tell_ports(Instant::now(), numbers("port.tcp.http", 80));
    let (events, mut outcomes) = mpsc::channel(16);
    let (_stop, stopped) = watch::channel(false);
    let _task = tokio::spawn(objects.clone().watch(events, stopped));
    let mut judged = async |until: Duration| match timeout(until, outcomes.recv()).await {
        Ok(Some(Event::Policy(load))) => {
            let policy = load.result.expect("a policy");
            policy.groups.into_iter().map(|group| group.name).find(|name| name.contains("port."))
        }
        other => {
            assert!(other.is_err(), "{other:?}");
            None
        }
    };
    assert_eq!(judged(LONG).await.as_deref(), Some("pods:namespace=shop&port.tcp.http=80"));
    objects.tell_ports(Instant::now(), numbers("port.tcp.http", 8_080));
    assert_eq!(judged(LONG).await.as_deref(), Some("pods:namespace=shop&port.tcp.http=8080"));
    let mut more = numbers("port.tcp.http", 8_080);
    more.add(&[("namespace".to_owned(), "shop".to_owned()), ("port.tcp.other".to_owned(), "9".to_owned())].into());
    objects.tell_ports(Instant::now(), more);
    assert_eq!(judged(DEBOUNCE * 4).await, None);
}

#[test]
fn files_that_are_refused_stay_as_they_were_and_do_not_stop_objects() {
    let directory = TempDir::new().expect("a temporary directory");
    let paths = [directory.path().to_owned()];
    write(directory.path(), "old", "{selector: {}}");
    let objects = PolicyObjects::new(&paths).expect("right files");
    write(directory.path(), "new", "{selector: {}, mode: loud}");
    assert!(objects.load(&paths).result.is_err());
    objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::All(vec![group("a", json!({"selector": {}}))]));
    let load = objects.judge();
    assert_eq!(groups(&load.result.expect("a policy")), ["a", "old"]);
    assert_eq!(load.objects.standing.len(), 1, "and they are not forgotten");
    write(directory.path(), "new", "{selector: {}}");
    let later = objects.load(&paths);
    assert_eq!(groups(&later.result.expect("a policy")), ["a", "new"]);
    assert!(later.objects.standing.is_empty() && later.objects.order > load.objects.order);
}

#[test]
fn an_object_that_became_unreadable_stays_as_it_was_while_the_agent_runs() {
    let objects = PolicyObjects::new(&[]).expect("no files");
    let mut policies = Vec::new();
    for selector in [json!({"matchLabels": {"app": "db"}}), json!({"matchLabels": {"app": "a b"}})] {
        objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::One(group("db", json!({"selector": selector}))));
        policies.push(objects.judge().result.expect("a policy"));
    }
    assert_eq!(policies[0], policies[1]);
}
