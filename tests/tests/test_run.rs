//! The programs in the kernel, one packet at a time: what each of them answers, counts and remembers.

use bulkhead_ebpf::abi::{Count, EMBRYOS, Hook, IDENTITY_WORLD, Identity, Reason, Verdict};
use bulkhead_ebpf::packet::tcp::{ACK, SYN};
use bulkhead_tests::bench::harness::{Harness, LOCAL, PEER, PORT, SLOT_PEER, text};
use bulkhead_tests::packet::{Ip, ethernet, tcp, udp};

/// A program, its hook, whether it sees what the workload sends, and what it answers to let pass and to drop.
const PROGRAMS: [(&str, Hook, bool, i32, i32); 5] = [
    ("cgroup_egress", Hook::CgroupEgress, true, 1, 0),
    ("cgroup_ingress", Hook::CgroupIngress, false, 1, 0),
    ("tc_egress", Hook::TcEgress, true, -1, 2),
    ("tc_ingress", Hook::TcIngress, false, -1, 2),
    ("uplink", Hook::Xdp, false, 2, 1),
];

fn harness() -> Harness {
    Harness::new().expect("the programs load: this needs root and a kernel with BPF")
}

fn between(version: u8, is_egress: bool) -> (String, String) {
    let (from, to) = if is_egress { (LOCAL, PEER) } else { (PEER, LOCAL) };
    (text(version, from), text(version, to))
}

fn segment(version: u8, is_egress: bool, source_port: u16, port: u16, flags: u8) -> Vec<u8> {
    let (from, to) = between(version, is_egress);
    ethernet(&[], &Ip::new(&from, &to, tcp(source_port, port, flags)).bytes())
}

fn count(harness: &mut Harness, hook: Hook, verdict: Verdict, reason: Reason) -> Count {
    harness.counts().expect("the counters can be read").get(&(hook, verdict, reason)).copied().unwrap_or_default()
}

/// Older kernels walk through more than this one does; the limit is a million.
#[test]
fn the_verifier_walks_through_little() {
    for (program, verified, _) in harness().sizes().expect("the kernel tells") {
        assert!(verified < 300_000, "{program}: {verified} instructions");
    }
}

#[test]
fn every_program_lets_pass_what_a_rule_allows_and_drops_its_twin() {
    let mut harness = harness();
    for (program, hook, is_egress, pass, drop) in PROGRAMS {
        for version in [4, 6] {
            let run = |frame: &[u8]| harness.run(program, frame, 1).expect("the program runs").0;
            let good = segment(version, is_egress, 1_000, PORT, SYN);
            assert_eq!(run(&good), pass, "{program} on IPv{version}");
            assert_eq!(run(&segment(version, is_egress, 1_000, PORT, ACK)), pass, "{program}: the flow goes on");
            assert_eq!(run(&segment(version, is_egress, 1_000, PORT + 1, SYN)), drop, "{program}: another port");
            let (from, to) = between(version, is_egress);
            let datagram = ethernet(&[], &Ip::new(&from, &to, udp(1_000, PORT)).bytes());
            assert_eq!(run(&datagram), drop, "{program}: another protocol");
            harness.forget_flows().expect("flows can be removed");
        }
        let denied = count(&mut harness, hook, Verdict::Deny, Reason::NoRule);
        let bytes = 40 + 32 + 60 + 52;
        assert_eq!(denied, Count { packets: 4, bytes }, "{program} counts from the IP header on");
    }
}

#[test]
fn a_reply_passes_and_the_same_packet_without_its_flow_does_not() {
    let mut harness = harness();
    for (there, back) in [("cgroup_ingress", "cgroup_egress"), ("tc_ingress", "tc_egress")] {
        for version in [4, 6] {
            let (from, to) = between(version, true);
            let reply = ethernet(&[], &Ip::new(&from, &to, tcp(PORT, 1_000, SYN | ACK)).bytes());
            let run = |program, frame: &[u8]| harness.run(program, frame, 1).expect("the program runs").0;
            let denied = run(back, &reply);
            let passed = run(there, &segment(version, false, 1_000, PORT, SYN));
            assert_ne!(denied, passed, "{back} on IPv{version}: nobody asked");
            assert_eq!(run(back, &reply), passed, "{back} on IPv{version}: an answer");
            harness.forget_flows().expect("flows can be removed");
        }
    }
}

#[test]
fn hits_are_exact_whatever_is_repeated() {
    let mut harness = harness();
    const FLOWS: u16 = 200;
    for source_port in 1_000..1_000 + FLOWS {
        for program in ["tc_ingress", "cgroup_ingress", "uplink"] {
            for flags in [SYN, ACK] {
                let frame = segment(4, false, source_port, PORT, flags);
                harness.run(program, &frame, 3).expect("the program runs");
            }
        }
    }
    assert_eq!(harness.hits(0).expect("the hits can be read"), u64::from(FLOWS), "the rule for ingress");
    assert_eq!(harness.hits(1).expect("the hits can be read"), 0, "the rule for egress");
}

