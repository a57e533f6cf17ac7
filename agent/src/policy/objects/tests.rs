//! Objects are judged one by one, and none that is refused opens anything.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::policy::model::{Guardrail, Mode, Peer};

fn object(kind: ObjectKind, name: &str, spec: &Value) -> ApiObject {
    let (namespace, name) = name.split_once('/').map_or((None, name), |(namespace, name)| (Some(namespace), name));
    // As kubectl shows it, with all that says nothing to a policy.
    let metadata = json!({
        "name": name,
        "namespace": namespace,
        "uid": format!("uid-of-{name}"),
        "generation": 3,
        "resourceVersion": "77",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{\"a\u{7f}\": 1}\n"},
        "ownerReferences": [{"kind": "Thing"}],
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
    });
    ApiObject::new(kind, &json!({"metadata": metadata, "spec": spec, "status": {"conditions": []}})).expect("a name")
}

fn group(name: &str, spec: &Value) -> ApiObject {
    object(ObjectKind::SecurityGroup, name, spec)
}

fn policy(name: &str, spec: &Value) -> ApiObject {
    object(ObjectKind::NetworkPolicy, name, spec)
}

fn file(text: &str) -> PolicyFile {
    PolicyFile { path: Arc::new("policy.yaml".into()), text: text.to_owned() }
}

fn judge(objects: &[ApiObject]) -> Judged {
    judge_with_objects(&[], objects, &Accepted::new(), &PortNumbers::default())
}

fn of<'a>(judged: &'a Judged, name: &str) -> &'a SecurityGroup {
    let found = judged.policy.groups.iter().find(|group| group.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {judged:#?}"))
}

/// The one refused object's standing, and its problems as they are printed.
fn refusal(judged: &Judged) -> (Standing, String) {
    let [refusal] = judged.refused.values().collect::<Vec<_>>()[..] else { panic!("{:?}", judged.refused) };
    let problems: Vec<String> = refusal.problems.iter().map(ToString::to_string).collect();
    (refusal.standing, problems.join("\n"))
}

/// The number of peers of each rule.
fn peers(rules: &Option<Vec<Rule>>) -> Option<Vec<usize>> {
    rules.as_ref().map(|rules| rules.iter().map(|rule| rule.peers.len()).collect())
}

#[test]
fn objects_and_files_are_one_policy() {
    let text =
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: web}\nspec: {id: 7, selector: {}}";
    let objects = [
        group("db", &json!({"selector": {}, "ingress": [{"from": [{"group": "web"}, {"addresses": "office"}]}]})),
        object(ObjectKind::AddressGroup, "office", &json!({"cidrs": ["10.0.0.0/8"]})),
        object(ObjectKind::Guardrail, "no-telnet", &json!({"deny": [{"ports": [{"protocol": "tcp", "port": 23}]}]})),
        policy("shop/web", &json!({"podSelector": {}})),
    ];
    let judged = judge_with_objects(&[file(text)], &objects, &Accepted::new(), &PortNumbers::default());
    assert_eq!(judged.refused, BTreeMap::new());
    assert_eq!((judged.policy.groups.len(), judged.policy.guardrails.len(), judged.accepted.len()), (3, 1, 4));
    let rule = &of(&judged, "db").ingress.as_ref().expect("ingress")[0];
    assert_eq!(rule.peers, [Peer::Group(GroupId(7)), Peer::Cidr("10.0.0.0/8".parse().expect("a prefix"))]);
    assert_eq!(rule.origin.to_string(), "kubernetes:SecurityGroup/db");
}

