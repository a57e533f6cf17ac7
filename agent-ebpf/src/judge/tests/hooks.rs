//! Several hooks for one packet.

use super::*;
use crate::abi::{Backends, Frontend, Party, PortIndex, Reason};

#[test]
fn the_wall_knows_what_the_cgroup_hook_allowed() {
    let world = shop();
    assert_eq!(world.sends(WEB, &syn()), allow(Rule));
    assert_eq!(world.wall_sends(WEB, &syn()), allow(Established));
    assert_eq!(world.wall_receives(API, &syn()), allow(Rule));
    assert_eq!(world.receives(API, &syn()), allow(Established));
    assert_eq!(world.wall_sends(WEB, &request(ACK)), allow(Established));
    assert_eq!(world.wall_sends(WEB, &packet(WEB, API, tcp(1, 81, SYN))), deny(NoRule), "injected behind the hook");
}

#[test]
fn a_workload_that_is_held_to_its_addresses_is_judged_at_one_of_its_hooks_and_known_at_the_other() {
    let mut world = shop();
    world.make_strict(WEB);
    assert!(!world.knows(WEB, &syn()) && !world.wall_knows(WEB, &syn()));
    assert_eq!(world.sends(WEB, &syn()), allow(Rule));
    assert!(world.wall_knows(WEB, &syn()), "the same segment, at the wall");
    assert!(world.knows(WEB, &syn()), "the same one again, as nobody answered");
    assert_eq!(world.wall_sends(DB, &syn()), deny(Spoofed), "from behind another link");
    assert_eq!(world.sends(DB, &syn()), deny(Spoofed), "from another cgroup");
    assert_eq!(world.wall_receives(API, &syn()), allow(Rule), "the receiver is judged for itself");
    assert_eq!(world.receives(API, &syn()), allow(Established));
    world.flip();
    assert!(!world.wall_knows(WEB, &syn()) && !world.knows(WEB, &syn()), "another policy");
}

#[test]
fn what_is_not_held_to_its_addresses_is_judged_at_each_of_its_hooks() {
    let world = shop();
    assert_eq!(world.sends(WEB, &syn()), allow(Rule));
    assert!(!world.wall_knows(WEB, &syn()));
    let mut ungoverned = World::new();
    ungoverned.make_strict(WEB);
    assert_eq!(ungoverned.sends(WEB, &syn()), allow(Ungoverned));
    assert!(!ungoverned.wall_knows(WEB, &syn()));
}

#[test]
fn a_syn_is_known_only_while_nobody_has_answered_it() {
    let world = shop();
    assert_eq!(world.passes(WEB, API, &syn()), allow(Rule));
    assert!(world.knows(WEB, &syn()));
    assert_eq!(world.passes(API, WEB, &reply(SYN | ACK)), allow(Established));
    assert!(!world.knows(WEB, &syn()), "perhaps it opens another connection");
    assert_eq!(world.passes(WEB, API, &request(ACK)), allow(Established));
    assert!(!world.knows(WEB, &syn()) && world.knows(WEB, &request(ACK)));
}

#[test]
fn an_uplink_lets_in_what_the_receiver_would_and_vouches_for_nothing() {
    let mut world = World::new();
    world.allow_in(API, STRANGER, HTTP);
    let (good, bad) = (packet(STRANGER, API, tcp(1, 80, SYN)), packet(STRANGER, API, tcp(1, 81, SYN)));
    assert_eq!(world.uplink(API, &good), allow(Rule));
    assert_eq!(world.uplink(API, &bad), deny(NoRule));
    assert_eq!(world.flows(), 0);
    assert_eq!(world.receives(API, &good), allow(Rule));
    assert_eq!(world.uplink(API, &packet(STRANGER, API, tcp(1, 80, ACK))), allow(Established));
    assert_eq!(world.sends(API, &packet(API, STRANGER, tcp(80, 1, SYN | ACK))), allow(Established));
    assert_eq!(world.uplink(API, &packet(STRANGER, API, tcp(1, 80, RST))), allow(Established));
    world.wait(300);
    assert_eq!(
        world.uplink(API, &packet(STRANGER, API, tcp(1, 80, ACK))),
        allow(Established),
        "that RST closed nothing"
    );
    world.wait(60);
    assert_eq!(world.uplink(API, &packet(STRANGER, API, tcp(1, 80, ACK))), allow(Rule), "it vouched for no packet");
}

