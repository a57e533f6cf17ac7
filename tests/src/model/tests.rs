//! The model is small enough to be believed; these few tests guard against slips of the pen.

use std::sync::Arc;

use bulkhead::policy::model::{Established, GroupId, Mode, Origin, Peer, PortMatch, Rule, SecurityGroup};
use bulkhead::workload::{CgroupRef, Requirement, Selector, SourceKind};

use super::packet::{ACK, FIN, SYN};
use super::*;

const TIMEOUTS: Timeouts = Timeouts {
    tcp_embryonic: 120.0,
    tcp_established: 350.0,
    tcp_closing: 120.0,
    udp_one_way: 30.0,
    udp_stream: 180.0,
    icmp: 30.0,
    other: 600.0,
};

fn origin() -> Origin {
    Origin { file: Arc::new("model.yaml".into()), line: 1, column: 1 }
}

fn workload(name: &str, address: &str) -> Workload {
    Workload {
        name: name.into(),
        source: SourceKind::File,
        labels: Arc::new([("app".to_owned(), name.to_owned())].into()),
        cgroup: Some(CgroupRef { path: name.to_owned(), id: 1 }),
        interface: None,
        addresses: [address.parse().expect("an address")].into(),
        local: true,
    }
}

fn group(name: &str, id: u32, ingress: impl Into<Option<Vec<Rule>>>, egress: Option<Vec<Rule>>) -> SecurityGroup {
    SecurityGroup {
        name: name.to_owned(),
        id: GroupId(id),
        description: None,
        selector: Selector { requirements: vec![Requirement::In("app".to_owned(), vec![name.to_owned()])] },
        ingress: ingress.into(),
        egress,
        mode: Mode::Enforce,
        established: Established::Revoke,
        origin: origin(),
    }
}

fn rule(peer: Peer, protocol: u8, port: u16) -> Rule {
    let ports = Some(vec![PortMatch::Ports { protocol, first: port, last: port }]);
    Rule { description: None, peers: vec![peer], ports, named: Vec::new(), origin: origin() }
}

/// `web` may send to `api` on TCP 80 and nothing else; `api` takes that and, from anyone, nothing else.
fn shop() -> Model {
    let world = World {
        policy: PolicySet {
            groups: vec![
                group("web", 1, vec![], Some(vec![rule(Peer::Group(GroupId(2)), 6, 80)])),
                group("api", 2, vec![rule(Peer::Group(GroupId(1)), 6, 80)], None),
            ],
            ..PolicySet::default()
        },
        workloads: vec![workload("web", "10.0.0.1"), workload("api", "10.0.0.2")],
        host: vec!["10.0.0.254".parse().expect("an address")],
        ..World::default()
    };
    Model::new(world, TIMEOUTS)
}

fn tcp(spot: Spot, from: (&str, u16), to: (&str, u16), flags: u8) -> Packet {
    Packet {
        spot,
        source: from.0.parse().expect("an address"),
        destination: to.0.parse().expect("an address"),
        message: Message::Tcp { source: from.1, destination: to.1, flags },
        hops: 64,
        fragment: None,
        dressed: false,
    }
}

fn leaves(cgroup: &str) -> Spot {
    Spot::CgroupEgress { cgroup: cgroup.to_owned(), loopback: false }
}

fn reaches(cgroup: &str) -> Spot {
    Spot::CgroupIngress { cgroup: cgroup.to_owned(), loopback: false }
}

const WEB: (&str, u16) = ("10.0.0.1", 4_000);
const API: (&str, u16) = ("10.0.0.2", 80);

#[test]
fn a_flow_needs_both_ends_and_its_replies_pass() {
    let mut model = shop();
    assert_eq!(model.judge(&tcp(leaves("web"), WEB, API, SYN), 0.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&tcp(reaches("api"), WEB, API, SYN), 0.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&tcp(leaves("api"), API, WEB, SYN | ACK), 0.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&tcp(reaches("web"), API, WEB, SYN | ACK), 0.0).verdict, Verdict::Allow);
    // Its twin, from an end that opened nothing, is denied.
    assert_eq!(model.judge(&tcp(reaches("web"), API, ("10.0.0.1", 4_001), SYN | ACK), 0.0).verdict, Verdict::Deny);
}

#[test]
fn the_sender_side_says_nothing_for_the_receiver() {
    let mut model = shop();
    model.world.policy.groups[1].ingress = Some(Vec::new());
    assert_eq!(model.judge(&tcp(leaves("web"), WEB, API, SYN), 0.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&tcp(reaches("api"), WEB, API, SYN), 0.0).verdict, Verdict::Deny);
}

#[test]
fn a_change_holds_at_the_next_packet_unless_the_group_keeps() {
    for (established, after) in [(Established::Revoke, Verdict::Deny), (Established::Keep, Verdict::Allow)] {
        let mut model = shop();
        model.world.policy.groups[1].established = established;
        assert_eq!(model.judge(&tcp(reaches("api"), WEB, API, SYN), 0.0).verdict, Verdict::Allow);
        model.world.policy.groups[1].ingress = Some(Vec::new());
        assert_eq!(model.judge(&tcp(reaches("api"), WEB, API, ACK), 1.0).verdict, after);
        // A new flow is denied either way.
        assert_eq!(model.judge(&tcp(reaches("api"), ("10.0.0.1", 9), API, SYN), 1.0).verdict, Verdict::Deny);
    }
}

