//! Who poses as somebody else, what belongs to a flow without being of it, and what a system call may not learn.

use super::*;

// Who is who.

#[test]
fn an_entry_serves_only_the_cgroup_and_workload_it_was_made_for() {
    let mut world = World::new();
    world.allow_out(WEB, STRANGER, HTTP);
    world.allow_out(BATCH, STRANGER, HTTP);
    world.restrict(DB);
    // All of them live in the host's network namespace and make packets of web's flow with raw sockets.
    let sends = |world: &World, who, flags| world.sends(who, &packet(HOST, STRANGER, tcp(40_000, 80, flags)));
    assert_eq!(sends(&world, WEB, SYN), allow(Rule));
    assert_eq!(sends(&world, DB, ACK), deny(NoRule));
    assert_eq!(sends(&world, WEB, ACK), allow(Established), "web's flow is unharmed");
    assert_eq!(sends(&world, BATCH, ACK), allow(Rule), "by its own rule, not by web's entry");
    assert_eq!(sends(&world, WEB, ACK), allow(Rule), "and the same again for web");
    let nested = Seen::Cgroup(cgroup(WEB) + 500);
    let from_nested = || world.at(WEB, nested, Direction::Egress, &packet(HOST, STRANGER, tcp(40_000, 80, ACK)));
    assert_eq!(from_nested(), allow(Established), "another cgroup of web's");
    assert_eq!(
        world.news.borrow().iter().filter(|news| news.0 == Verdict::Allow).count(),
        3,
        "one for each that the entry became"
    );
}

#[test]
fn another_workloads_interface_does_not_profit_from_the_flow() {
    let world = shop();
    connected(&world);
    assert_eq!(world.wall_sends(DB, &request(ACK)), deny(Spoofed));
    assert_eq!(world.wall_sends(WEB, &request(ACK)), allow(Established));
}

#[test]
fn nobody_may_send_in_anothers_name() {
    let mut world = World::new();
    world.govern(WEB);
    for (name, outcome, from) in [
        ("its own address", allow(OpenEgress), WEB),
        ("another workload's", deny(Spoofed), API),
        ("the host's", deny(Spoofed), HOST),
        ("an unknown one, while its own are not known", allow(OpenEgress), STRANGER),
    ] {
        for packet in packets(from, DB, tcp(1, 80, SYN)) {
            assert_eq!(world.wall_sends(WEB, &packet), outcome, "{name}");
        }
    }
    world.make_strict(WEB);
    assert_eq!(world.wall_sends(WEB, &packet(WEB, DB, tcp(2, 80, SYN))), allow(OpenEgress));
    assert_eq!(world.wall_sends(WEB, &packet(STRANGER, DB, tcp(2, 80, SYN))), deny(Spoofed));
    // In the host's own network namespace its addresses are everybody's.
    assert_eq!(world.sends(BATCH, &packet(HOST, STRANGER, tcp(2, 80, SYN))), allow(Ungoverned));
    assert_eq!(world.wall_sends(BATCH, &packet(API, DB, tcp(2, 80, SYN))), deny(Spoofed), "governed or not");
}

#[test]
fn what_comes_from_outside_may_not_claim_to_be_from_here() {
    let mut world = World::new();
    for peer in [WEB, API, HOST, STRANGER] {
        world.allow_in(API, peer, HTTP);
    }
    for (name, outcome, from) in [
        ("a stranger", allow(Rule), STRANGER),
        ("another workload of this host", deny(Spoofed), WEB),
        ("the receiver itself", deny(Spoofed), API),
        ("the host", deny(Spoofed), HOST),
    ] {
        assert_eq!(world.uplink(API, &packet(from, API, tcp(1, 80, SYN))), outcome, "{name}");
    }
    assert_eq!(world.uplink(BATCH, &packet(HOST, BATCH, tcp(1, 80, SYN))), allow(Ungoverned));
}

#[test]
fn what_comes_from_outside_may_not_join_a_flow_between_locals() {
    let mut world = shop();
    world.allow_in(DB, HOST, HTTP);
    connected(&world);
    assert_eq!(world.uplink(API, &request(ACK)), deny(Spoofed));
    let from_host = |flags| packet(HOST, DB, tcp(40_000, 80, flags));
    assert_eq!(world.passes(HOST, DB, &from_host(SYN)), allow(Rule));
    assert_eq!(world.uplink(DB, &from_host(ACK)), deny(Spoofed));
    assert_eq!(world.passes(HOST, DB, &from_host(ACK)), allow(Established));
}

#[test]
fn a_workload_reaches_itself() {
    let mut world = World::new();
    world.restrict(API);
    let own = packet(API, API, tcp(1, 80, SYN));
    assert_eq!(world.passes(API, API, &own), allow(SameWorkload));
    assert_eq!(world.wall_receives(API, &own), allow(SameWorkload));
    assert_eq!(world.passes(API, WEB, &packet(API, WEB, tcp(1, 80, SYN))), deny(NoRule));
}