#[test]
fn a_rule_that_is_wrong_allows_nothing_and_the_others_keep_their_numbers() {
    let rules = json!([
        {"from": [{"cidr": "10.0.0.1/8"}, {"entity": "host"}]},
        "no rule",
        {"from": [{"entity": "host"}], "layer7": {}},
        {"from": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]},
        {"from": [{"entity": "host"}], "ports": [{"protocol": "tcp", "port": 0}]},
        {"from": [{"entity": "world"}]},
    ]);
    let judged = judge(&[group("db", &json!({"selector": {}, "ingress": rules, "egress": rules}))]);
    assert_eq!(peers(&of(&judged, "db").ingress), Some(vec![0, 0, 0, 0, 0, 1]));
    assert_eq!(peers(&of(&judged, "db").egress), Some(vec![0; 6]), "`from` is for ingress");
    let (standing, problems) = refusal(&judged);
    assert_eq!(standing, Standing::InPart);
    assert!(problems.contains("kubernetes:SecurityGroup/db: spec.ingress[0].from[0].cidr: "), "{problems}");
    assert!(problems.contains("spec.ingress[3].from[0].except: `except` is no field"), "{problems}");

    let odd = "\u{7f}\u{85}\u{feff}\u{2028}\u{1f6a7}\t\n\"\\: {# '";
    let judged = judge(&[group("db", &json!({"selector": {}, "description": odd}))]);
    assert_eq!((of(&judged, "db").description.as_deref(), judged.refused.len()), (Some(odd), 0), "any text is one");

    let rules = json!([{"from": [{"podSelector": {"matchLabel": {}}}]}, {"ports": [{"port": 0}]}, {"layer7": {}}, {}]);
    let judged = judge(&[policy("shop/db", &json!({"podSelector": {}, "ingress": rules}))]);
    assert_eq!(peers(&of(&judged, "networkpolicy:shop/db").ingress), Some(vec![0, 0, 0, 2, 1]));
    assert_eq!(refusal(&judged).0, Standing::InPart);
}

#[test]
fn a_group_that_is_not_there_yet_is_nobody_and_the_peers_beside_it_stand() {
    let db = group("db", &json!({"selector": {}, "ingress": [{"from": [{"group": "web"}, {"entity": "host"}]}]}));
    let judged = judge(std::slice::from_ref(&db));
    assert_eq!(of(&judged, "db").ingress.as_ref().expect("ingress")[0].peers, [Peer::Host]);
    let (standing, problems) = refusal(&judged);
    assert_eq!(standing, Standing::InPart);
    assert!(problems.contains("spec.ingress[0].from[0].group: no SecurityGroup is named `web`"), "{problems}");

    let both = judge(&[db, group("web", &json!({"selector": {}}))]);
    assert_eq!((peers(&of(&both, "db").ingress), both.refused.len()), (Some(vec![2]), 0));
}