/// More new flows than their table holds, each from a source of its own; the server's data passes for its flow's sake alone.
#[test]
fn a_flood_of_new_flows_evicts_no_established_one() {
    const FLOOD: u32 = EMBRYOS + 20_000;
    let mut harness = harness();
    let mut anyone = Identity { count: 1, ..Identity::NOBODY };
    anyone.slots[0] = SLOT_PEER;
    harness.set_identity(IDENTITY_WORLD, anyone).expect("the map has room");
    let run = |program, frame: &[u8]| harness.run(program, frame, 1).expect("the program runs").0;
    let (from, to) = between(4, true);
    let answer = |flags| ethernet(&[], &Ip::new(&from, &to, tcp(PORT, 1_000, flags)).bytes());
    assert_eq!(run("tc_ingress", &segment(4, false, 1_000, PORT, SYN)), -1);
    assert_eq!(run("tc_egress", &answer(SYN | ACK)), -1);
    assert_eq!(run("tc_ingress", &segment(4, false, 1_000, PORT, ACK)), -1);
    let first = ethernet(&[], &Ip::new("20.0.0.0", &from, tcp(1_000, PORT, SYN)).bytes());
    assert_eq!(run("tc_ingress", &first), -1);
    for number in 1..FLOOD {
        let source = std::net::Ipv4Addr::from(0x1400_0000 | number).to_string();
        let frame = ethernet(&[], &Ip::new(&source, &from, tcp(1_000, PORT, SYN)).bytes());
        assert_eq!(run("tc_ingress", &frame), -1, "{source}");
    }
    assert_eq!(run("tc_egress", &answer(ACK)), -1, "the established flow goes on");
    let evicted = ethernet(&[], &Ip::new(&from, "20.0.0.0", tcp(PORT, 1_000, SYN | ACK)).bytes());
    assert_eq!(run("tc_egress", &evicted), 2, "the flood's first flow gave way");
}

/// Frames larger than a page lie in several buffers.
#[test]
fn a_jumbo_frame_is_judged_at_an_uplink() {
    let harness = harness();
    for version in [4, 6] {
        let jumbo = |port| {
            let (from, to) = between(version, false);
            let mut transport = tcp(1_000, port, ACK);
            transport.bytes.resize(8_900, 0);
            ethernet(&[], &Ip::new(&from, &to, transport).bytes())
        };
        let run = |port| harness.run("uplink", &jumbo(port), 1).expect("the program takes several buffers").0;
        assert_eq!((run(PORT), run(PORT + 1)), (2, 1), "IPv{version}");
    }
}

#[test]
fn tags_options_and_extension_headers_hide_nothing() {
    let mut harness = harness();
    let (from4, to4) = between(4, true);
    let (from6, to6) = between(6, true);
    let ip4 = |port| Ip::new(&from4, &to4, tcp(1_000, port, SYN));
    let ip6 = |port| Ip::new(&from6, &to6, tcp(1_000, port, SYN));
    let vlan = [(0x8100, 5)];
    type Make<'a> = &'a dyn Fn(u16) -> Vec<u8>;
    let kinds: [(&str, Make<'_>); 5] = [
        ("a VLAN tag", &|port| ethernet(&vlan, &ip4(port).bytes())),
        ("two tags", &|port| ethernet(&[(0x88a8, 6), (0x8100, 5)], &ip6(port).bytes())),
        ("a router alert", &|port| ethernet(&[], &ip4(port).options(&[148, 4, 0, 0, 1, 1, 1, 0]).bytes())),
        ("destination options", &|port| ethernet(&[], &ip6(port).extension(60, &[1; 15]).bytes())),
        ("an atomic fragment", &|port| ethernet(&[], &ip6(port).fragment(7, 0, false).bytes())),
    ];
    for (name, make) in kinds {
        let run = |port| harness.run("tc_egress", &make(port), 1).expect("the program runs").0;
        assert_eq!((run(PORT), run(PORT + 1)), (-1, 2), "{name}");
        harness.forget_flows().expect("flows can be removed");
    }
    for (name, frame) in [
        ("a source route", ethernet(&[], &ip4(PORT).options(&[131, 7, 4, 10, 0, 0, 9, 0]).bytes())),
        ("a route that goes on", {
            let route = [[2, 4, 1].as_slice(), &[0; 20]].concat();
            ethernet(&[], &ip6(PORT).extension(43, &route).bytes())
        }),
        ("a packet that is cut", segment(4, true, 1_000, PORT, SYN)[..40].to_vec()),
    ] {
        assert_eq!(harness.run("tc_egress", &frame, 1).expect("the program runs").0, 2, "{name}");
    }
    assert_eq!(count(&mut harness, Hook::TcEgress, Verdict::Deny, Reason::Malformed).packets, 3);
}