#[test]
fn scopes_decide_on_who_is_not_known_yet() {
    let mut world = World::new();
    world.places.insert(BATCH, Place::SCOPE | Place::SCOPE_DENIES);
    world.places.insert(DB, Place::SCOPE);
    let out = |who| packet(who, STRANGER, tcp(1, 80, SYN));
    assert_eq!(world.sends(BATCH, &out(BATCH)), deny(Unidentified));
    assert_eq!(world.receives(BATCH, &packet(STRANGER, BATCH, udp(1, 53))), deny(Unidentified));
    assert_eq!(world.sends(DB, &out(DB)), allow(Unidentified));
    assert_eq!(world.sends(DB, &packet(DB, STRANGER, tcp(1, 80, ACK))), allow(Unidentified), "and so on");
    let cut = [0x45, 0];
    let at = |who| world.bytes_at(who, Seen::Cgroup(cgroup(who)), Direction::Egress, Network::Ip4, &cut);
    assert_eq!((at(BATCH), at(DB)), (deny(Unidentified), allow(Unidentified)));
    let discover = Ip::new("0.0.0.0", "255.255.255.255", udp(68, 67));
    assert_eq!(world.sends(BATCH, &discover), allow(NeverCut));
}

#[test]
fn what_was_opened_before_its_sender_was_known_keeps_its_replies() {
    let mut world = World::new();
    world.places.insert(DB, Place::SCOPE);
    assert_eq!(world.sends(DB, &packet(DB, STRANGER, tcp(1, 80, SYN))), allow(Unidentified));
    world.places.remove(&DB);
    world.allow_out(DB, STRANGER, HTTP);
    world.flip();
    assert_eq!(world.receives(DB, &packet(STRANGER, DB, tcp(80, 1, SYN | ACK))), allow(Rule));
    assert_eq!(world.receives(DB, &packet(STRANGER, DB, tcp(80, 2, SYN | ACK))), deny(NoRule));
}

// What belongs to a flow without being of it.

/// A router's error to `web` about a packet of its connection with `api`.
fn error_to_web(quoted: &Ip) -> Ip {
    packet(STRANGER, WEB, icmp(3, 4, [0, 0, 5, 0], &quoted.bytes()[..28]))
}

#[test]
fn an_icmp_error_belongs_to_the_flow_that_it_quotes() {
    let world = shop();
    connected(&world);
    assert_eq!(world.receives(WEB, &error_to_web(&request(ACK))), allow(Related));
    assert_eq!(world.wall_receives(WEB, &error_to_web(&request(ACK))), allow(Related));
    assert_eq!(world.uplink(WEB, &error_to_web(&request(ACK))), allow(Related));
    for (name, quoted) in [
        ("another port", packet(WEB, API, tcp(40_000, 81, ACK))),
        ("another protocol", packet(WEB, API, udp(40_000, 80))),
        ("what web did not send", reply(ACK)),
    ] {
        assert_eq!(world.receives(WEB, &error_to_web(&quoted)), deny(NoRule), "{name}");
    }
    let misled = packet(STRANGER, DB, icmp(3, 4, [0; 4], &request(ACK).bytes()));
    assert_eq!(world.receives(DB, &misled), deny(NoRule), "an error for somebody else");
}

#[test]
fn an_icmp_error_goes_back_to_whom_it_is_about_and_nowhere_else() {
    let world = shop();
    connected(&world);
    let error = |to, quoted: &Ip| packet(API, to, icmp(3, 3, [0; 4], &quoted.bytes()));
    assert_eq!(world.sends(API, &error(WEB, &request(ACK))), allow(Related));
    assert_eq!(world.sends(API, &error(STRANGER, &request(ACK))), deny(NoRule), "a way out for data");
    assert_eq!(world.sends(API, &error(WEB, &reply(ACK))), deny(NoRule), "about what api itself sent");
}

#[test]
fn an_icmpv6_error_goes_out_only_as_part_of_a_flow() {
    let world = shop();
    let request = |flags| packets(WEB, API, tcp(40_000, 80, flags))[1].clone();
    let error = |to| packets(API, to, icmpv6(1, 4, [0; 4], &request(ACK).bytes()))[1].clone();
    assert_eq!(world.sends(API, &error(WEB)), deny(NoRule));
    assert_eq!(world.passes(WEB, API, &request(SYN)), allow(Rule));
    assert_eq!(world.sends(API, &error(WEB)), allow(Related));
    assert_eq!(world.sends(API, &error(STRANGER)), deny(NoRule));
    assert_eq!(world.receives(WEB, &error(WEB)), allow(NeverCut));
}

#[test]
fn errors_about_a_revoked_or_dead_flow_are_not_related() {
    let mut world = shop();
    connected(&world);
    world.drop_rules();
    world.flip();
    assert_eq!(world.receives(WEB, &error_to_web(&request(ACK))), deny(NoRule));
    let world = shop();
    connected(&world);
    world.wait(351);
    assert_eq!(world.receives(WEB, &error_to_web(&request(ACK))), deny(NoRule));
}

