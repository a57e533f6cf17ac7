//! What fuzzing starts from: one of each kind of packet, and random traffic that means something in its world.

use bulkhead_tests::equivalence::{ethernet_frame, packet as ip_packet};
use bulkhead_tests::model::{ACK, FIN, ICMP, ICMPV6, RST, SYN, Spot, UDP};
use bulkhead_tests::packet::{
    Ip, Transport, echo_reply, echo_request, ethernet, frame, icmp, icmpv6, other, sctp, tcp, udp,
};
use bulkhead_tests::world::{Random, Stage, Step, case};

use super::judging::numbered;
use super::{Record, WORLDS, has_ethernet};

/// Random cases of each world.
const CASES: u64 = 2;

/// Every seed, by name.
#[must_use]
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let stage = Stage::imagined();
    let kinds = kinds().into_iter().map(|(name, bytes)| {
        let is_frame = name.starts_with("frame");
        let cgroup = stage.cgroups[0].path.clone();
        let spot = if is_frame {
            Spot::TcEgress { interface: stage.interfaces[0].index }
        } else {
            Spot::CgroupEgress { cgroup, loopback: false }
        };
        (name.to_owned(), written(0, &[Record::Packet(spot, bytes)], &stage))
    });
    let traffic = (0..WORLDS).flat_map(|number| {
        let (stage, world) = (Stage::imagined(), numbered(number));
        let mut random = Random::new(1_000 + u64::from(number));
        (0..CASES).map(move |of| {
            let case = case(&mut random, &stage, &world);
            (format!("traffic-{number}-{of}"), written(number, &records(&case.steps), &stage))
        })
    });
    kinds.chain(traffic).collect()
}

fn written(world: u8, records: &[Record], stage: &Stage) -> Vec<u8> {
    let mut input = vec![world];
    records.iter().for_each(|record| record.write(stage, &mut input));
    input
}

/// What happens until the world changes.
fn records(steps: &[Step]) -> Vec<Record> {
    let until_change = steps.iter().take_while(|step| !matches!(step, Step::Change(_)));
    until_change
        .filter_map(|step| match step {
            Step::Wait(seconds) => Some(Record::Wait(*seconds)),
            Step::Packet(packet) | Step::Onward(packet) => {
                let bytes = if has_ethernet(&packet.spot) { Some(ethernet_frame(packet)) } else { ip_packet(packet) };
                // An input says nothing of loopback, where nothing is looked at.
                (!packet.on_loopback()).then(|| Some(Record::Packet(packet.spot.clone(), bytes?))).flatten()
            }
            Step::Change(_) => None,
        })
        .collect()
}

fn v4(transport: Transport) -> Ip {
    Ip::new("10.0.0.1", "10.0.0.2", transport)
}

fn v6(transport: Transport) -> Ip {
    Ip::new("fd00::1", "fd00::2", transport)
}

/// One of each kind of packet.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    const GRE: u8 = 47;
    let error4 = icmp(3, 4, [0; 4], &v4(tcp(40_000, 443, ACK)).bytes());
    let error6 = icmpv6(2, 0, [0; 4], &v6(tcp(40_000, 443, ACK)).bytes());
    let mut with_options = tcp(40_000, 443, SYN);
    with_options.bytes[12] = 6 << 4;
    with_options.bytes.extend([2, 4, 5, 180]);
    let jumbo = {
        let mut bytes = v6(udp(1, 2)).extension(0, &[0, 0xc2, 4, 0, 1, 0, 0]).bytes();
        bytes[4..6].fill(0);
        bytes
    };
    let plain = v4(tcp(40_000, 80, SYN)).bytes();
    vec![
        ("v4-tcp", plain.clone()),
        ("v4-tcp-options", v4(with_options).bytes()),
        ("v4-tcp-fin", v4(tcp(40_000, 443, FIN | ACK)).bytes()),
        ("v4-tcp-rst", v4(tcp(40_000, 443, RST)).bytes()),
        ("v4-options", v4(tcp(40_000, 443, SYN)).options(&[148, 4, 0, 0, 1, 1, 1, 0]).bytes()),
        ("v4-source-route", v4(tcp(40_000, 443, SYN)).options(&[131, 7, 4, 10, 0, 0, 9, 0]).bytes()),
        ("v4-most-options", v4(udp(40_000, 53)).options(&[1; 40]).bytes()),
        ("v4-udp", v4(udp(40_000, 53)).bytes()),
        ("v4-sctp", v4(sctp(40_000, 36_412)).bytes()),
        ("v4-echo", v4(echo_request(ICMP, 7)).bytes()),
        ("v4-echo-reply", v4(echo_reply(ICMP, 7)).bytes()),
        ("v4-timestamp", v4(icmp(13, 0, [0, 7, 0, 1], &[0; 12])).bytes()),
        ("v4-error", v4(error4).bytes()),
        ("v4-gre", v4(other(GRE, &[0, 0, 8, 0])).bytes()),
        ("v4-first-fragment", v4(udp(40_000, 53)).fragment(9, 0, true).bytes()),
        ("v4-later-fragment", v4(other(UDP, &[1; 16])).fragment(9, 2, false).bytes()),
        ("v6-tcp", v6(tcp(40_000, 443, SYN)).bytes()),
        ("v6-udp", v6(udp(40_000, 53)).bytes()),
        ("v6-sctp", v6(sctp(40_000, 36_412)).bytes()),
        ("v6-echo", v6(echo_request(ICMPV6, 7)).bytes()),
        ("v6-echo-reply", v6(echo_reply(ICMPV6, 7)).bytes()),
        ("v6-solicitation", v6(icmpv6(135, 0, [0; 4], &[0; 16])).hops(255).bytes()),
        ("v6-listener", v6(icmpv6(143, 0, [0; 4], &[])).hops(1).bytes()),
        ("v6-error", v6(error6).bytes()),
        ("v6-extensions", v6(udp(1, 2)).extension(0, &[0; 7]).extension(60, &[1; 15]).bytes()),
        ("v6-routing", v6(udp(1, 2)).extension(43, &[0, 0, 1, 0, 0, 0, 0]).bytes()),
        ("v6-authentication", v6(tcp(1, 2, ACK)).extension(51, &[[4].as_slice(), &[0; 22]].concat()).bytes()),
        ("v6-first-fragment", v6(udp(40_000, 53)).fragment(9, 0, true).bytes()),
        ("v6-later-fragment", v6(other(UDP, &[1; 16])).fragment(9, 2, false).bytes()),
        ("v6-atomic-fragment", v6(udp(40_000, 53)).fragment(9, 0, false).bytes()),
        ("v6-jumbo", jumbo),
        ("frame-v4", ethernet(&[], &plain)),
        ("frame-v6", ethernet(&[], &v6(udp(1, 53)).bytes())),
        ("frame-vlan", ethernet(&[(0x8100, 7)], &plain)),
        ("frame-qinq", ethernet(&[(0x88a8, 7), (0x8100, 8)], &plain)),
        ("frame-three-tags", ethernet(&[(0x8100, 7), (0x8100, 8), (0x8100, 9)], &plain)),
        ("frame-arp", frame(&[], 0x0806, &[0; 46])),
        ("frame-lldp", frame(&[], 0x88cc, &[0; 46])),
        ("frame-padded", [ethernet(&[], &plain), vec![0; 6]].concat()),
    ]
}
