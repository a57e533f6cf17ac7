//! Guardrails deny, and win.

use super::world::Who;
use super::*;
use crate::abi::Reason::Guardrail;

const SSH: (u8, u16) = (protocol::TCP, 22);

fn open(from: Who, to: Who, port: u16) -> Ip {
    packet(from, to, tcp(40_000, port, SYN))
}

#[test]
fn a_guardrail_denies_what_the_groups_allow_at_both_ends_and_names_its_entry() {
    for (from, to) in [(Some(WEB), None), (None, Some(API)), (Some(WEB), Some(API)), (None, None)] {
        let mut world = shop();
        let entry = world.rail(from, to, Some(HTTP));
        assert_eq!(world.sends(WEB, &syn()), deny(Guardrail));
        assert_eq!(world.receives(API, &syn()), deny(Guardrail));
        assert_eq!(world.calls(WEB, addresses(API)[0], HTTP), deny(Guardrail));
        assert_eq!(*world.hits.borrow(), [entry; 3], "{from:?} {to:?}");
    }
}

#[test]
fn an_entry_denies_its_own_sides_ports_and_direction_alone() {
    for (from, to, service) in [
        (Some(DB), None, Some(HTTP)),
        (None, Some(DB), Some(HTTP)),
        (Some(API), Some(WEB), None),
        (None, None, Some(SSH)),
        (None, None, Some((protocol::UDP, 80))),
        (Some(STRANGER), Some(API), None),
        (Some(HOST), None, None),
    ] {
        let mut world = shop();
        world.rail(from, to, service);
        connected(&world);
    }
}

#[test]
fn an_entry_without_ports_denies_every_port_and_protocol() {
    let mut world = shop();
    world.rail(Some(WEB), None, None);
    assert_eq!(world.sends(WEB, &syn()), deny(Guardrail));
    assert_eq!(world.sends(WEB, &packet(WEB, DB, udp(1, 53))), deny(Guardrail));
    assert_eq!(world.sends(WEB, &packet(WEB, DB, echo_request(protocol::ICMP, 7))), deny(Guardrail));
}

#[test]
fn the_first_of_several_entries_gives_its_name() {
    let mut world = shop();
    for _ in 0..100 {
        world.rail(Some(DB), None, None);
    }
    let first = world.rail(Some(WEB), None, Some(HTTP));
    world.rail(None, None, None);
    assert_eq!(world.sends(WEB, &syn()), deny(Guardrail));
    assert_eq!(*world.hits.borrow(), [first]);
}

#[test]
fn a_guardrail_holds_for_a_workload_in_no_group_and_leaves_its_other_flows() {
    let mut world = World::new();
    world.rail(None, None, Some(SSH));
    assert_eq!(world.sends(BATCH, &open(BATCH, STRANGER, 22)), deny(Guardrail));
    assert_eq!(world.receives(BATCH, &open(STRANGER, BATCH, 22)), deny(Guardrail));
    assert_eq!(world.uplink(BATCH, &open(STRANGER, BATCH, 22)), deny(Guardrail));
    assert_eq!(world.sends(BATCH, &open(BATCH, STRANGER, 80)), allow(Ungoverned));
}

#[test]
fn the_hosts_own_processes_are_no_workloads() {
    let mut world = World::new();
    world.rail(None, None, Some(SSH));
    assert_eq!(world.receives(HOST, &open(STRANGER, HOST, 22)), allow(Ungoverned));
    assert_eq!(world.sends(BATCH, &open(BATCH, HOST, 22)), deny(Guardrail));
}

#[test]
fn audit_softens_no_guardrail() {
    let mut world = shop();
    for who in [WEB, API] {
        world.flag(who, Identity::AUDIT_INGRESS | Identity::AUDIT_EGRESS);
    }
    assert_eq!(world.sends(WEB, &open(WEB, API, 22)), audit(NoRule));
    world.rail(None, Some(API), Some(SSH));
    world.flip();
    assert_eq!(world.sends(WEB, &open(WEB, API, 22)), deny(Guardrail));
    assert_eq!(world.receives(API, &open(WEB, API, 22)), deny(Guardrail));
    assert_eq!(world.sends(WEB, &open(WEB, API, 23)), audit(NoRule));
}

#[test]
fn a_new_guardrail_cuts_established_flows_and_a_promise_to_keep_them() {
    for flags in [0, RuleRef::KEEP] {
        let mut world = World::new();
        world.rule(WEB, Direction::Egress, API, Some(HTTP), flags);
        world.rule(API, Direction::Ingress, WEB, Some(HTTP), flags);
        world.flag(WEB, Identity::KEEPS).flag(API, Identity::KEEPS);
        connected(&world);
        world.rail(Some(WEB), None, Some(SSH));
        world.flip();
        assert_eq!(world.passes(WEB, API, &request(ACK)).0, Verdict::Allow, "another port's entry");
        world.rail(Some(WEB), None, Some(HTTP));
        world.flip();
        assert_eq!(world.sends(WEB, &request(ACK)), deny(Guardrail));
        assert_eq!(world.receives(API, &request(ACK)), deny(Guardrail));
        assert_eq!(world.sends(API, &reply(ACK)), deny(Guardrail));
    }
}

#[test]
fn a_side_may_be_named_by_the_address_that_it_uses() {
    let mut world = World::new();
    // What is known of an address beside its workload: the CIDRs that cover it.
    world.identity_of_address(BATCH, 200);
    world.rail_of_identities(&[200], &[], Some(SSH));
    let [v4, v6] = packets(BATCH, STRANGER, tcp(1, 22, SYN));
    assert_eq!(world.sends(BATCH, &v4), deny(Guardrail));
    assert_eq!(world.sends(BATCH, &v6), allow(Ungoverned));
    let before_an_address_is_chosen = world.calls(BATCH, addresses(STRANGER)[0], SSH);
    assert_eq!(before_an_address_is_chosen, allow(Ungoverned));
}