#[test]
fn a_refused_object_whose_selector_can_be_read_denies_its_members() {
    let rule = json!([{"from": [{"entity": "world"}]}]);
    for (field, value, egress) in [
        ("mode", json!("loud"), None),
        ("id", json!(0), None),
        ("egress", json!({}), Some(vec![])),
        ("routes", json!([]), Some(vec![])),
    ] {
        let mut spec = json!({"selector": {"matchLabels": {"app": "db"}}, "ingress": rule});
        spec[field] = value;
        let judged = judge(&[group("db", &spec), group("other", &json!({"selector": {}}))]);
        let db = of(&judged, "db");
        assert_eq!((peers(&db.ingress), peers(&db.egress), db.mode), (Some(vec![]), egress, Mode::Enforce), "{field}");
        assert_eq!(refusal(&judged).0, Standing::Closed, "{field}");
        assert_eq!(judged.policy.groups.len(), 2, "the other group does not mind");
    }
    let judged = judge(&[policy("shop/db", &json!({"podSelector": {}, "ingress": [{}], "policyTypes": ["Outgress"]}))]);
    let db = of(&judged, "networkpolicy:shop/db");
    assert_eq!([&db.ingress, &db.egress].map(peers), [Some(vec![1]), Some(vec![1])], "only its node reaches a pod");
    assert_eq!(db.ingress.as_ref().expect("ingress")[0].peers, [Peer::Host]);
    let judged = judge(&[policy("shop/db", &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": {}}))]);
    assert_eq!(peers(&of(&judged, "networkpolicy:shop/db").ingress), None, "a direction that is not meant stays open");
}

#[test]
fn where_nobody_can_tell_whom_it_selects_the_last_version_that_was_accepted_holds() {
    let old =
        group("db", &json!({"selector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"entity": "host"}]}]}));
    let new = group(
        "db",
        &json!({"selector": {"matchLabels": {"app": "a b"}}, "ingress": [{"from": [{"entity": "world"}]}]}),
    );
    let friend = group("web", &json!({"selector": {}, "ingress": [{"from": [{"group": "db"}]}]}));
    let accepted = judge(&[old.clone(), friend.clone()]).accepted;
    let judged = judge_with_objects(&[], &[new.clone(), friend.clone()], &accepted, &PortNumbers::default());
    assert_eq!(of(&judged, "db"), of(&judge(&[old]), "db"));
    assert_eq!(refusal(&judged).0, Standing::Former);
    assert_eq!(judged.accepted, accepted, "and does so until there is a better one");

    let fresh = judge(&[new.clone(), friend]);
    assert_eq!(fresh.policy.groups.len(), 1, "{:?}", fresh.policy.groups);
    assert_eq!(peers(&of(&fresh, "web").ingress), Some(vec![0]), "nobody is taken for a member");
    assert_eq!(fresh.refused[&new.name].standing, Standing::Nothing);
    assert_eq!(fresh.refused.len(), 2, "who names it is told");
    let gone = judge_with_objects(&[], &[], &accepted, &PortNumbers::default());
    assert_eq!((gone.policy.groups.len(), gone.accepted.len()), (0, 0), "what was deleted is not remembered");
}

#[test]
fn an_object_of_a_newer_version_is_refused_with_that_reason() {
    let newer = json!({"apiVersion": "bulkhead.dev/v1beta1", "metadata": {"name": "db"}, "spec": {"selector": {}}});
    let judged = judge(&[ApiObject::new(ObjectKind::SecurityGroup, &newer).expect("a name")]);
    let (standing, problems) = refusal(&judged);
    assert_eq!((standing, judged.policy.groups.len()), (Standing::Nothing, 0));
    assert!(problems.contains("apiVersion: `bulkhead.dev/v1beta1` is no version"), "{problems}");
    let lies = json!([1, "two", null, {"name": 3}]);
    let lies = lies.as_array().expect("a list").iter().map(|metadata| json!({"metadata": metadata, "spec": true}));
    lies.for_each(|lie| assert!(ApiObject::new(ObjectKind::Guardrail, &lie).is_err(), "{lie}"));
}

#[test]
fn a_name_or_an_id_belongs_to_the_file_and_then_to_the_older_object() {
    let text =
        "apiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: db}\nspec: {id: 7, selector: {}}";
    let open = json!({"selector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"entity": "world"}]}]});
    let judged = judge_with_objects(&[file(text)], &[group("db", &open)], &Accepted::new(), &PortNumbers::default());
    assert_eq!((of(&judged, "db").id, &of(&judged, "db").selector.requirements[..]), (GroupId(7), &[][..]));
    let loser = of(&judged, "kubernetes:SecurityGroup/db");
    assert_eq!((peers(&loser.ingress), loser.id == GroupId(7)), (Some(vec![]), false));
    let (standing, problems) = refusal(&judged);
    assert_eq!(standing, Standing::Closed);
    assert!(problems.contains("kubernetes:SecurityGroup/db") && problems.contains("policy.yaml:3:18"), "{problems}");

    let with_id = |name: &str, created: &str| {
        let mut spec = open.clone();
        spec["id"] = json!(8);
        ApiObject { created: created.to_owned(), ..group(name, &spec) }
    };
    let names = json!({"selector": {}, "ingress": [{"from": [{"group": "a"}, {"group": "b"}]}]});
    let objects = [with_id("a", "2026-02-01T00:00:00Z"), with_id("b", "2026-01-01T00:00:00Z"), group("names", &names)];
    let judged = judge(&objects);
    let [a, b] = ["a", "b"].map(|name| of(&judged, name));
    assert_eq!((b.id, peers(&b.ingress), peers(&a.ingress)), (GroupId(8), Some(vec![1]), Some(vec![])));
    let named = &of(&judged, "names").ingress.as_ref().expect("ingress")[0].peers;
    assert_eq!(named, &[Peer::Group(a.id), Peer::Group(GroupId(8))], "each is named by its own ID");
    assert!(a.id != b.id && refusal(&judged).1.contains("ID 8 is given twice"), "{}", refusal(&judged).1);
}

#[test]
fn two_network_policies_of_one_name_both_hold_their_pods() {
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\nspec: \
                {podSelector: {matchLabels: {app: db}}, ingress: [{}]}";
    let object = policy("shop/db", &json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]}));
    let judged = judge_with_objects(&[file(text)], &[object], &Accepted::new(), &PortNumbers::default());
    assert_eq!(peers(&of(&judged, "networkpolicy:shop/db").ingress), Some(vec![2, 1]));
    assert_eq!(peers(&of(&judged, "kubernetes:NetworkPolicy/shop/db").ingress), Some(vec![1]));
}

#[test]
fn a_guardrail_and_an_address_group_stay_what_they_were_until_they_are_right_again() {
    let deny = |cidr: &str| json!({"deny": [{"from": [{"cidr": cidr}]}, {"to": [{"addresses": "bad"}]}]});
    let rail = |cidr: &str| object(ObjectKind::Guardrail, "rail", &deny(cidr));
    let bad = |cidr: &str| object(ObjectKind::AddressGroup, "bad", &json!({"cidrs": ["192.0.2.0/24", cidr]}));
    let first = judge(&[rail("10.0.0.0/8"), bad("198.51.100.0/24")]);
    assert_eq!(first.refused, BTreeMap::new());
    let second =
        judge_with_objects(&[], &[rail("10.0.0.1/8"), bad("nonsense")], &first.accepted, &PortNumbers::default());
    assert_eq!(second.policy, first.policy);
    assert!(second.refused.values().all(|refusal| refusal.standing == Standing::Former), "{:?}", second.refused);

    let fresh = judge(&[rail("10.0.0.1/8"), bad("198.51.100.0/24")]);
    let [Guardrail { entries, .. }] = &fresh.policy.guardrails[..] else { panic!("{fresh:?}") };
    assert_eq!(entries[0].from, Some(Vec::new()), "what is wrong denies nothing, and above all not everything");
    assert_eq!(entries[1].to.as_ref().map(Vec::len), Some(2));
    assert_eq!(refusal(&fresh).0, Standing::InPart);
}

#[test]
fn ten_thousand_network_policies_are_judged_in_seconds() {
    let objects: Vec<ApiObject> = (0..10_000)
        .map(|number| {
            let from = json!([
                {"podSelector": {"matchLabels": {"app": format!("client-{}", number % 500)}}},
                {"namespaceSelector": {"matchLabels": {"team": format!("team-{}", number % 50)}}},
            ]);
            let bad = if number % 100 == 0 { "nonsense" } else { "10.0.0.0/8" };
            let egress = json!([{"to": [{"ipBlock": {"cidr": bad}}]}]);
            let rules = json!([{"from": from, "ports": [{"port": 80}, {"port": 8080, "endPort": 8090}]}]);
            let selector = json!({"matchLabels": {"app": format!("app-{number}")}});
            let spec = json!({"podSelector": selector, "ingress": rules, "egress": egress});
            policy(&format!("namespace-{}/policy-{number}", number % 100), &spec)
        })
        .collect();
    let began = Instant::now();
    let judged = judge(&objects);
    let took = began.elapsed();
    println!("10,000 NetworkPolicies: {took:?}");
    assert_eq!(judged.refused.len(), 100);
    assert!(judged.policy.groups.len() > 10_000);
    // A build without optimisation, on a machine that others use too.
    assert!(took < Duration::from_secs(30), "{took:?}");
}
