//! Golden texts of every rendering.

use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::flow::record::tests::denied;
use crate::view::{
    AttachmentView, FlowRule, FlowView, GroupView, GuardrailView, IcmpView, MapView, ObjectView, RuleView, StatusView,
};
use crate::workload::SourceKind;

fn workload(name: &str) -> WorkloadView {
    WorkloadView {
        name: name.into(),
        source: SourceKind::File,
        labels: [("app", "web"), ("env", "prod")].map(|(key, value)| (key.into(), value.into())).into(),
        groups: vec!["web".into()],
        local: true,
        cgroup: Some("shop/web-1".into()),
        interface: None,
        addresses: vec!["10.0.0.1".parse().expect("a literal")],
        identity: 3,
    }
}

fn group() -> GroupView {
    let rule = |direction: &str, index, description: Option<&str>, hits| RuleView {
        direction: direction.into(),
        index,
        description: description.map(Into::into),
        hits,
        origin: format!("api.yaml:{}:7", index + 9),
    };
    GroupView {
        name: "api".into(),
        id: 200,
        mode: "enforce".into(),
        members: vec!["api-1".into(), "api-2".into()],
        rules: vec![rule("ingress", 0, Some("from web"), 12), rule("egress", 0, None, 3)],
        origin: "api.yaml:1:1".into(),
    }
}

fn guardrail() -> GuardrailView {
    let entry = RuleView {
        direction: "deny".into(),
        index: 0,
        description: Some("no ssh".into()),
        hits: 4,
        origin: "rails.yaml:5:7".into(),
    };
    GuardrailView { name: "baseline".into(), deny: vec![entry], origin: "rails.yaml:1:1".into() }
}

fn state() -> StatusView {
    StatusView {
        version: "0.1.0".into(),
        pid: 4211,
        uptime_seconds: 11_520,
        enforcing: true,
        generation: 7,
        policy_loaded_at: 1_700_000_000.0,
        reloads: 2,
        refusals: 1,
        problems: vec!["web.yaml:3:5: no group `ap`; name one that exists".into()],
        objects: Vec::new(),
        warnings: vec!["group batch selects nobody".into()],
        attachments: vec![
            AttachmentView { program: "cgroup_egress".into(), target: "/".into(), mode: String::new() },
            AttachmentView { program: "xdp".into(), target: "eth0".into(), mode: "native".into() },
        ],
        workloads: [("cgroup".into(), 8), ("file".into(), 3)].into(),
        groups: 3,
        rules: 1,
        guardrails: 0,
        repairs: 0,
        maps: vec![MapView { map: "flows".into(), entries: 65_536, capacity: 262_144 }],
    }
}

fn plain(view: &FlowView) -> String {
    flow(view, Look::default())
}

#[test]
fn status_says_what_matters_first() {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_125);
    let expected = "\
bulkhead    0.1.0, pid 4211, up 3h 12m
enforcing   yes
policy      generation 7, loaded 2m 5s ago; 3 groups, 1 rule, 0 guardrails; 2 reloads, 1 refusal
workloads   11 (cgroup 8, file 3)
problem     web.yaml:3:5: no group `ap`; name one that exists
warning     group batch selects nobody

PROGRAM        ATTACHED TO  MODE
cgroup_egress  /
xdp            eth0         native

MAP    ENTRIES  CAPACITY  FULL
flows  65536    262144    25%
";
    assert_eq!(status(&state(), now, Look::default()), expected);
}

#[test]
fn an_agent_that_does_not_enforce_says_so_aloud() {
    let idle = StatusView { enforcing: false, policy_loaded_at: 0.0, ..state() };
    let text = status(&idle, UNIX_EPOCH, Look::default());
    assert!(text.contains("enforcing   NO\n") && text.contains("none loaded"), "{text}");
}

#[test]
fn refused_objects_are_told_of_up_to_a_screenful() {
    let object = |number: usize| ObjectView {
        object: format!("SecurityGroup/db-{number}"),
        standing: "MembersDenied".to_owned(),
        problems: vec!["spec.mode: must be loud; write it".to_owned(), "another".to_owned()],
    };
    let few = status(&StatusView { objects: vec![object(1)], ..state() }, UNIX_EPOCH, Look::default());
    assert!(
        few.contains("object      SecurityGroup/db-1, MembersDenied: spec.mode: must be loud; write it (and 1 more)"),
        "{few}"
    );
    let many = status(&StatusView { objects: (0..30).map(object).collect(), ..state() }, UNIX_EPOCH, Look::default());
    assert!(many.contains("objects     10 more are refused") && !many.contains("db-20"), "{many}");
}

#[test]
fn what_somebody_else_changed_is_shown_where_anybody_did() {
    assert!(!status(&state(), UNIX_EPOCH, Look::default()).contains("repairs"));
    let text = status(&StatusView { repairs: 3, ..state() }, UNIX_EPOCH, Look::default());
    assert!(text.contains("repairs     3: somebody else"), "{text}");
}

