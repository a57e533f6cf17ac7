//! The decision in stories over tables in memory.

mod from_model;
mod guardrails;
mod hooks;
mod ways_round;
mod world;

use world::{
    API, BATCH, DB, EVERYONE, HOST, STRANGER, WEB, World, addresses, allow, audit, cgroup, deny, packet, packets,
};

use super::Seen;
use crate::abi::Reason::{
    Deferred, Established, FragmentUnseen, Malformed, Midstream, NeverCut, NoRule, OpenEgress, Related, Rule,
    SameWorkload, Spoofed, TableFull, Ungoverned, Unidentified,
};
use crate::abi::{Address, Direction, Identity, Place, RuleRef, Verdict};
use crate::packet::build::{self, Ip, echo_reply, echo_request, icmp, icmpv6, tcp, udp};
use crate::packet::tcp::{ACK, FIN, RST, SYN};
use crate::packet::{Network, protocol};

const HTTP: (u8, u16) = (protocol::TCP, 80);
const DNS: (u8, u16) = (protocol::UDP, 53);
const PING: (u8, u16) = (protocol::ICMP, 0x0800);

/// `web` may reach `api`'s port 80, by both sides' rules.
fn shop() -> World {
    let mut world = World::new();
    world.allow_out(WEB, API, HTTP);
    world.allow_in(API, WEB, HTTP);
    world.restrict(API).govern(DB);
    world
}

fn syn() -> Ip {
    packet(WEB, API, tcp(40_000, 80, SYN))
}

fn reply(flags: u8) -> Ip {
    packet(API, WEB, tcp(80, 40_000, flags))
}

fn request(flags: u8) -> Ip {
    packet(WEB, API, tcp(40_000, 80, flags))
}

/// The handshake of `web` with `api`.
fn connected(world: &World) {
    assert_eq!(world.passes(WEB, API, &syn()), allow(Rule));
    assert_eq!(world.passes(API, WEB, &reply(SYN | ACK)), allow(Established));
    assert_eq!(world.passes(WEB, API, &request(ACK)), allow(Established));
}

#[test]
fn a_packet_that_was_on_its_way_before_a_change_vouches_for_nothing_after_it() {
    let mut world = shop();
    world.flip();
    world.flip();
    world.grown.set(2);
    assert_eq!(world.sends(WEB, &syn()), allow(Rule));
    world.grown.set(0);
    world.drop_rules();
    assert_eq!(world.sends(WEB, &request(ACK)), deny(NoRule));
}

// What rules say.

#[test]
fn a_peer_that_shares_a_bit_with_an_allowed_one_is_denied() {
    let mut world = World::new();
    world.allow_in(API, WEB, HTTP);
    world.share_bit(BATCH, WEB);
    assert_eq!(world.receives(API, &packet(BATCH, API, tcp(40_000, 80, SYN))), deny(NoRule));
    assert_eq!(world.receives(API, &syn()), allow(Rule));
}

#[test]
fn a_flow_needs_a_rule_at_both_of_its_ends() {
    for version in [0, 1] {
        let passes = |world: &World| world.passes(WEB, API, &packets(WEB, API, tcp(1, 80, SYN))[version]);
        assert_eq!(passes(&shop()), allow(Rule));
        let mut only_out = World::new();
        only_out.allow_out(WEB, API, HTTP);
        only_out.govern(API);
        assert_eq!(passes(&only_out), deny(NoRule), "the receiver's side is judged for itself");
        let mut only_in = World::new();
        only_in.allow_in(API, WEB, HTTP);
        only_in.restrict(WEB);
        assert_eq!(passes(&only_in), deny(NoRule), "the sender's side is judged for itself");
    }
}

#[test]
fn a_rule_allows_its_own_peer_protocol_port_and_direction_alone() {
    let world = shop();
    for (name, outcome, from, to, transport) in [
        ("web to api's port", allow(Rule), WEB, API, tcp(1, 80, SYN)),
        ("web to api's other port", deny(NoRule), WEB, API, tcp(1, 81, SYN)),
        ("web to api's port by UDP", deny(NoRule), WEB, API, udp(1, 80)),
        ("db, which may send anything, to api's port", deny(NoRule), DB, API, tcp(1, 80, SYN)),
        ("a stranger to api's port", deny(NoRule), STRANGER, API, tcp(1, 80, SYN)),
        ("api to web's port", deny(NoRule), API, WEB, tcp(1, 80, SYN)),
        ("web to db's port", deny(NoRule), WEB, DB, tcp(1, 80, SYN)),
    ] {
        let sent = if from == STRANGER {
            world.receives(to, &packet(from, to, transport))
        } else {
            world.passes(from, to, &packet(from, to, transport))
        };
        assert_eq!(sent, outcome, "{name}");
    }
}

