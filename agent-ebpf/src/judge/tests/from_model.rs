//! What holding the decision against the reference model has found.

use super::*;
use crate::abi::PortIndex;
use crate::abi::Reason::{Failsafe, Guardrail};

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

#[test]
fn an_entry_of_the_other_ends_side_is_no_proof_where_unknown_connections_are_denied() {
    let mut world = shop();
    world.allow_in(API, BATCH, HTTP);
    world.deny_midstream();
    let segment = |flags| packet(BATCH, API, tcp(40_000, 80, flags));
    assert_eq!(world.sends(BATCH, &segment(ACK)), allow(Ungoverned));
    assert_eq!(world.receives(API, &segment(ACK)), deny(Midstream), "as it would be from another host");
    assert_eq!(world.passes(BATCH, API, &segment(SYN)), allow(Rule));
    assert_eq!(world.passes(BATCH, API, &segment(ACK)), allow(Established));
}

#[test]
fn an_audited_segment_of_an_unknown_connection_does_not_get_around_a_guardrail() {
    let mut world = shop();
    world.deny_midstream();
    world.flag(WEB, Identity::AUDIT_EGRESS);
    assert_eq!(world.sends(WEB, &request(ACK)), audit(Midstream));
    assert_eq!(world.sends(WEB, &request(ACK)), audit(Midstream), "it left no trace");
    world.rail(Some(WEB), None, Some(HTTP));
    world.flip();
    assert_eq!(world.sends(WEB, &request(ACK)), deny(Guardrail));
}

#[test]
fn an_error_about_a_failsafe_ports_flow_belongs_to_it_where_a_scope_denies_all_else() {
    let mut world = World::new();
    world.places.insert(HOST, Place::SCOPE | Place::SCOPE_DENIES);
    let (word, bit) = PortIndex::new(protocol::TCP, 22).failsafe(Direction::Ingress);
    world.failsafe.insert(word, 1 << bit);
    assert_eq!(world.receives(HOST, &packet(STRANGER, HOST, tcp(40_000, 22, SYN))), allow(Failsafe));
    let too_big = |port| {
        let quoted = packet(HOST, STRANGER, tcp(port, 40_000, SYN | ACK)).bytes();
        packet(STRANGER, HOST, icmp(3, 4, [0; 4], &quoted))
    };
    assert_eq!(world.receives(HOST, &too_big(22)), allow(Related));
    assert_eq!(world.receives(HOST, &too_big(23)), deny(Unidentified));
}
