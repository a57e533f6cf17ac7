//! What holding the decision against the reference model has found.

use super::*;

#[test]
fn a_late_answer_does_not_bring_a_revoked_datagram_flow_back() {
    let mut world = World::new();
    world.allow_in(API, WEB, (17, 53));
    let ask = packet(WEB, API, udp(40_000, 53));
    let answer = packet(API, WEB, udp(53, 40_000));
    assert_eq!(world.receives(API, &ask), allow(Rule));
    world.drop_rules();
    world.flip();
    assert_eq!(world.sends(API, &answer), deny(NoRule), "although api's egress is open");
    assert_eq!(world.receives(API, &ask), deny(NoRule));
    world.wait(1_000);
    assert_eq!(world.sends(API, &answer), allow(OpenEgress), "when the flow is forgotten, it is api's own");
}

#[test]
fn what_one_side_allowed_stands_when_the_other_end_opens_the_flow_for_itself() {
    let mut world = World::new();
    world.govern(WEB).govern(API);
    let there = packet(WEB, API, udp(40_000, 53));
    let back = packet(API, WEB, udp(53, 40_000));
    assert_eq!(world.sends(WEB, &there), allow(OpenEgress));
    assert_eq!(world.receives(API, &there), deny(NoRule));
    assert_eq!(world.sends(API, &back), allow(OpenEgress));
    assert_eq!(
        world.receives(WEB, &back),
        allow(Established),
        "for web it is a reply, as it would be from another host"
    );
}

#[test]
fn an_icmp_message_that_was_let_in_is_not_let_out() {
    let mut world = World::new();
    world.allow_in(API, WEB, (1, 13 << 8));
    world.restrict(API);
    assert_eq!(world.receives(API, &packet(WEB, API, icmp(13, 0, [0; 4], &[0; 12]))), allow(Rule));
    assert_eq!(world.sends(API, &packet(API, WEB, icmp(13, 0, [0; 4], &[0; 12]))), deny(NoRule));
}

#[test]
fn a_packet_that_a_bridge_floods_makes_nobody_the_owner_of_its_end() {
    let mut world = World::new();
    world.make_strict(DB);
    let flooded = packet(WEB, API, tcp(40_000, 80, SYN));
    assert_eq!(world.wall_receives(DB, &flooded), allow(Ungoverned));
    assert_eq!(world.wall_sends(DB, &packet(API, WEB, tcp(80, 40_000, SYN | ACK))), deny(Spoofed));
}

#[test]
fn a_ping_of_identifier_zero_is_no_leave_to_ping_back() {
    let mut world = World::new();
    world.allow_in(API, WEB, (1, 8 << 8));
    world.restrict(API);
    assert_eq!(world.receives(API, &packet(WEB, API, echo_request(protocol::ICMP, 0))), allow(Rule));
    assert_eq!(world.sends(API, &packet(API, WEB, echo_reply(protocol::ICMP, 0))), allow(Established));
    assert_eq!(world.sends(API, &packet(API, WEB, echo_request(protocol::ICMP, 0))), deny(NoRule));
}
