//! NetworkPolicies as security groups, and every kind that can't be right.

use super::*;
use crate::policy::model::{NamedPort, PortOf, SecurityGroup};
use crate::policy::warnings::warnings;
use crate::workload::port::PortName;

fn document(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: db.v1, namespace: shop}}\nspec:\n{spec}"
    )
}

/// The groups of a document whose spec begins on line 5.
fn groups(spec: &str) -> Vec<SecurityGroup> {
    good(&document(spec)).groups
}

/// The one problem of a document whose spec begins on line 5.
fn check(spec: &str, line: usize, message: &str, cure: &str) {
    let text = document(spec);
    let problems = validate(&[file("test.yaml", &text)]).expect_err(&text);
    let [problem] = problems.as_slice() else { panic!("{text}\n{problems:?}") };
    assert_eq!(problem.origin.as_ref().map(|origin| origin.line), Some(line), "{problem}");
    assert!(problem.message.contains(message) && problem.cure.contains(cure), "{problem}");
}

#[test]
fn a_policy_is_a_group_and_what_its_rules_select_are_groups_that_govern_nobody() {
    let spec = "podSelector: {matchLabels: {app: db}}\ningress:\n- from:\n  - podSelector: {matchLabels: {app: web}}\n  \
                - namespaceSelector: {matchLabels: {team: ops}}\n  ports: [{port: 5432}]";
    let groups = groups(spec);
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["networkpolicy:shop/db.v1", "pods:app=web&namespace=shop", "pods:namespace&namespace.team=ops"]);
    let [policy, web, ops] = groups.as_slice() else { panic!("{groups:?}") };
    assert!(policy.governs() && !web.governs() && !ops.governs());
    let ingress = policy.ingress.as_ref().expect("it is for ingress");
    assert_eq!(ingress[0].peers, [Peer::Group(web.id), Peer::Group(ops.id)]);
    assert_eq!((&ingress[0].ports, ingress[0].origin.line), (&Some(vec![tcp(5432, 5432)]), 7));
    assert_eq!((ingress[1].peers.as_slice(), ingress.len()), ([Peer::Host].as_slice(), 2), "its node reaches it");
    assert!(policy.egress.is_none());
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    assert!(policy.selector.matches(&labels(&[("namespace", "shop"), ("app", "db")])));
    assert!(!policy.selector.matches(&labels(&[("namespace", "other"), ("app", "db")])));
    assert!(!ops.selector.matches(&labels(&[("app", "web")])), "who has no namespace is no pod");
}

#[test]
fn what_the_api_server_writes_into_an_object_is_passed_over_and_lists_are_taken_apart() {
    let item = |name: &str| {
        format!(
            "- apiVersion: networking.k8s.io/v1\n  kind: NetworkPolicy\n  metadata:\n    name: {name}\n    uid: 1-2-3\n    \
             creationTimestamp: null\n    generation: 4\n    resourceVersion: \"77\"\n    managedFields: [{{manager: kubectl, \
             fieldsV1: {{\"f:spec\": {{}}}}}}]\n  spec: {{podSelector: {{}}}}\n  status: {{}}\n"
        )
    };
    let list = format!("apiVersion: v1\nkind: List\nitems:\n{}{}metadata: {{}}\n", item("a"), item("b"));
    let names: Vec<String> = good(&list).groups.into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["networkpolicy:default/a", "networkpolicy:default/b"]);
    let problems = validate(&[file("test.yaml", &list.replace("name: b", "name: a"))]).expect_err("a name twice");
    assert!(problems[0].message.contains("NetworkPolicy `default/a` is defined twice"), "{}", problems[0]);
}

/// A workload that calls its port `http`.
fn with_port(name: &str, namespace: &str, key: &str, number: &str) -> String {
    format!(
        "---\napiVersion: bulkhead.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, labels: {{app: web, namespace: {namespace}, \
         {key}: \"{number}\"}}}}\nspec: {{cgroup: shop/{name}}}\n"
    )
}