#[test]
fn a_flow_ends_with_its_time_out() {
    let mut model = shop();
    let reply = tcp(reaches("web"), API, WEB, ACK);
    model.judge(&tcp(leaves("web"), WEB, API, SYN), 0.0);
    assert_eq!(model.judge(&reply, 100.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&reply, 449.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&tcp(leaves("web"), WEB, API, FIN | ACK), 449.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&reply, 570.0).verdict, Verdict::Deny);
}

#[test]
fn egress_that_nobody_mentions_is_open_and_an_empty_one_is_shut() {
    let mut model = shop();
    let out = tcp(leaves("api"), ("10.0.0.2", 5_000), ("192.0.2.1", 443), SYN);
    assert_eq!(model.judge(&out, 0.0).reasons, [Reason::OpenEgress]);
    model.world.policy.groups[1].egress = Some(vec![]);
    assert_eq!(model.judge(&out, 1.0).verdict, Verdict::Deny);
    model.world.policy.groups[1].mode = Mode::Audit;
    assert_eq!(model.judge(&out, 1.0).verdict, Verdict::Audit);
}

#[test]
fn an_address_that_its_workload_left_is_not_the_worlds_until_somebody_has_it() {
    let mut model = shop();
    model.world.policy.groups[1].ingress = Some(vec![rule(Peer::World, 6, 80)]);
    let mut world = model.world.clone();
    world.workloads.remove(0);
    model.change(&world);
    let verdict = |model: &mut Model, from| model.judge(&tcp(reaches("api"), from, API, SYN), 0.0).verdict;
    assert_eq!(verdict(&mut model, ("192.0.2.7", 4_000)), Verdict::Allow);
    assert_eq!(verdict(&mut model, WEB), Verdict::Deny);

    world.policy.groups[1].ingress = Some(vec![rule(Peer::Group(GroupId(1)), 6, 80)]);
    world.workloads.push(workload("web", "10.0.0.1"));
    model.change(&world);
    assert_eq!(verdict(&mut model, WEB), Verdict::Allow);
}

#[test]
fn a_segment_of_an_unknown_connection_is_denied_where_the_operator_denies_those() {
    let mut model = shop();
    let segment = tcp(reaches("api"), WEB, API, ACK);
    assert_eq!(model.clone().judge(&segment, 0.0).reasons, [Reason::Rule]);
    model.world.denies_midstream = true;
    assert_eq!(model.judge(&segment, 0.0).reasons, [Reason::Midstream]);
    // Nor does it count what the other side let pass.
    assert_eq!(model.judge(&tcp(leaves("web"), WEB, API, SYN), 0.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&segment, 0.0).verdict, Verdict::Deny);
    assert_eq!(model.judge(&tcp(reaches("api"), WEB, API, SYN), 0.0).verdict, Verdict::Allow);
    assert_eq!(model.judge(&segment, 0.0).verdict, Verdict::Allow);
}

#[test]
fn who_is_below_a_scope_is_nobody_until_he_is_named() {
    let mut model = shop();
    let verdict = |model: &mut Model, cgroup, from| {
        model.judge(&tcp(leaves(cgroup), (from, 4_000), ("192.0.2.1", 443), SYN), 0.0).verdict
    };
    assert_eq!(verdict(&mut model, "api/inner", "10.0.0.2"), Verdict::Allow, "a part of api, whose egress is open");
    let scope = |path: &str, denies| Scope { cgroup: CgroupRef { path: path.to_owned(), id: 1 }, denies };
    model.world.scopes = vec![scope("api", true), scope("web", false)];
    assert_eq!(verdict(&mut model, "api", "10.0.0.2"), Verdict::Allow, "a slice is a workload itself");
    assert_eq!(verdict(&mut model, "api/inner", "10.0.0.2"), Verdict::Deny);
    assert_eq!(verdict(&mut model, "web", "10.0.0.1"), Verdict::Deny, "it may reach api alone");
    assert_eq!(verdict(&mut model, "web/inner", "10.0.0.1"), Verdict::Allow);
    let mut world = model.world.clone();
    world.workloads.push(workload("api/inner", "10.0.0.3"));
    model.change(&world);
    assert_eq!(verdict(&mut model, "api/inner", "10.0.0.3"), Verdict::Allow);
}

#[test]
fn what_was_promised_to_a_workload_ends_when_it_leaves_though_it_comes_back() {
    let mut model = shop();
    model.world.policy.groups[1].established = Established::Keep;
    assert_eq!(model.judge(&tcp(reaches("api"), WEB, API, SYN), 0.0).verdict, Verdict::Allow);
    let mut world = model.world.clone();
    world.policy.groups[1].ingress = Some(Vec::new());
    model.change(&world);
    let next = tcp(reaches("api"), WEB, API, ACK);
    assert_eq!(model.clone().judge(&next, 1.0).verdict, Verdict::Allow);
    for who in 0..2 {
        let (mut model, mut world) = (model.clone(), world.clone());
        let leaving = world.workloads.remove(who);
        model.change(&world);
        world.workloads.insert(who, leaving);
        model.change(&world);
        assert_eq!(model.judge(&next, 1.0).verdict, Verdict::Deny, "{who} is another one");
    }
}