#[test]
fn rules_of_several_groups_add_up() {
    let mut world = World::new();
    world.allow_in(API, WEB, HTTP);
    world.allow_in(API, DB, HTTP);
    world.rule(API, Direction::Ingress, BATCH, None, 0);
    for (from, port, outcome) in [
        (WEB, 80, allow(Rule)),
        (DB, 80, allow(Rule)),
        (BATCH, 80, allow(Rule)),
        (BATCH, 9_999, allow(Rule)),
        (WEB, 9_999, deny(NoRule)),
    ] {
        let packet = packet(from, API, tcp(1, port, SYN));
        assert_eq!(world.receives(API, &packet), outcome, "{from} to {port}");
    }
}

#[test]
fn egress_is_open_until_a_group_mentions_it() {
    let mut world = World::new();
    world.govern(WEB);
    let out = packet(WEB, STRANGER, tcp(1, 443, SYN));
    assert_eq!(world.sends(WEB, &out), allow(OpenEgress));
    assert_eq!(world.receives(WEB, &packet(STRANGER, WEB, tcp(443, 1, SYN | ACK))), allow(Established));
    assert_eq!(world.receives(WEB, &packet(STRANGER, WEB, tcp(443, 2, SYN | ACK))), deny(NoRule));
    world.restrict(WEB).flip();
    assert_eq!(world.sends(WEB, &out), deny(NoRule));
}

#[test]
fn what_no_group_governs_passes_and_says_so() {
    let mut world = World::new();
    assert_eq!(world.sends(BATCH, &packet(BATCH, STRANGER, tcp(1, 80, SYN))), allow(Ungoverned));
    assert_eq!(world.receives(BATCH, &packet(STRANGER, BATCH, tcp(1, 80, SYN))), allow(Ungoverned));
    assert_eq!(world.sends(HOST, &packet(HOST, STRANGER, udp(1, 53))), allow(Ungoverned));
    world.govern(BATCH);
    world.flip();
    assert_eq!(world.receives(BATCH, &packet(STRANGER, BATCH, tcp(2, 80, SYN))), deny(NoRule));
}

#[test]
fn the_host_and_the_world_are_peers_of_their_own() {
    let mut world = World::new();
    world.allow_in(API, HOST, HTTP);
    assert_eq!(world.receives(API, &packet(HOST, API, tcp(1, 80, SYN))), allow(Rule));
    assert_eq!(world.receives(API, &packet(STRANGER, API, tcp(1, 80, SYN))), deny(NoRule));
    let mut world = World::new();
    world.allow_in(API, STRANGER, HTTP);
    assert_eq!(world.receives(API, &packet(STRANGER, API, tcp(1, 80, SYN))), allow(Rule));
    assert_eq!(world.receives(API, &packet(HOST, API, tcp(1, 80, SYN))), deny(NoRule));
    assert_eq!(world.receives(API, &packet(WEB, API, tcp(1, 80, SYN))), deny(NoRule));
}

#[test]
fn an_identity_that_did_not_fit_is_denied_altogether() {
    let mut world = shop();
    world.flag(WEB, Identity::FULL);
    assert_eq!(world.sends(WEB, &syn()), deny(TableFull));
    let mut world = shop();
    world.lose_identity(API);
    assert_eq!(world.sends(API, &packet(API, STRANGER, tcp(1, 80, SYN))), deny(TableFull));
    assert_eq!(world.sends(WEB, &syn()), deny(NoRule), "as a peer it is nobody");
}

// Flows.

#[test]
fn replies_pass_whatever_the_other_direction_says() {
    let world = shop();
    connected(&world);
    assert_eq!(world.flows(), 1);
    // api's egress is restricted and has no rule; without the flow the same packet is denied.
    let world = shop();
    assert_eq!(world.sends(API, &reply(SYN | ACK)), deny(NoRule));
}

