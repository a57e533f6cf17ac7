//! One agent writes, and another where that one is gone.

use super::super::tests::group;
use super::*;
use crate::policy::objects::ObjectKind;
use crate::source::Told;

fn nodes(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("node-{number}")).collect()
}

/// Judged objects: one that is right and one that is not.
fn judged() -> PolicyObjects {
    let objects = PolicyObjects::new(&[]).expect("no files");
    let all = vec![group("good", json!({"selector": {}})), group("bad", json!({"selector": {}, "mode": "loud"}))];
    objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::All(all));
    assert!(objects.judge().result.is_ok());
    objects
}

/// The API tells of an object as it is once its status is written.
fn echo(objects: &PolicyObjects, object: &ApiObject, wanted: &Condition) {
    objects.tell(Instant::now(), ObjectKind::SecurityGroup, Told::One(saying(object, wanted.clone())));
}

fn saying(object: &ApiObject, condition: Condition) -> ApiObject {
    let mut object = object.clone();
    object.condition = Some(condition);
    object
}

#[test]
fn every_node_has_its_turn_and_objects_are_spread_over_nodes() {
    let nodes = nodes(50);
    let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
    for object in 0..2_000 {
        let uid = format!("uid-{object}");
        let mut turns: Vec<u32> = nodes.iter().map(|node| turn(node, &nodes, &uid)).collect();
        *firsts
            .entry(nodes.iter().nth(turns.iter().position(|turn| *turn == 0).expect("a first")).expect("it"))
            .or_default() += 1;
        turns.sort_unstable();
        assert!(turns.iter().copied().eq(0..50), "{turns:?}");
        assert_eq!(turn("elsewhere", &nodes, &uid), 50, "who is no node comes last");
    }
    assert!(firsts.len() == 50 && firsts.values().all(|count| (10..120).contains(count)), "{firsts:?}");
}

#[test]
fn an_object_is_written_by_one_node_and_not_again_until_it_changes() {
    let (objects, nodes, now) = (judged(), nodes(20), Instant::now());
    let due = |now| -> Vec<(ApiObject, Condition)> {
        nodes.iter().flat_map(|node| Waiting::default().due(now, node, &nodes, &objects)).collect()
    };
    let first = due(now);
    let said: BTreeMap<&str, (bool, &str)> =
        first.iter().map(|(object, said)| (object.name.name.as_str(), (said.accepted, said.reason.as_str()))).collect();
    assert_eq!(said, BTreeMap::from([("bad", (false, "MembersDenied")), ("good", (true, "Accepted"))]));
    assert_eq!(first.len(), 2, "one node each");
    first.iter().for_each(|(object, wanted)| echo(&objects, object, wanted));
    assert!(due(now).is_empty());
    // Another's mistake, or somebody's edit of the status.
    let (object, wanted) = &first[0];
    echo(&objects, object, &Condition { accepted: !wanted.accepted, ..wanted.clone() });
    assert_eq!(due(now).len(), 1);
}

#[test]
fn where_the_first_node_is_dead_the_next_writes_later_and_the_others_never() {
    let (objects, nodes, now) = (judged(), nodes(4), Instant::now());
    let at =
        |turn_of: u32, uid: &str| nodes.iter().find(|node| turn(node, &nodes, uid) == turn_of).expect("a node").clone();
    let (second, third) = (at(1, "good"), at(2, "good"));
    let (mut of_second, mut of_third) = (Waiting::default(), Waiting::default());
    let good = |due: Vec<(ApiObject, Condition)>| due.into_iter().find(|(object, _)| object.name.name == "good");
    assert!(good(of_second.due(now, &second, &nodes, &objects)).is_none());
    assert!(good(of_third.due(now, &third, &nodes, &objects)).is_none());
    assert!(good(of_third.due(now + STEP, &third, &nodes, &objects)).is_none());
    let (object, wanted) = good(of_second.due(now + STEP, &second, &nodes, &objects)).expect("its turn");
    echo(&objects, &object, &wanted);
    assert!(good(of_third.due(now + STEP * 10, &third, &nodes, &objects)).is_none());
}

#[test]
fn a_status_keeps_the_time_of_its_last_change_of_mind() {
    let object = group("a", json!({"selector": {}}));
    let wanted = condition(&object, &BTreeMap::new());
    let first = status(&object, &wanted, "2026-01-01T00:00:00Z");
    assert_eq!(first["metadata"]["uid"], "a");
    assert_eq!(first["status"]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    let said = Condition { since: "2025-01-01T00:00:00Z".to_owned(), generation: 0, ..wanted.clone() };
    let same = saying(&object, said.clone());
    assert_eq!(status(&same, &wanted, "now")["status"]["conditions"][0]["lastTransitionTime"], said.since);
    let other = saying(&object, Condition { accepted: false, ..said });
    assert_eq!(status(&other, &wanted, "now")["status"]["conditions"][0]["lastTransitionTime"], "now");
}

#[test]
fn a_status_fits_its_definition() {
    let objects = judged();
    let verdicts = objects.0.verdicts.borrow().clone();
    let schema = crd::schema(&crd::KINDS[0])["properties"]["status"].clone();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for object in objects.custom_resources() {
        let status = status(&object, &condition(&object, &verdicts.refused), "2026-01-01T00:00:00Z")["status"].clone();
        assert!(validator.is_valid(&status), "{status:#}");
        let fields = status.as_object().expect("an object").keys();
        fields.for_each(|field| assert!(schema["properties"][field].is_object(), "{field} would be pruned"));
        let fields = status["conditions"][0].as_object().expect("an object").keys();
        let known = &schema["properties"]["conditions"]["items"]["properties"];
        fields.for_each(|field| assert!(known[field].is_object(), "{field} would be pruned"));
    }
}
