//! What holds of one packet's parsing, whatever its bytes.

use std::net::IpAddr;

use bulkhead_ebpf::abi::{Address, FlowKey, Reason};
use bulkhead_ebpf::packet::{
    Bytes, Frame, Headers, Network, Packet, extensions, network, network_untagged, parse, parse_quote, plain,
};
use bulkhead_tests::model::{ICMP, ICMPV6};

use super::reference::{self, Carried, Facts, Transport};

/// Checks a packet's bytes, as they are and as the payload of the frame that they may be.
pub fn check(bytes: &[u8], has_ethernet: bool) {
    if has_ethernet {
        let carried = reference::frame(bytes);
        let expected = carried.map(|carried| match carried {
            Carried::Ip(is_v6, at) => Frame::Ip(version(is_v6), at as u32),
            Carried::Arp => Frame::Arp,
            Carried::Other(_) => Frame::Other,
        });
        assert_eq!(network(bytes), expected, "the frame {bytes:02x?}");
        // The short cut sees the same, or a tag.
        let untagged = network_untagged(bytes);
        assert!(untagged == expected || untagged == Some(Frame::Other), "{untagged:?} is {expected:?} in {bytes:02x?}");
        if let Some(Carried::Ip(is_v6, at)) = carried {
            check_at(bytes, at, is_v6);
        }
    } else {
        check_at(bytes, 0, false);
        check_at(bytes, 0, true);
    }
}

const fn version(is_v6: bool) -> Network {
    if is_v6 { Network::Ip6 } else { Network::Ip4 }
}

/// Checks the packet whose IP header stands at `at`.
fn check_at(bytes: &[u8], at: usize, is_v6: bool) {
    let (network, offset) = (version(is_v6), at as u32);
    let facts = reference::read(&bytes[at..], is_v6);
    let expected = facts.as_ref().map(|facts| packet_of(facts, at)).ok_or(Reason::Malformed);
    let found = parse(bytes, offset, network);
    assert_eq!(found, expected, "{bytes:02x?}, from {at}");

    // In the kernel, what stands behind the extension headers passes through a register.
    let packed = parse(&Packed(bytes), offset, network);
    assert_eq!(packed, found, "{bytes:02x?} by way of a register");

    // The short way says the same or nothing, and nothing only where it has to.
    let known = plain(bytes, offset, network);
    assert!(known.is_none() || known == found.ok(), "{known:?} is {found:?} in {bytes:02x?}");
    let is_plain = facts.as_ref().is_some_and(Facts::is_plain);
    assert_eq!(known.is_some(), is_plain, "whether it is plain: {bytes:02x?}");

    // Nor does it matter how much of the packet the kernel can read in place.
    for linear in (0..bytes.len()).step_by(1 + bytes.len() / 16) {
        for is_known in [false, true] {
            let part = plain(&InPlace { bytes, linear, is_known }, offset, network);
            assert!(part.is_none() || part == known, "{part:?} of {linear} bytes is {known:?} in {bytes:02x?}");
        }
    }

    let Ok(packet) = found else { return };
    let end = at + packet.length as usize;
    assert!(end <= bytes.len() && packet.length >= 20, "{packet:?} is longer than {bytes:02x?}");
    // What pads the frame says nothing. (A length that the header leaves open is the buffer's.)
    if facts.as_ref().is_some_and(|facts| has_length(&bytes[at..], facts)) {
        assert_eq!(parse(&bytes[..end], offset, network), Ok(packet), "without what pads {bytes:02x?}");
    }
    check_quote(bytes, &packet, is_v6);
}

fn check_quote(bytes: &[u8], packet: &Packet, is_v6: bool) {
    let quoted = (packet.quote != 0).then(|| reference::quoted(&bytes[packet.quote as usize..], is_v6)).flatten();
    let expected = quoted.map(|([source, destination], protocol, transport)| {
        let (from, to) = ports(transport, protocol);
        FlowKey::new(protocol, (&mapped(source), from), (&mapped(destination), to))
    });
    assert_eq!(parse_quote(bytes, packet), expected, "the quote in {bytes:02x?}");
}

/// An address in the tables' one form.
fn mapped(address: IpAddr) -> Address {
    Address::from(address)
}

fn has_length(packet: &[u8], facts: &Facts) -> bool {
    let at = if facts.source.is_ipv6() { 4 } else { 2 };
    packet[at..at + 2] != [0, 0]
}

/// The packet path's own words for it.
fn packet_of(facts: &Facts, at: usize) -> Packet {
    let (source_port, destination_port) = ports(facts.transport, facts.protocol);
    let (detail, tcp_flags, quote) = match facts.transport {
        Transport::Tcp { destination, flags, .. } => (destination, flags, None),
        Transport::Udp { destination, .. } | Transport::Sctp { destination, .. } => (destination, 0, None),
        Transport::Icmp { kind, code, quote, .. } => (u16::from_be_bytes([kind, code]), 0, quote),
        Transport::Nothing => (0, 0, None),
    };
    let (source, destination) = ((&mapped(facts.source), source_port), (&mapped(facts.destination), destination_port));
    let mut packet = Packet::new(facts.protocol, source, destination, detail);
    packet.tcp_flags = tcp_flags;
    packet.hops = facts.hops;
    packet.part = facts.part;
    // IPv6's as it lies in the packet: it is only ever compared.
    packet.fragment_id = if facts.source.is_ipv6() { facts.id.to_be() } else { facts.id };
    packet.quote = quote.map_or(0, |quote| (at + quote) as u32);
    packet.length = facts.length as u32;
    packet
}

/// Ports in network order. An echo has its identifier at the end that asks, any other message its type and code at both.
fn ports(transport: Transport, protocol: u8) -> (u16, u16) {
    let (source, destination) = match transport {
        Transport::Tcp { source, destination, .. }
        | Transport::Udp { source, destination, .. }
        | Transport::Sctp { source, destination } => (source, destination),
        Transport::Icmp { kind, code, identifier, .. } => match (protocol, kind) {
            (ICMP, 8) | (ICMPV6, 128) => (identifier, 0),
            (ICMP, 0) | (ICMPV6, 129) => (0, identifier),
            _ => (u16::from_be_bytes([kind, code]), u16::from_be_bytes([kind, code])),
        },
        Transport::Nothing => (0, 0),
    };
    (source.to_be(), destination.to_be())
}

/// Bytes whose extension headers are told as the programs' own functions tell them.
struct Packed<'a>(&'a [u8]);

impl Bytes for Packed<'_> {
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        self.0.words(at)
    }

    fn length(&self) -> u32 {
        self.0.length()
    }

    fn extensions(&self, at: u32, protocol: u8) -> Option<Headers> {
        let headers = extensions(self, at, protocol);
        let packed = headers.map_or(0, Headers::pack);
        assert_eq!(Headers::unpack(packed), headers, "{packed:#x}");
        Headers::unpack(packed)
    }
}

/// A buffer of which only the beginning can be read in place, and whose whole length is known or not: tc, and XDP.
struct InPlace<'a> {
    bytes: &'a [u8],
    linear: usize,
    is_known: bool,
}

impl Bytes for InPlace<'_> {
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        self.bytes[..self.linear].words(at)
    }

    fn length(&self) -> u32 {
        self.bytes.length()
    }

    fn reaches(&self, end: u32) -> bool {
        end as usize <= if self.is_known { self.bytes.len() } else { self.linear }
    }
}