#[test]
fn the_senders_entry_does_not_open_the_receivers_door() {
    let mut world = World::new();
    world.govern(WEB).govern(API);
    for transport in [tcp(1, 80, SYN), udp(1, 53), echo_request(protocol::ICMP, 7)] {
        let packet = packet(WEB, API, transport);
        assert_eq!(world.sends(WEB, &packet), allow(OpenEgress));
        assert_eq!(world.receives(API, &packet), deny(NoRule));
        assert_eq!(world.sends(WEB, &packet).0, Verdict::Allow);
        assert_eq!(world.receives(API, &packet), deny(NoRule), "nor does a second try");
        assert_eq!(world.uplink(API, &packet).0, Verdict::Deny);
    }
}

#[test]
fn a_reply_to_what_was_denied_is_no_reply() {
    let mut world = shop();
    world.govern(WEB);
    let denied = packet(DB, API, tcp(1, 80, SYN));
    assert_eq!(world.passes(DB, API, &denied), deny(NoRule));
    assert_eq!(world.sends(API, &packet(API, DB, tcp(80, 1, SYN | ACK))), deny(NoRule));
    assert_eq!(world.sends(API, &packet(API, DB, tcp(80, 1, ACK))), deny(NoRule));
}

#[test]
fn udp_answers_pass_and_questions_the_other_way_do_not() {
    let mut world = World::new();
    world.allow_out(WEB, API, DNS);
    world.allow_in(API, WEB, DNS);
    world.restrict(API);
    assert_eq!(world.passes(WEB, API, &packet(WEB, API, udp(5_000, 53))), allow(Rule));
    assert_eq!(world.passes(API, WEB, &packet(API, WEB, udp(53, 5_000))), allow(Established));
    assert_eq!(world.sends(API, &packet(API, WEB, udp(53, 5_001))), deny(NoRule));
    assert_eq!(world.sends(API, &packet(API, WEB, udp(5_000, 53))), deny(NoRule));
}

#[test]
fn a_flow_of_ones_own_is_not_hindered_by_one_that_was_denied() {
    let mut world = World::new();
    world.allow_out(API, DB, DNS);
    // db tries to make itself the initiator of what api is about to open.
    assert_eq!(world.passes(DB, API, &packet(DB, API, udp(53, 5_000))), deny(NoRule));
    assert_eq!(world.passes(API, DB, &packet(API, DB, udp(5_000, 53))), allow(Ungoverned));
    assert_eq!(world.passes(DB, API, &packet(DB, API, udp(53, 5_000))), allow(Established));
    assert_eq!(world.passes(DB, API, &packet(DB, API, udp(53, 5_001))), deny(NoRule));
}

#[test]
fn a_ping_and_its_answer_are_one_flow() {
    let mut world = World::new();
    world.allow_out(WEB, API, PING);
    world.allow_in(API, WEB, PING);
    world.restrict(API);
    let ping = |from, to, transport: build::Transport| packet(from, to, transport);
    assert_eq!(world.passes(WEB, API, &ping(WEB, API, echo_request(protocol::ICMP, 7))), allow(Rule));
    assert_eq!(world.passes(API, WEB, &ping(API, WEB, echo_reply(protocol::ICMP, 7))), allow(Established));
    assert_eq!(world.sends(API, &ping(API, WEB, echo_reply(protocol::ICMP, 8))), deny(NoRule));
    assert_eq!(world.sends(API, &ping(API, WEB, echo_request(protocol::ICMP, 7))), deny(NoRule), "a ping back");
}

#[test]
fn a_change_of_policy_holds_from_the_next_packet_on() {
    let mut world = shop();
    connected(&world);
    world.flip();
    assert_eq!(world.passes(WEB, API, &request(ACK)), allow(Rule), "judged again, and still allowed");
    assert_eq!(world.passes(API, WEB, &reply(ACK)), allow(Established));
    world.drop_rules();
    world.flip();
    assert_eq!(world.sends(WEB, &request(ACK)), deny(NoRule));
    assert_eq!(world.sends(API, &reply(ACK)), deny(NoRule), "the reply's flow is revoked as well");
    assert_eq!(world.receives(API, &request(ACK)), deny(NoRule));
}

#[test]
fn a_reply_is_judged_again_as_part_of_its_flow() {
    let mut world = shop();
    connected(&world);
    world.flip();
    assert_eq!(world.sends(API, &reply(ACK)), allow(Rule), "by api's ingress rule for port 80");
    assert_eq!(world.receives(WEB, &reply(ACK)), allow(Rule), "by web's egress rule for port 80");
}