#[test]
fn a_named_port_for_ingress_is_each_subjects_own_and_the_rule_keeps_its_index() {
    let spec = "podSelector: {}\ningress: [{ports: [{port: http}, {port: 81}]}, {ports: [{port: http}]}]";
    let workloads = with_port("one", "shop", "port.tcp.http", "80")
        + &with_port("other", "shop", "port.tcp.http", "8080")
        + &with_port("datagrams", "shop", "port.udp.http", "53")
        + &with_port("odd", "shop", "port.tcp.http", "080")
        + &with_port("stranger", "ops", "port.tcp.http", "9090");
    let policy = good(&format!("{}\n{workloads}", document(spec)));
    let names: Vec<&str> = policy.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(
        names,
        ["networkpolicy:shop/db.v1", "pods:namespace=shop&port.tcp.http=80", "pods:namespace=shop&port.tcp.http=8080"],
        "numbers of another namespace, another protocol and what is no number don't count"
    );
    let [db, low, high] = policy.groups.as_slice() else { panic!("{policy:?}") };
    let ingress = db.ingress.as_ref().expect("it is for ingress");
    let at = |port, group: &SecurityGroup| NamedPort { port: tcp(port, port), of: PortOf::Subjects(group.id) };
    for (index, ports) in [(0, vec![tcp(81, 81)]), (1, vec![])] {
        assert_eq!(ingress[index].named, [at(80, low), at(8080, high)]);
        assert_eq!(ingress[index].ports, Some(ports));
    }
    assert_eq!((ingress.len(), &ingress[2].peers), (3, &vec![Peer::Host]), "its node's rule is the last");
    assert!(!low.governs());
    let http = PortName { protocol: 6, name: "http".to_owned() };
    assert_eq!((policy.port_names, policy.crowded_names), ([http].into(), [].into()));
}

#[test]
fn a_named_port_for_egress_is_that_of_the_peers_which_have_it() {
    let spec = "podSelector: {}\npolicyTypes: [Egress]\negress:\n- to:\n  - podSelector: {matchLabels: {app: web}}\n  \
                - namespaceSelector: {}\n  - ipBlock: {cidr: 10.0.0.0/8}\n  ports: [{port: http}]\n- ports: [{port: http}]";
    let workloads =
        with_port("one", "shop", "port.tcp.http", "80") + &with_port("stranger", "ops", "port.tcp.http", "9090");
    let groups = good(&format!("{}\n{workloads}", document(spec))).groups;
    let peer = |name: &str| {
        let group = groups.iter().find(|group| group.name == name);
        Peer::Group(group.unwrap_or_else(|| panic!("no {name} in {groups:?}")).id)
    };
    let [low, high] = ["80", "9090"].map(|number| peer(&format!("pods:namespace&port.tcp.http={number}")));
    let web = peer("pods:app=web&namespace=shop&port.tcp.http=80");
    let at = |port, peers: &[Peer]| NamedPort { port: tcp(port, port), of: PortOf::Peers(peers.to_vec()) };
    let egress = groups[0].egress.as_ref().expect("it is for egress");
    assert_eq!(egress[0].named, [at(80, &[web, low]), at(9090, &[high])]);
    assert_eq!((&egress[0].ports, egress[0].peers.len()), (&Some(vec![]), 3));
    assert_eq!(egress[1].named, [at(80, &[low]), at(9090, &[high])], "anyone is every pod that has it");
}

#[test]
fn a_name_with_more_numbers_than_are_used_is_told_and_the_rest_is_allowed_nothing() {
    let workloads: String =
        (1..=65).map(|port| with_port(&format!("w{port}"), "shop", "port.tcp.http", &port.to_string())).collect();
    let policy = good(&format!("{}\n{workloads}", document("podSelector: {}\ningress: [{ports: [{port: http}]}]")));
    assert_eq!(policy.groups[0].ingress.as_ref().expect("it is for ingress")[0].named.len(), 64);
    assert_eq!(policy.crowded_names, policy.port_names);
    let told = warnings(&policy);
    assert!(told.len() == 1 && told[0].message.contains("`port.tcp.http` has more than 64 numbers"), "{told:?}");
}

