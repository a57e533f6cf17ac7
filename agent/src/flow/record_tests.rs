//! What the recorder makes of events, and whom it tells.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;

use super::*;
use crate::view::FlowRule;

/// web-1's connection to db-1, which no rule allows.
pub(crate) fn event() -> Event {
    let address = |text: &str| text.parse::<IpAddr>().expect("a literal").into();
    Event {
        source: address("10.0.0.1"),
        destination: address("10.0.0.3"),
        source_port: 40_000,
        destination_port: 5432,
        protocol: 6,
        tcp_flags: 2,
        hook: Hook::CgroupEgress as u8,
        direction: Direction::Egress as u8,
        verdict: Verdict::Deny as u8,
        reason: Reason::NoRule as u8,
        reserved: 0,
        workload: 1,
        peer_workload: 2,
        rule: RULE_NONE,
        generation: 7,
        interface: 0,
        process: 0,
    }
}

/// Names for [`event`].
pub(crate) fn names() -> Names {
    let named = |name: &str, group: &str| Named {
        name: name.into(),
        labels: Arc::new([("app".to_owned(), group.to_owned())].into()),
        groups: vec![group.into()],
    };
    let rule =
        FlowRule { group: "api".into(), direction: "ingress".into(), index: 0, description: Some("from web".into()) };
    Names {
        workloads: [(1, named("web-1", "web")), (2, named("db-1", "db"))].into(),
        rules: [(9, rule)].into(),
        meanings: [].into(),
    }
}

/// [`event`] with [`names`], at five past noon.
pub(crate) fn denied() -> FlowView {
    flow_of(&event(), &names(), UNIX_EPOCH + Duration::from_millis(1_700_000_645_123))
}

fn recorder() -> Recorder {
    let shared = SharedNames::default();
    shared.publish(names());
    Recorder::new(shared)
}

fn numbered(port: u16) -> Event {
    Event { destination_port: port, ..event() }
}

async fn ports(lines: impl Stream<Item = Line>) -> Vec<u16> {
    lines.map(|line| flow_in(line).destination_port.expect("TCP has ports")).collect().await
}

fn flow_in(line: Line) -> Arc<FlowView> {
    match line {
        Line::Flow(flow) => flow,
        other => panic!("{other:?}"),
    }
}

#[test]
fn numbers_become_names() {
    let flow = denied();
    assert_eq!((flow.verdict.as_str(), flow.reason.as_str()), ("deny", "no_rule"));
    assert_eq!((flow.workload.as_deref(), flow.peer.as_deref()), (Some("web-1"), Some("db-1")));
    assert_eq!((flow.groups, flow.peer_groups), (vec!["web".to_owned()], vec!["db".to_owned()]));
    assert_eq!((flow.labels["app"].as_str(), flow.peer_labels["app"].as_str()), ("web", "db"));
    assert_eq!((flow.protocol.as_str(), flow.source_port, flow.destination_port), ("tcp", Some(40_000), Some(5432)));
    assert_eq!((flow.rule, flow.process, flow.icmp), (None, None, None));
}

#[test]
fn a_rule_that_decided_is_named() {
    let allowed = Event { rule: 9, verdict: Verdict::Allow as u8, reason: Reason::Rule as u8, ..event() };
    let flow = flow_of(&allowed, &names(), UNIX_EPOCH);
    assert_eq!(flow.rule.map(|rule| rule.group).as_deref(), Some("api"));
}

#[test]
fn numbers_that_nobody_has_any_more_are_left_out() {
    let flow = flow_of(&Event { workload: 77, peer_workload: 0, rule: 88, ..event() }, &names(), UNIX_EPOCH);
    assert_eq!((flow.workload, flow.peer, flow.rule), (None, None, None));
}

#[test]
fn icmp_has_a_type_and_a_code_but_no_ports() {
    let echo = Event { protocol: 58, destination_port: 0x8001, ..event() };
    let flow = flow_of(&echo, &names(), UNIX_EPOCH);
    assert_eq!(flow.icmp, Some(IcmpView { kind: 128, code: 1 }));
    assert_eq!((flow.source_port, flow.destination_port), (None, None));
    assert_eq!(flow_of(&Event { protocol: 47, ..event() }, &names(), UNIX_EPOCH).protocol, "47");
}

#[tokio::test]
async fn the_newest_that_match_come_oldest_first() {
    let recorder = recorder();
    (1..=5).for_each(|port| recorder.record(&numbered(port)));
    let query = FlowQuery { limit: Some(2), ..FlowQuery::default() };
    assert_eq!(ports(recorder.lines(query)).await, [4, 5]);
    let query = FlowQuery { port: Some(3), ..FlowQuery::default() };
    assert_eq!(ports(recorder.lines(query)).await, [3]);
}

#[tokio::test]
async fn the_oldest_gives_way_when_memory_is_full() {
    let recorder = recorder();
    (0..u16::try_from(KEPT).expect("fits") + 3).for_each(|port| recorder.record(&numbered(port)));
    let seen = ports(recorder.lines(FlowQuery::default())).await;
    assert_eq!((seen.len(), seen[0]), (KEPT, 3));
}

#[tokio::test]
async fn a_follower_sees_the_past_then_the_present_each_once() {
    let recorder = recorder();
    recorder.record(&numbered(1));
    let mut lines = Box::pin(recorder.lines(FlowQuery { follow: true, ..FlowQuery::default() }));
    recorder.record(&numbered(2));
    for port in [1, 2] {
        let line = lines.next().await.expect("a follower's stream goes on");
        assert_eq!(flow_in(line).destination_port, Some(port));
    }
    drop(recorder);
    assert_eq!(lines.next().await, None, "it ends with the agent");
}

#[tokio::test]
async fn a_slow_follower_is_told_how_many_it_missed() {
    let recorder = recorder();
    let mut lines = Box::pin(recorder.lines(FlowQuery { follow: true, ..FlowQuery::default() }));
    (0..BACKLOG + 5).for_each(|_| recorder.record(&event()));
    let line = lines.next().await.expect("a follower's stream goes on");
    assert_eq!(line, Line::Missed { missed: 5 });
    assert_eq!(serde_json::to_string(&line).expect("plain data"), r#"{"missed":5}"#);
}

#[test]
fn a_line_survives_the_wire() {
    for line in [Line::Missed { missed: 1 }, Line::Sampled { sampled_out: 1 }, Line::Flow(Arc::new(denied()))] {
        let text = serde_json::to_string(&line).expect("plain data");
        assert_eq!(serde_json::from_str::<Line>(&text).expect("our own"), line);
    }
}

#[tokio::test]
async fn a_follower_hears_that_what_it_sees_is_a_sample_and_of_how_much_more() {
    let recorder = recorder();
    let mut lines = Box::pin(recorder.lines(FlowQuery { follow: true, ..FlowQuery::default() }));
    // What was lost before anybody looked is no news.
    recorder.note_lost(100);
    recorder.note_lost(100);
    recorder.record(&numbered(1));
    recorder.note_lost(142);
    let mut next = async || lines.next().await.expect("a follower's stream goes on");
    assert_eq!(flow_in(next().await).destination_port, Some(1));
    let line = next().await;
    assert_eq!(line, Line::Sampled { sampled_out: 42 });
    assert_eq!(serde_json::to_string(&line).expect("plain data"), r#"{"sampled_out":42}"#);
}

#[test]
fn the_flags_of_a_segment_have_names() {
    assert_eq!(tcp_flags(0x02), "SYN");
    assert_eq!(tcp_flags(0x12), "SYN|ACK");
    assert_eq!(tcp_flags(0), "");
}