#[test]
fn later_fragments_follow_their_first() {
    let mut world = World::new();
    world.allow_out(WEB, API, DNS);
    world.allow_in(API, WEB, DNS);
    for version in [0, 1] {
        let first = |port| packets(WEB, API, udp(5_000, port))[version].clone().fragment(7, 0, true);
        let later = |id| packets(WEB, API, build::other(17, &[0; 16]))[version].clone().fragment(id, 2, false);
        assert_eq!(world.wall_sends(WEB, &later(7)), deny(FragmentUnseen), "out of order");
        assert_eq!(world.wall_sends(WEB, &first(53)), allow(Rule));
        assert_eq!(world.wall_sends(WEB, &later(7)), allow(Established));
        assert_eq!(world.wall_receives(API, &first(53)), allow(Rule));
        assert_eq!(world.wall_receives(API, &later(7)), allow(Established));
        assert_eq!(world.wall_sends(WEB, &later(8)), deny(FragmentUnseen), "another datagram");
        assert_eq!(world.wall_sends(WEB, &first(54)), deny(NoRule));
        assert_eq!(world.wall_sends(WEB, &later(7)), deny(NoRule), "of a datagram that is denied");
    }
    assert_eq!(
        world.wall_sends(BATCH, &packet(BATCH, API, build::other(17, &[0; 16])).fragment(9, 2, false)),
        allow(Ungoverned)
    );
}

#[test]
fn what_can_not_be_parsed_is_denied_for_the_governed() {
    let mut world = World::new();
    world.govern(API);
    let cut = [0x45, 0, 0, 40];
    let at = |world: &World, who| {
        world.bytes_at(who, Seen::Interface(world::interface(who)), Direction::Egress, Network::Ip4, &cut)
    };
    assert_eq!((at(&world, API), at(&world, WEB)), (deny(Malformed), allow(Ungoverned)));
    world.restrict(API).flag(API, Identity::AUDIT_EGRESS);
    assert_eq!(at(&world, API), audit(Malformed));
}

#[test]
fn a_protocol_that_no_rule_names_is_denied() {
    let mut world = World::new();
    world.allow_in(API, WEB, (47, 0));
    assert_eq!(world.receives(API, &packet(WEB, API, build::other(47, &[0; 8]))), allow(Rule));
    assert_eq!(world.receives(API, &packet(WEB, API, build::other(50, &[0; 8]))), deny(NoRule));
}

#[test]
fn neighbour_discovery_and_dhcp_are_never_cut() {
    let mut world = World::new();
    for who in EVERYONE {
        world.restrict(who);
    }
    let solicit = packets(WEB, API, icmpv6(135, 0, [0; 4], &[0; 16]))[1].clone();
    assert_eq!(world.passes(WEB, API, &solicit.clone().hops(255)), allow(NeverCut));
    assert_eq!(world.passes(WEB, API, &solicit.hops(64)), deny(NoRule));
    assert_eq!(world.sends(WEB, &Ip::new("0.0.0.0", "255.255.255.255", udp(68, 67))), allow(NeverCut));
    assert_eq!(world.sends(WEB, &packet(WEB, API, udp(68, 67))), deny(NoRule));
}

// System calls.

#[test]
fn a_call_is_denied_as_its_packets_would_be() {
    let mut world = shop();
    world.restrict(WEB).flag(DB, Identity::RESTRICTED_EGRESS | Identity::AUDIT_EGRESS);
    let address = |who| addresses(who)[0];
    let zero6 = Address::v6([0; 16]);
    for (name, outcome, who, destination, service) in [
        ("what a rule allows", allow(Rule), WEB, address(API), HTTP),
        ("what none allows", deny(NoRule), WEB, address(API), (6, 81)),
        ("a peer that no rule names", deny(NoRule), WEB, address(DB), HTTP),
        ("in audit", audit(NoRule), DB, address(API), HTTP),
        ("ungoverned", allow(Ungoverned), BATCH, address(API), HTTP),
        ("itself", allow(SameWorkload), WEB, address(WEB), (6, 9)),
        ("the host's own process", allow(Deferred), HOST, address(API), (6, 9)),
        ("loopback", allow(Deferred), WEB, Address::v4([127, 0, 0, 1]), (6, 9)),
        ("0.0.0.0, which is loopback", allow(Deferred), WEB, Address::v4([0; 4]), (6, 9)),
        (":: likewise", allow(Deferred), WEB, zero6, (6, 9)),
        ("the host, which may be one hop or none away", allow(Deferred), WEB, address(HOST), (6, 9)),
    ] {
        assert_eq!(world.calls(who, destination, service), outcome, "{name}");
    }
    assert_eq!(world.flows(), 0, "a call opens no flow");
}

#[test]
fn calls_of_the_unidentified_are_left_to_their_packets() {
    let mut world = World::new();
    world.places.insert(DB, Place::SCOPE | Place::SCOPE_DENIES);
    assert_eq!(world.calls(DB, addresses(API)[0], HTTP), allow(Deferred));
}