#[test]
fn a_rule_at_a_name_that_nobody_has_is_warned_of() {
    let text = document("podSelector: {}\ningress: [{ports: [{port: http}]}]");
    let of = |text: &str| warnings(&good(text)).into_iter().map(|warning| warning.message).collect::<Vec<_>>();
    let [warning] = &of(&text)[..] else { panic!("{:?}", of(&text)) };
    assert!(warning.contains("no pod whose port could be meant"), "{warning}");
    assert_eq!(of(&format!("{text}\n{}", with_port("one", "shop", "port.tcp.http", "80"))), [""; 0]);
}

#[test]
fn a_policy_may_be_audited_only() {
    let annotated = |mode: &str| {
        document("podSelector: {}")
            .replace("namespace: shop", &format!("namespace: shop, annotations: {{bulkhead.dev/mode: {mode}}}"))
    };
    assert_eq!(good(&annotated("audit")).groups[0].mode, Mode::Audit);
    assert_eq!(good(&annotated("enforce")).groups[0].mode, Mode::Enforce);
    let problems = validate(&[file("test.yaml", &annotated("off"))]).expect_err("no mode");
    assert!(problems[0].message.contains("neither `enforce` nor `audit`"), "{}", problems[0]);
}

#[test]
fn a_policy_that_can_not_be_right_is_refused_where_it_is_wrong() {
    check("ingress: []", 5, "no `podSelector`", "`podSelector: {}`");
    check("podSelector: {}\ningres: []", 6, "`ingres`", "did you mean `ingress`?");
    check("podSelector: {}\npolicyTypes: [ingress]", 6, "must be `Ingress` or `Egress`", "did you mean `Ingress`?");
    check("podSelector: {}\ningress: [{to: []}]", 6, "`to`", "an ingress rule says `from`");
    check("podSelector: {}\ningress: [{from: [{}]}]", 6, "names nobody", "leave `from` out");
    let both = "podSelector: {}\negress: [{to: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]";
    check(both, 6, "either selectors or an `ipBlock`", "two entries");
    check("podSelector: {}\ningress: [{from: [{ipBlock: {}}]}]", 6, "no `cidr`", "add `cidr");
    check("podSelector: {}\ningress: [{from: [{ipBlock: {cidr: nonsense}}]}]", 6, "no CIDR", "write a prefix");
    let outside = "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [192.0.2.0/24]}}]}]";
    check(outside, 6, "no part of `10.0.0.0/8`", "within `cidr`");
    let all = "podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]";
    check(all, 6, "no part of", "smaller");
    check("podSelector: {}\ningress: [{ports: [{protocol: tcp, port: 80}]}]", 6, "`TCP`", "");
    check("podSelector: {}\ningress: [{ports: [{port: 0}]}]", 6, "out of range", "1 to 65535");
    check("podSelector: {}\ningress: [{ports: [{port: 90, endPort: 80}]}]", 6, "ends at 80", "`port: 80`");
    check("podSelector: {}\ningress: [{ports: [{endPort: 80}]}]", 6, "without `port`", "add `port`");
    check("podSelector: {}\ningress: [{ports: [{port: http, endPort: 80}]}]", 6, "named port", "as a number");
    check("podSelector: {}\ningress: [{ports: [{port: HTTP}]}]", 6, "`HTTP` is no name of a port", "lower-case");
    check("podSelector: {matchLabels: {app: \"a b\"}}", 5, "`a b`", "letters");
    let several = "podSelector: {matchLabel: {}}\ningress: [{from: [{}], ports: [{port: 0}]}]";
    assert_eq!(validate(&[file("test.yaml", &document(several))]).expect_err("three").len(), 3, "all are told at once");
    let version = document("podSelector: {}").replace("networking.k8s.io/v1", "networking.k8s.io/v1beta1");
    let problems = validate(&[file("test.yaml", &version)]).expect_err("an old version");
    assert!(problems[0].cure.contains("`networking.k8s.io/v1`"), "{}", problems[0]);
}
