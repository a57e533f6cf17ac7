use super::build::{self, Ip, Transport, echo_reply, echo_request, ethernet, frame, icmp, icmpv6, sctp, tcp, udp};
use super::tcp::{ACK, SYN};
use super::*;
use crate::abi::{Direction, End, FlowKey};

const V4: (&str, &str) = ("10.0.0.1", "10.0.0.2");
const V6: (&str, &str) = ("fd00::1", "fd00::2");
const PROTOCOL_GRE: u8 = 47;

fn v4(transport: Transport) -> Ip {
    Ip::new(V4.0, V4.1, transport)
}

fn v6(transport: Transport) -> Ip {
    Ip::new(V6.0, V6.1, transport)
}

fn parsed(bytes: &[u8]) -> Result<Packet, Reason> {
    let network = if bytes.first().is_some_and(|byte| byte >> 4 == 6) { Network::Ip6 } else { Network::Ip4 };
    parse(bytes, 0, network)
}

fn good(ip: &Ip) -> Packet {
    parsed(&ip.bytes()).expect("the packet is whole")
}

fn with(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

/// One of each kind of packet that is understood.
fn every_kind() -> Vec<(&'static str, Vec<u8>)> {
    let error4 = icmp(3, 4, [0; 4], &v4(tcp(40_000, 443, ACK)).bytes());
    let error6 = icmpv6(2, 0, [0; 4], &v6(tcp(40_000, 443, ACK)).bytes());
    vec![
        ("TCP", v4(tcp(40_000, 443, SYN)).bytes()),
        ("TCP behind IPv4 options", v4(tcp(40_000, 443, SYN)).options(&[148, 4, 0, 0, 1, 1, 1, 0]).bytes()),
        ("UDP", v4(udp(40_000, 53)).bytes()),
        ("SCTP", v4(sctp(40_000, 36_412)).bytes()),
        ("echo", v4(echo_request(protocol::ICMP, 7)).bytes()),
        ("an ICMP error", v4(error4).bytes()),
        ("GRE", v4(build::other(PROTOCOL_GRE, &[0, 0, 8, 0])).bytes()),
        ("a first fragment", v4(udp(40_000, 53)).fragment(9, 0, true).bytes()),
        ("a later fragment", v4(build::other(17, &[1; 16])).fragment(9, 2, false).bytes()),
        ("TCP on IPv6", v6(tcp(40_000, 443, SYN)).bytes()),
        ("UDP on IPv6", v6(udp(40_000, 53)).bytes()),
        ("echo on IPv6", v6(echo_request(protocol::ICMPV6, 7)).bytes()),
        ("an ICMPv6 error", v6(error6).bytes()),
        ("UDP behind extension headers", v6(udp(1, 2)).extension(0, &[0; 7]).extension(60, &[1; 15]).bytes()),
        ("TCP behind authentication", v6(tcp(1, 2, ACK)).extension(51, &[[4].as_slice(), &[0; 22]].concat()).bytes()),
        ("a first fragment on IPv6", v6(udp(40_000, 53)).fragment(9, 0, true).bytes()),
        ("a later fragment on IPv6", v6(build::other(17, &[1; 16])).fragment(9, 2, false).bytes()),
    ]
}

#[test]
fn ports_and_flags_are_read_in_both_versions() {
    for ip in [v4(tcp(40_000, 443, SYN)), v6(tcp(40_000, 443, SYN)), v4(tcp(40_000, 443, SYN)).options(&[1; 40])] {
        let packet = good(&ip);
        let ports = (u16::from_be(packet.source_port()), u16::from_be(packet.destination_port()), packet.detail);
        assert_eq!(ports, (40_000, 443, 443), "{ip:?}");
        assert!(packet.opens_tcp() && packet.part == Part::Whole && packet.hops == 64, "{packet:?}");
        assert_eq!(packet.length as usize, ip.bytes().len());
    }
    assert!(!good(&v4(tcp(1, 2, SYN | ACK))).opens_tcp());
    let addresses = good(&v6(udp(1, 2)));
    assert_eq!((*addresses.source(), *addresses.destination()), (address(V6.0), address(V6.1)));
}

fn flow_of(packet: &Packet) -> (FlowKey, End) {
    (packet.key, packet.sender())
}

fn address(text: &str) -> Address {
    text.parse::<core::net::IpAddr>().expect("a literal").into()
}

#[test]
fn a_packet_that_is_cut_anywhere_is_malformed() {
    for (name, bytes) in every_kind() {
        assert!(parsed(&bytes).is_ok(), "{name}");
        for length in 0..bytes.len() {
            assert_eq!(parsed(&bytes[..length]), Err(Reason::Malformed), "{name} cut to {length} bytes");
        }
    }
}

/// Each header says how much follows it; a packet whose length field leaves less is malformed, although the bytes are there.
#[test]
fn a_length_field_that_leaves_no_room_for_the_header_is_malformed() {
    for (name, bytes) in every_kind() {
        let is_v4 = bytes[0] >> 4 == 4;
        let (at, base) = if is_v4 { (2, 0) } else { (4, 40) };
        let needed = needed(&bytes);
        for length in 1..bytes.len() - base {
            let mut shorter = bytes.clone();
            shorter[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
            let outcome = parsed(&shorter);
            assert_eq!(outcome.is_ok(), base + length >= needed, "{name} with length {length}: {outcome:?}");
            if let Ok(packet) = outcome {
                let full = parsed(&bytes).expect("the packet is whole");
                assert_eq!(Packet { length: full.length, ..packet }, full, "{name} with length {length}");
            }
        }
    }
}

/// Bytes up to the end of the transport header, found by another way than the parser's.
fn needed(bytes: &[u8]) -> usize {
    let packet = parsed(bytes).expect("the packet is whole");
    let header = if bytes[0] >> 4 == 4 { usize::from(bytes[0] & 15) * 4 } else { bytes.len() - payload_of_v6(bytes) };
    let transport = match (packet.part, packet.protocol()) {
        (Part::Later, _) => 0,
        (_, protocol::TCP) => 20,
        (_, protocol::UDP | protocol::ICMP | protocol::ICMPV6) => 8,
        (_, protocol::SCTP) => 12,
        _ => 0,
    };
    header + transport
}

fn payload_of_v6(bytes: &[u8]) -> usize {
    let (mut next, mut at) = (bytes[6], 40);
    loop {
        let length = match next {
            0 | 60 => (usize::from(bytes[at + 1]) + 1) * 8,
            51 => (usize::from(bytes[at + 1]) + 2) * 4,
            44 => 8,
            _ => return bytes.len() - at,
        };
        next = bytes[at];
        at += length;
    }
}

#[test]
fn contradictory_headers_are_malformed() {
    let tcp4 = v4(tcp(1, 2, ACK)).bytes();
    let tcp6 = v6(tcp(1, 2, ACK)).bytes();
    for (name, bytes) in [
        ("IPv4 of version 5", with(tcp4.clone(), 0, 0x55)),
        ("an IPv4 header of 16 bytes", with(tcp4.clone(), 0, 0x44)),
        ("an IPv4 header longer than its packet", with(tcp4.clone(), 3, 19)),
        ("an IPv4 packet longer than its bytes", with(tcp4.clone(), 3, 41)),
        ("a TCP header of 16 bytes", with(tcp4.clone(), 32, 4 << 4)),
        ("a TCP header longer than its packet", with(tcp4, 32, 6 << 4)),
        ("IPv6 longer than its bytes", with(tcp6, 5, 21)),
        ("UDP of length 7", with(v4(udp(1, 2)).bytes(), 25, 7)),
        ("an IPv4-mapped source on IPv6", Ip::new("::ffff:10.0.0.1", "fd00::2", udp(1, 2)).bytes()),
        ("an IPv4-mapped destination on IPv6", Ip::new("fd00::1", "::ffff:10.0.0.1", udp(1, 2)).bytes()),
        ("a TCP fragment over the first one's flags", v4(build::other(6, &[0; 8])).fragment(1, 1, false).bytes()),
        ("ICMPv6 in IPv4", v4(icmpv6(1, 0, [0; 4], &[])).bytes()),
        ("ICMP in IPv6", v6(icmp(8, 0, [0; 4], &[])).bytes()),
        ("a loose source route", v4(udp(1, 2)).options(&[131, 7, 4, 10, 0, 0, 9, 0]).bytes()),
        ("a strict source route behind padding", v4(udp(1, 2)).options(&[1, 137, 7, 4, 10, 0, 0, 9]).bytes()),
        ("an option longer than the header", v4(udp(1, 2)).options(&[148, 9, 0, 0]).bytes()),
        ("an option of length 1", v4(udp(1, 2)).options(&[148, 1, 0, 0]).bytes()),
        ("a route that goes on", v6(udp(1, 2)).extension(43, &[[2, 4, 1].as_slice(), &[0; 20]].concat()).bytes()),
    ] {
        assert_eq!(parsed(&bytes), Err(Reason::Malformed), "{name}");
    }
}

#[test]
fn extension_headers_are_followed_up_to_a_limit() {
    let padding = [0; 7];
    let many = |count: usize| (0..count).fold(v6(udp(1, 53)), |ip, _| ip.extension(60, &padding)).bytes();
    for count in 0..=8 {
        assert_eq!(parsed(&many(count)).map(|packet| packet.detail), Ok(53), "{count} headers");
    }
    assert_eq!(parsed(&many(9)), Err(Reason::Malformed));
    let finished_route = v6(udp(1, 53)).extension(43, &[[2, 4, 0].as_slice(), &[0; 20]].concat());
    assert_eq!(good(&finished_route).detail, 53);
}

#[test]
fn fragments_are_told_apart() {
    let part = |offset, more| {
        let bytes = build::other(17, &udp(40_000, 53).bytes);
        [v4(bytes.clone()), v6(bytes)].map(|ip| good(&ip.fragment(0xabcd, offset, more)))
    };
    for packet in part(0, true) {
        assert_eq!((packet.part, packet.detail), (Part::First, 53));
    }
    for (offset, more) in [(1, true), (1, false), (100, false)] {
        for packet in part(offset, more) {
            assert_eq!((packet.part, packet.source_port(), packet.detail), (Part::Later, 0, 0));
        }
    }
    for packet in part(0, false) {
        assert_eq!((packet.part, packet.detail), (Part::Whole, 53), "an atomic fragment is a whole packet");
    }
    let [first, later] = [part(0, true)[0], part(3, false)[0]].map(|packet| packet.fragment_key());
    assert_eq!(first, later, "both belong to one datagram");
    let tcp_later = v4(build::other(6, &[0; 8])).fragment(1, 2, false);
    assert_eq!(good(&tcp_later).part, Part::Later, "only offset 1 reaches the flags");
}

#[test]
fn protocols_without_ports_are_known_by_their_number() {
    for number in [2, 4, 41, PROTOCOL_GRE, 50, 51, 112, 255] {
        let packet = good(&v4(build::other(number, &[1, 2, 3, 4])));
        assert_eq!((packet.protocol(), packet.source_port(), packet.destination_port()), (number, 0, 0));
        assert_eq!(packet.service(), PortIndex::new(number, 0));
    }
    assert_eq!(good(&v6(build::other(PROTOCOL_GRE, &[]))).protocol(), PROTOCOL_GRE);
    assert_eq!(good(&v6(build::other(59, &[]))).protocol(), 59, "no next header");
    assert_eq!(good(&v4(sctp(7, 36_412))).detail, 36_412);
}

/// A segment that the stack has yet to cut may be larger than its length field can say.
#[test]
fn a_length_of_zero_is_read_from_the_buffer_where_only_that_can_be_meant() {
    let big = |ip: Ip| {
        let mut transport = tcp(40_000, 443, ACK);
        transport.bytes.resize(70_000, 0);
        good(&ip.transport(transport)).length
    };
    assert_eq!(big(v4(tcp(1, 2, ACK))), 70_020);
    assert_eq!(big(v6(tcp(1, 2, ACK))), 70_040);
    let small = with(with(v4(tcp(1, 2, ACK)).bytes(), 2, 0), 3, 0);
    assert_eq!(parsed(&small), Err(Reason::Malformed));
}

#[test]
fn an_echo_and_its_reply_are_one_flow_and_opposite_pings_are_two() {
    for (protocol_number, (a, b)) in [(protocol::ICMP, V4), (protocol::ICMPV6, V6)] {
        let key = |from: &str, to: &str, transport| flow_of(&good(&Ip::new(from, to, transport)));
        let (there, sender) = key(a, b, echo_request(protocol_number, 7));
        let (back, replier) = key(b, a, echo_reply(protocol_number, 7));
        assert_eq!((there, sender), (back, replier.other()));
        assert_ne!(there, key(a, b, echo_request(protocol_number, 8)).0);
        assert_ne!(there, key(b, a, echo_request(protocol_number, 7)).0);
        assert_ne!(there, key(a, b, echo_reply(protocol_number, 7)).0);
    }
}

#[test]
fn an_icmp_error_quotes_the_flow_that_it_is_about() {
    let quoted4 = [tcp(40_000, 443, ACK), udp(40_000, 53), sctp(1, 2), echo_request(protocol::ICMP, 7)];
    for transport in quoted4 {
        let about = v4(transport);
        // RFC 792 promises no more than eight bytes of the transport header.
        let quote = about.bytes()[..28].to_vec();
        for kind in [3, 4, 5, 11, 12] {
            let bytes = Ip::new("192.0.2.1", V4.0, icmp(kind, 0, [0; 4], &quote)).bytes();
            let error = parsed(&bytes).expect("the packet is whole");
            assert_eq!(parse_quote(&bytes[..], &error), Some(flow_of(&good(&about))), "type {kind}");
        }
    }
    for transport in [tcp(40_000, 443, ACK), udp(40_000, 53), echo_request(protocol::ICMPV6, 7)] {
        let about = v6(transport);
        for (name, about) in [("plain", about.clone()), ("with extension headers", about.extension(60, &[0; 7]))] {
            for kind in 1..=4 {
                let bytes = Ip::new("fd00::9", V6.0, icmpv6(kind, 0, [0; 4], &about.bytes())).bytes();
                let error = parsed(&bytes).expect("the packet is whole");
                assert_eq!(parse_quote(&bytes[..], &error), Some(flow_of(&good(&about))), "type {kind} {name}");
            }
        }
    }
}

#[test]
fn what_quotes_nothing_belongs_to_no_flow() {
    let whole = v4(tcp(40_000, 443, ACK)).bytes();
    let later = v4(build::other(6, &[0; 20])).fragment(1, 9, false).bytes();
    for (name, transport) in [
        ("an echo", icmp(8, 0, [0; 4], &whole)),
        ("an error that quotes too little", icmp(3, 0, [0; 4], &whole[..22])),
        ("an error that quotes no IPv4", icmp(3, 0, [0; 4], &with(whole.clone(), 0, 0x65))),
        ("an error about a later fragment", icmp(3, 0, [0; 4], &later)),
    ] {
        let bytes = v4(transport).bytes();
        let packet = parsed(&bytes).expect("the error itself is whole");
        assert_eq!(parse_quote(&bytes[..], &packet), None, "{name}");
    }
}

#[test]
fn vlan_tags_are_looked_behind_up_to_two_deep() {
    let packet = v4(tcp(40_000, 443, SYN)).bytes();
    let (vlan, qinq) = ((0x8100, 5), (0x88a8, 6));
    for (tags, at) in [(&[][..], 14), (&[vlan][..], 18), (&[qinq, vlan][..], 22), (&[vlan, vlan][..], 22)] {
        let bytes = ethernet(tags, &packet);
        assert_eq!(network(&bytes[..]), Some(Frame::Ip(Network::Ip4, at)), "{tags:?}");
        assert_eq!(parse(&bytes[..], at, Network::Ip4), parsed(&packet), "{tags:?}");
        for length in 0..at as usize {
            assert_eq!(network(&bytes[..length]), None, "{tags:?} cut to {length} bytes");
        }
    }
    let deeper = ethernet(&[qinq, vlan, vlan], &packet);
    assert_eq!(network(&deeper[..]), Some(Frame::Other));
    let six = ethernet(&[vlan], &v6(udp(1, 2)).bytes());
    assert_eq!(network(&six[..]), Some(Frame::Ip(Network::Ip6, 18)));
    assert_eq!(network(&frame(&[vlan], 0x0806, &[0; 28])[..]), Some(Frame::Arp));
    assert_eq!(network(&frame(&[], 0x88cc, &[0; 28])[..]), Some(Frame::Other), "LLDP");
}

#[test]
fn padding_behind_the_packet_is_not_part_of_it() {
    let packet = v4(udp(1, 53)).bytes();
    let mut padded = packet.clone();
    padded.resize(46, 0);
    assert_eq!(parsed(&padded), parsed(&packet));
}

#[test]
fn neighbour_discovery_counts_only_from_the_link_itself() {
    for kind in 133..=137 {
        let message = v6(icmpv6(kind, 0, [0; 4], &[0; 16]));
        let is_cut = |hops| !is_never_cut(&good(&message.clone().hops(hops)), Direction::Ingress);
        assert!(!is_cut(255) && is_cut(254) && is_cut(64), "type {kind}");
    }
}

#[test]
fn listener_and_router_discovery_count_only_where_they_can_not_be_forwarded() {
    for kind in [130, 131, 132, 143, 151, 152, 153] {
        let message = v6(icmpv6(kind, 0, [0; 4], &[0; 16]));
        for direction in [Direction::Ingress, Direction::Egress] {
            assert!(is_never_cut(&good(&message.clone().hops(1)), direction), "type {kind}");
            assert!(!is_never_cut(&good(&message.clone().hops(64)), direction), "type {kind}");
        }
    }
}

#[test]
fn icmpv6_errors_are_never_cut_on_their_way_in() {
    let quote = v6(tcp(40_000, 443, ACK)).bytes();
    for kind in 1..=4 {
        let error = good(&v6(icmpv6(kind, 0, [0; 4], &quote)));
        assert!(is_never_cut(&error, Direction::Ingress), "type {kind}");
        assert!(!is_never_cut(&error, Direction::Egress), "type {kind} going out must belong to a flow");
    }
    for kind in [100, 127, 128, 129, 200] {
        assert!(!is_never_cut(&good(&v6(icmpv6(kind, 0, [0; 4], &quote))), Direction::Ingress), "type {kind}");
    }
}

#[test]
fn dhcp_is_never_cut_on_its_own_link_and_nowhere_else() {
    use Direction::{Egress, Ingress};
    let all_servers = "ff02::1:2";
    for (expected, name, direction, ip) in [
        (true, "discover", Egress, Ip::new("0.0.0.0", "255.255.255.255", udp(68, 67))),
        (true, "offer", Ingress, Ip::new("10.0.0.254", "10.0.0.1", udp(67, 68))),
        (true, "solicit", Egress, Ip::new("fe80::1", all_servers, udp(546, 547))),
        (true, "advertise", Ingress, Ip::new("fe80::9", "fe80::1", udp(547, 546))),
        (false, "to a server elsewhere", Egress, Ip::new("10.0.0.1", "192.0.2.1", udp(68, 67))),
        (false, "to another port", Egress, Ip::new("0.0.0.0", "255.255.255.255", udp(68, 69))),
        (false, "discover coming in", Ingress, Ip::new("0.0.0.0", "255.255.255.255", udp(68, 67))),
        (false, "an offer going out", Egress, Ip::new("10.0.0.1", "10.0.0.2", udp(67, 68))),
        (false, "a solicitation elsewhere", Egress, Ip::new("fe80::1", "fd00::9", udp(546, 547))),
        (false, "an advertisement from elsewhere", Ingress, Ip::new("fd00::9", "fe80::1", udp(547, 546))),
        (false, "the ports in TCP", Egress, Ip::new("0.0.0.0", "255.255.255.255", tcp(68, 67, SYN))),
    ] {
        assert_eq!(is_never_cut(&good(&ip), direction), expected, "{name}");
    }
}

#[test]
fn the_short_way_says_what_the_full_parser_says() {
    for (name, bytes) in every_kind() {
        let packet = parsed(&bytes).expect("the packet is whole");
        let network = if packet.source().is_v4() { Network::Ip4 } else { Network::Ip6 };
        let Some(short) = plain(&bytes[..], 0, network) else { continue };
        assert_eq!(short, packet, "{name}");
    }
    for (is_plain, ip) in [
        (true, v4(tcp(1, 80, ACK))),
        (true, v6(tcp(1, 80, ACK))),
        (true, v4(udp(1, 53))),
        (true, v6(udp(1, 53))),
        (true, v4(tcp(1, 80, SYN))),
        (false, v4(tcp(1, 80, ACK)).options(&[1, 1, 1, 1])),
        (false, v6(udp(1, 53)).extension(60, &[0; 7])),
        (false, v4(udp(1, 53)).fragment(1, 0, true)),
        (false, v4(echo_request(protocol::ICMP, 1))),
    ] {
        let bytes = ip.bytes();
        let network = if bytes[0] >> 4 == 4 { Network::Ip4 } else { Network::Ip6 };
        assert_eq!(plain(&bytes[..], 0, network).is_some(), is_plain, "{ip:?}");
    }
}

/// Random bytes, and valid packets with random bytes changed: whatever comes out was really in the packet.
#[test]
fn no_input_panics_or_reads_what_is_not_there() {
    let mut random = Random(0x5eed_b01d_f1ee_7001);
    let kinds = every_kind();
    for _ in 0..100_000 {
        let bytes = if random.below(2) == 0 {
            (0..random.below(120)).map(|_| random.below(256) as u8).collect()
        } else {
            let mut bytes = kinds[random.below(kinds.len())].1.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            bytes.truncate(bytes.len() - random.below(8));
            bytes
        };
        let _ = network(&bytes[..]);
        for network in [Network::Ip4, Network::Ip6] {
            let short = plain(&bytes[..], 0, network);
            let Ok(packet) = parse(&bytes[..], 0, network) else {
                assert_eq!(short, None, "{bytes:02x?}");
                continue;
            };
            assert!(short.is_none_or(|short| short == packet), "{bytes:02x?}");
            assert!(packet.length as usize <= bytes.len(), "{bytes:02x?}");
            assert_eq!(packet.source().is_v4(), network == Network::Ip4, "{bytes:02x?}");
            assert!(packet.part != Part::Later || packet.detail == 0, "{bytes:02x?}");
            let _ = (flow_of(&packet), packet.service(), packet.fragment_key(), parse_quote(&bytes[..], &packet));
        }
    }
}

/// Marsaglia's xorshift64: the same inputs in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