#[test]
fn each_side_of_a_flow_counts_one_hit_of_its_rule() {
    let mut world = World::new();
    let out = world.allow_out(WEB, API, HTTP);
    let into = world.allow_in(API, WEB, HTTP);
    let hits = |world: &World| std::mem::take(&mut *world.hits.borrow_mut());
    for packet in [syn(), syn(), request(ACK)] {
        world.sends(WEB, &packet);
        world.wall_sends(WEB, &packet);
        world.uplink(API, &packet);
        world.wall_receives(API, &packet);
        world.receives(API, &packet);
    }
    assert_eq!(hits(&world), [out, into]);
    world.flip();
    connected_again(&world);
    assert_eq!(hits(&world), [0; 0], "judged again under another policy: the flow is no new one");
    assert_eq!(world.calls(WEB, addresses(API)[0], HTTP), allow(Rule));
    assert_eq!(hits(&world), [0; 0], "a call is not yet a flow");
    world.forget_flows();
    world.passes(WEB, API, &request(ACK));
    assert_eq!(hits(&world), [out, into]);
}

fn connected_again(world: &World) {
    assert_eq!(world.passes(WEB, API, &request(ACK)), allow(Rule));
    assert_eq!(world.passes(API, WEB, &reply(ACK)), allow(Established));
}

#[test]
fn every_denied_packet_is_news_and_a_known_one_is_not() {
    let world = shop();
    connected(&world);
    let news = world.news.borrow().len();
    assert_eq!(news, 2, "one for each side");
    world.passes(WEB, API, &request(ACK));
    assert_eq!(world.news.borrow().len(), news);
    for _ in 0..2 {
        world.sends(WEB, &packet(WEB, API, tcp(1, 81, SYN)));
    }
    assert_eq!(world.news.borrow()[news..], [deny(NoRule), deny(NoRule)]);
}

#[test]
fn a_flow_that_nobody_answers_is_known_until_an_answer_comes() {
    let mut world = World::new();
    world.allow_out(WEB, API, DNS);
    let query = packet(WEB, API, udp(40_000, 53));
    assert!(!world.knows(WEB, &query));
    assert_eq!(world.sends(WEB, &query), allow(Rule));
    assert!(world.knows(WEB, &query));
    assert_eq!((world.embryos(), world.flows()), (1, 0));
    world.flip();
    assert!(!world.knows(WEB, &query), "a policy is asked anew");
    assert_eq!(world.sends(WEB, &query), allow(Rule));
    assert_eq!(world.receives(WEB, &packet(API, WEB, udp(53, 40_000))), allow(Established));
    assert_eq!((world.embryos(), world.flows()), (0, 1));
    assert!(world.knows(WEB, &query));
}

#[test]
fn what_goes_to_a_service_is_judged_as_if_it_went_to_those_behind_it() {
    let mut world = shop();
    let (service, other) = (Address::v4([10, 96, 0, 7]), Address::v4([10, 96, 0, 8]));
    for address in [service, other] {
        world.parties.insert(address, Party { flags: Party::SERVICE, ..Party::WORLD });
    }
    let at = |port| Frontend { address: service, service: PortIndex::new(6, port) };
    let behind = |port| Backends { identity: u32::from(API), service: PortIndex::new(6, port) };
    world.services.insert(at(8_000), behind(80));
    world.services.insert(at(80), behind(81));
    assert_eq!(world.calls(WEB, service, (protocol::TCP, 8_000)), allow(Rule), "its back ends' port is allowed");
    assert_eq!(world.calls(WEB, service, HTTP), deny(NoRule), "the one behind its own is not");
    assert_eq!(world.calls(WEB, service, (protocol::TCP, 81)), deny(NoRule), "no port of the service");
    assert_eq!(world.calls(WEB, other, (protocol::TCP, 8_000)), deny(NoRule), "another service");
    assert_eq!(world.calls(WEB, service, (protocol::UDP, 8_000)), deny(NoRule), "another protocol");
    world.rail(Some(WEB), Some(API), Some(HTTP));
    assert_eq!(
        world.calls(WEB, service, (protocol::TCP, 8_000)),
        deny(Reason::Guardrail),
        "a guardrail looks behind it, too"
    );
}