#[test]
fn a_workload_that_becomes_governed_loses_only_what_its_policy_does_not_allow() {
    let mut world = World::new();
    assert_eq!(world.passes(WEB, API, &syn()), allow(Ungoverned));
    assert_eq!(world.passes(API, WEB, &reply(SYN | ACK)), allow(Ungoverned));
    world.allow_in(API, WEB, HTTP);
    world.restrict(API).flip();
    assert_eq!(world.sends(API, &reply(ACK)), allow(Rule), "a reply, although api may open nothing");
    world.drop_rules();
    world.flip();
    assert_eq!(world.sends(API, &reply(ACK)), deny(NoRule));
}

#[test]
fn keep_lets_flows_live_on_and_opens_no_new_ones() {
    let mut world = World::new();
    world.rule(API, Direction::Ingress, WEB, Some(HTTP), RuleRef::KEEP);
    world.restrict(API);
    connected_to_keeper(&world);
    world.drop_rules();
    for _ in 0..3 {
        world.flip();
        assert_eq!(world.receives(API, &request(ACK)), allow(Established));
        assert_eq!(world.sends(API, &reply(ACK)), allow(Established));
        assert_eq!(world.uplink(API, &request(ACK)), deny(Spoofed), "web is here, not out there");
    }
    assert_eq!(world.receives(API, &packet(WEB, API, tcp(40_001, 80, SYN))), deny(NoRule));
}

fn connected_to_keeper(world: &World) {
    assert_eq!(world.receives(API, &syn()), allow(Rule));
    assert_eq!(world.sends(API, &reply(SYN | ACK)), allow(Established));
}

#[test]
fn audit_passes_what_would_be_denied_and_says_so() {
    let mut world = World::new();
    world.govern(API).flag(API, Identity::AUDIT_INGRESS);
    assert_eq!(world.receives(API, &syn()), audit(NoRule));
    assert_eq!(world.receives(API, &request(ACK)), audit(NoRule), "as does the rest of the flow");
    assert_eq!(world.sends(API, &reply(SYN | ACK)), audit(NoRule));
    assert_eq!(world.news.borrow().len(), 1, "it is news once");
    world.restrict(API).flip();
    assert_eq!(world.sends(API, &packet(API, DB, tcp(1, 80, SYN))), deny(NoRule), "egress is enforced");
    world.flag(API, Identity::AUDIT_EGRESS).flip();
    assert_eq!(world.sends(API, &packet(API, DB, tcp(2, 80, SYN))), audit(NoRule));
}

#[test]
fn a_flow_that_was_idle_too_long_is_judged_afresh() {
    let world = shop();
    connected(&world);
    world.wait(350);
    assert_eq!(world.sends(API, &reply(ACK)), allow(Established));
    world.wait(351);
    assert_eq!(world.sends(API, &reply(ACK)), deny(NoRule), "api opens nothing of its own");
    assert_eq!(world.sends(WEB, &request(ACK)), allow(Rule));
}

#[test]
fn a_handshake_that_nobody_answers_dies_sooner() {
    let world = shop();
    assert_eq!(world.passes(WEB, API, &syn()), allow(Rule));
    world.wait(121);
    assert_eq!(world.sends(API, &reply(SYN | ACK)), deny(NoRule));
}

#[test]
fn a_closing_flow_passes_its_last_packets_and_dies_early() {
    for flag in [FIN | ACK, RST] {
        let world = shop();
        connected(&world);
        assert_eq!(world.passes(WEB, API, &request(flag)), allow(Established));
        assert_eq!(world.passes(API, WEB, &reply(FIN | ACK)), allow(Established));
        assert_eq!(world.passes(WEB, API, &request(ACK)), allow(Established));
        world.wait(121);
        assert_eq!(world.sends(API, &reply(ACK)), deny(NoRule));
    }
}

#[test]
fn a_reused_port_is_a_new_flow() {
    let world = shop();
    connected(&world);
    assert_eq!(world.passes(WEB, API, &request(FIN | ACK)), allow(Established));
    assert_eq!(world.passes(WEB, API, &syn()), allow(Rule));
    assert_eq!(world.passes(API, WEB, &reply(SYN | ACK)), allow(Established));
}

#[test]
fn the_answering_end_may_not_open_a_connection_of_its_own_in_the_flow() {
    let world = shop();
    connected(&world);
    assert_eq!(world.sends(API, &reply(SYN)), deny(NoRule), "api may open nothing");
    assert_eq!(world.receives(WEB, &reply(SYN)), deny(NoRule), "web lets nobody in");
    assert_eq!(world.passes(API, WEB, &reply(ACK)), allow(Established), "and the flow goes on");
}