#[test]
fn workloads_show_groups_labels_and_place() {
    let remote =
        WorkloadView { labels: [].into(), groups: Vec::new(), local: false, cgroup: None, ..workload("partner") };
    let expected = "\
NAME     GROUPS  LABELS             WHERE       ADDRESSES  SOURCE
web-1    web     app=web, env=prod  shop/web-1  10.0.0.1   file
partner  -       -                  remote      10.0.0.1   file
";
    assert_eq!(workloads(&[workload("web-1"), remote], Look::default()), expected);
}

#[test]
fn groups_show_members_and_rules_their_hits() {
    let view = GroupsView { groups: vec![group()], guardrails: Vec::new() };
    let expected = "\
NAME  ID   MODE     MEMBERS       INGRESS  EGRESS  HITS  DEFINED
api   200  enforce  api-1, api-2  1        1       15    api.yaml:1:1
";
    assert_eq!(groups(&view, Look::default()), expected);
    let expected = "\
RULE           DESCRIPTION  HITS  DEFINED
api/ingress/0  from web     12    api.yaml:9:7
api/egress/0   -            3     api.yaml:9:7
";
    assert_eq!(rules(&view, Look::default()), expected);
}

#[test]
fn guardrails_follow_the_groups() {
    let view = GroupsView { groups: vec![group()], guardrails: vec![guardrail()] };
    let expected = "\
NAME  ID   MODE     MEMBERS       INGRESS  EGRESS  HITS  DEFINED
api   200  enforce  api-1, api-2  1        1       15    api.yaml:1:1

GUARDRAIL  ENTRIES  HITS  DEFINED
baseline   1        4     rails.yaml:1:1
";
    assert_eq!(groups(&view, Look::default()), expected);
    let text = rules(&view, Look::default());
    assert!(text.ends_with("\nbaseline/deny/0  no ssh       4     rails.yaml:5:7\n"), "{text}");
}

#[test]
fn nothing_to_list_is_said_in_words() {
    assert!(workloads(&[], Look::default()).starts_with("no workloads"));
    let none = GroupsView::default();
    assert!([groups, rules].iter().all(|print| print(&none, Look::default()).starts_with("no security groups")));
    let alone = GroupsView { guardrails: vec![guardrail()], ..none };
    let text = groups(&alone, Look::default());
    assert!(text.starts_with("no security groups") && text.contains("\nbaseline   1        4 "), "{text}");
    assert!(rules(&alone, Look::default()).contains("\nbaseline/deny/0  no ssh "));
}

#[test]
fn a_denied_flow_says_whose_rules_do_not_allow_it() {
    assert_eq!(
        plain(&denied()),
        "22:24:05.123Z  DENY   egress   web-1 (web) -> db-1 (db)  tcp 10.0.0.1:40000 -> 10.0.0.3:5432  \
         no_rule: no egress rule of web allows it\n"
    );
}

#[test]
fn an_allowed_flow_names_its_rule_and_points_to_the_judged_workload() {
    let rule =
        FlowRule { group: "api".into(), direction: "ingress".into(), index: 0, description: Some("from web".into()) };
    let allowed = FlowView {
        verdict: "allow".into(),
        reason: "rule".into(),
        direction: "ingress".into(),
        rule: Some(rule),
        ..denied()
    };
    assert_eq!(
        plain(&allowed),
        "22:24:05.123Z  ALLOW  ingress  db-1 (db) -> web-1 (web)  tcp 10.0.0.1:40000 -> 10.0.0.3:5432  \
         rule api/ingress/0 \"from web\"\n"
    );
}

#[test]
fn a_flow_that_a_guardrail_denies_names_its_entry() {
    let rule = FlowRule { group: "baseline".into(), direction: "deny".into(), index: 1, description: None };
    let text = plain(&FlowView { reason: "guardrail".into(), rule: Some(rule), ..denied() });
    assert!(text.ends_with("10.0.0.3:5432  guardrail baseline/deny/1\n"), "{text}");
}

#[test]
fn a_system_call_has_no_source_yet_but_a_process() {
    let connect = FlowView {
        source: "::".parse().expect("a literal"),
        source_port: None,
        destination: "fd00::3".parse().expect("a literal"),
        peer: None,
        process: Some(99),
        ..denied()
    };
    let text = plain(&connect);
    assert!(text.contains("web-1 (web) -> ?  tcp * -> [fd00::3]:5432 pid 99  "), "{text}");
}

#[test]
fn icmp_shows_type_and_code() {
    let echo = FlowView {
        protocol: "icmp".into(),
        source_port: None,
        destination_port: None,
        icmp: Some(IcmpView { kind: 8, code: 0 }),
        ..denied()
    };
    assert!(plain(&echo).contains("icmp 10.0.0.1 -> 10.0.0.3 type 8 code 0  "), "{}", plain(&echo));
}

#[test]
fn colour_only_repeats_the_word() {
    let coloured = flow(&denied(), Look { width: None, colour: true });
    assert_eq!(coloured.replace("\u{1b}[31m", "").replace("\u{1b}[0m", ""), plain(&denied()));
    assert_ne!(coloured, plain(&denied()));
}

#[test]
fn a_name_cannot_forge_a_second_line() {
    let forged = FlowView { workload: Some("x\nALLOW".into()), ..denied() };
    assert_eq!(plain(&forged).lines().count(), 1);
}
