//! The model's packets as bytes.

use std::net::IpAddr;

use bulkhead_ebpf::packet::build::{Ip, Transport, ethernet, frame, icmp, icmpv6, other, sctp, tcp, udp};

use crate::model::{Message, Packet, Quote, TCP};

/// The packet from the IP header on; `None` where it has none.
#[must_use]
pub fn packet(packet: &Packet) -> Option<Vec<u8>> {
    packet.readable()?;
    let mut ip =
        Ip::new(&packet.source.to_string(), &packet.destination.to_string(), transport(packet)).hops(packet.hops);
    if packet.dressed {
        ip = match packet.source {
            // Two no-operations and an end of options (RFC 791), destination options without options (RFC 8200).
            IpAddr::V4(_) => ip.options(&[1, 1, 0, 0]),
            IpAddr::V6(_) => ip.extension(60, &[0, 1, 4, 0, 0, 0, 0]),
        };
    }
    if let Some(id) = packet.fragment {
        ip = match packet.message {
            Message::LaterFragment { .. } => ip.fragment(id, 3, false),
            _ => ip.fragment(id, 0, true),
        };
    }
    Some(ip.bytes())
}

/// An IP packet as an Ethernet frame without tags.
pub(super) fn as_frame(packet: &[u8]) -> Vec<u8> {
    ethernet(&[], packet)
}

/// The packet as an Ethernet frame.
#[must_use]
pub fn ethernet_frame(of: &Packet) -> Vec<u8> {
    let tags: &[(u16, u16)] = if of.dressed { &[(0x8100, 7)] } else { &[] };
    match (&of.message, packet(of)) {
        (Message::NotIp { ethertype }, _) => frame(tags, *ethertype, &[0; 46]),
        (_, None) => frame(tags, 0x0806, &[0; 46]),
        (_, Some(bytes)) => ethernet(tags, &bytes),
    }
}

fn transport(packet: &Packet) -> Transport {
    let mut transport = match &packet.message {
        Message::IcmpError { kind, code, quote } => {
            let quoted = quote.as_deref().map(quoted).unwrap_or_default();
            message(packet.source, *kind, *code, [0; 4], &quoted)
        }
        Message::LaterFragment { protocol } => other(*protocol, &[0; 16]),
        Message::Malformed { protocol: TCP } => {
            let mut segment = tcp(1, 80, 2);
            // A header of four words, one less than the least (RFC 9293 section 3.1).
            segment.bytes[12] = 4 << 4;
            segment
        }
        Message::Malformed { protocol } => other(*protocol, &[0; 6]),
        plain => plain_transport(packet.source, plain),
    };
    if packet.fragment.is_some() {
        // All but the last fragment carry a multiple of eight bytes.
        transport.bytes.resize(24, 0);
    }
    transport
}

fn plain_transport(source: IpAddr, message_of: &Message) -> Transport {
    match message_of {
        Message::Tcp { source, destination, flags } => tcp(*source, *destination, *flags),
        Message::Udp { source, destination } => udp(*source, *destination),
        Message::Sctp { source, destination } => sctp(*source, *destination),
        Message::Icmp { kind, code, identifier } => {
            let [high, low] = identifier.to_be_bytes();
            message(source, *kind, *code, [high, low, 0, 1], &[0; 16])
        }
        Message::Other(protocol) => other(*protocol, &[0; 24]),
        unquotable => unreachable!("{unquotable:?} is never quoted"),
    }
}

fn message(source: IpAddr, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Transport {
    match source {
        IpAddr::V4(_) => icmp(kind, code, rest, body),
        IpAddr::V6(_) => icmpv6(kind, code, rest, body),
    }
}

fn quoted(quote: &Quote) -> Vec<u8> {
    Ip::new(&quote.source.to_string(), &quote.destination.to_string(), plain_transport(quote.source, &quote.message))
        .bytes()
}