#[test]
fn both_ends_may_open_at_the_same_time() {
    let world = shop();
    assert_eq!(world.passes(WEB, API, &syn()), allow(Rule));
    assert_eq!(world.passes(API, WEB, &reply(SYN)), allow(Established), "RFC 9293 section 3.5");
}

#[test]
fn a_flow_table_without_room_denies_the_governed_alone() {
    let mut world = shop();
    world.room_for_embryos = 0;
    assert_eq!(world.sends(WEB, &syn()), deny(TableFull));
    assert_eq!(world.sends(BATCH, &packet(BATCH, API, tcp(1, 80, SYN))), allow(Ungoverned));
}

#[test]
fn a_flood_of_new_flows_evicts_its_own_kind_alone() {
    let mut world = shop();
    (world.room_for_flows, world.room_for_embryos) = (2, 4);
    world.allow_in(API, STRANGER, HTTP);
    connected(&world);
    assert_eq!((world.flows(), world.embryos()), (1, 0));
    for port in 0..100 {
        let opens = packet(STRANGER, API, tcp(port, 80, SYN));
        assert_eq!(world.receives(API, &opens), allow(Rule));
        // A server answers any SYN, also one whose sender is made up.
        assert_eq!(world.sends(API, &packet(API, STRANGER, tcp(80, port, SYN | ACK))), allow(Established));
    }
    assert_eq!((world.flows(), world.embryos()), (1, 4));
    assert_eq!(world.passes(API, WEB, &reply(ACK)), allow(Established));
    assert_eq!(world.passes(WEB, API, &request(ACK)), allow(Established));
}

#[test]
fn udp_that_is_answered_is_established() {
    let mut world = World::new();
    world.allow_in(DB, WEB, DNS);
    world.allow_out(WEB, DB, DNS);
    let asks = packet(WEB, DB, udp(5_000, 53));
    assert_eq!(world.passes(WEB, DB, &asks), allow(Rule));
    assert_eq!(world.passes(WEB, DB, &asks), allow(Established));
    assert_eq!((world.flows(), world.embryos()), (0, 1));
    assert_eq!(world.passes(DB, WEB, &packet(DB, WEB, udp(53, 5_000))), allow(Established));
    assert_eq!((world.flows(), world.embryos()), (1, 0));
}

/// A connection that is older than the agent, or than its entry: its packets are judged as if their sender had opened it.
#[test]
fn an_unknown_connection_is_picked_up_by_the_end_that_may_open_it() {
    let world = shop();
    assert_eq!(world.sends(API, &reply(ACK)), deny(NoRule), "the server's data looks like its own connection");
    assert_eq!(world.passes(WEB, API, &request(ACK)), allow(Rule), "the client's next packet brings it back");
    assert_eq!(world.passes(API, WEB, &reply(ACK)), allow(Established));
}

#[test]
fn an_unknown_connection_is_denied_where_the_agent_is_told_so() {
    let mut world = shop();
    world.allow_out(DB, API, HTTP);
    world.deny_midstream();
    assert_eq!(world.sends(WEB, &request(ACK)), deny(Midstream));
    assert_eq!(world.sends(API, &reply(SYN | ACK)), deny(Midstream), "nobody asked");
    assert_eq!(world.sends(BATCH, &packet(BATCH, STRANGER, tcp(1, 80, ACK))), allow(Ungoverned));
    connected(&world);
    world.wait(351);
    assert_eq!(world.sends(WEB, &request(ACK)), deny(Midstream), "forgotten");
    assert_eq!(world.sends(WEB, &syn()), allow(Rule));
}

#[test]
fn a_kept_flow_is_kept_with_its_peer_and_not_with_the_next_holder_of_the_address() {
    let mut world = World::new();
    world.rule(API, Direction::Ingress, WEB, Some(HTTP), RuleRef::KEEP);
    world.flag(API, Identity::KEEPS).restrict(API);
    assert_eq!(world.receives(API, &syn()), allow(Rule));
    assert_eq!(world.wall_receives(API, &syn()), allow(Established));
    world.drop_rules();
    world.flip();
    assert_eq!(world.receives(API, &request(ACK)), allow(Established));
    world.hand_over(WEB, BATCH);
    assert_eq!(world.receives(API, &request(ACK)), deny(NoRule));
    assert_eq!(world.sends(API, &reply(ACK)), deny(NoRule));
    world.hand_over(WEB, WEB);
    assert_eq!(world.receives(API, &request(ACK)), deny(NoRule), "what was taken back stays so");
}
