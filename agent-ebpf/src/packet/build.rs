//! Packets that nobody sent, for tests and for questions: whole ones by default, with every part that a test may want to spoil.
//!
//! ```
//! use bulkhead_ebpf::packet::build::{Ip, ethernet, tcp};
//! use bulkhead_ebpf::packet::tcp::SYN;
//!
//! let packet = Ip::new("10.0.0.1", "10.0.0.2", tcp(40_000, 443, SYN)).bytes();
//! let frame = ethernet(&[], &packet);
//! assert_eq!(frame.len(), 14 + packet.len());
//! ```

use core::net::IpAddr;
use std::vec;
use std::vec::Vec;

use super::protocol;

/// A transport header with its payload, and its protocol number.
#[derive(Clone, Debug)]
pub struct Transport {
    /// IP protocol number.
    pub protocol: u8,
    /// Header and payload; the checksum is filled in by [`Ip::bytes`].
    pub bytes: Vec<u8>,
}

/// A TCP segment with `flags` and no payload.
#[must_use]
pub fn tcp(source_port: u16, destination_port: u16, flags: u8) -> Transport {
    let mut bytes = ports(source_port, destination_port);
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    Transport { protocol: protocol::TCP, bytes }
}

/// A UDP datagram with four bytes of payload.
#[must_use]
pub fn udp(source_port: u16, destination_port: u16) -> Transport {
    let mut bytes = ports(source_port, destination_port);
    bytes.extend([0, 12, 0, 0, b'p', b'i', b'n', b'g']);
    Transport { protocol: protocol::UDP, bytes }
}

/// An SCTP packet with an INIT chunk's first bytes.
#[must_use]
pub fn sctp(source_port: u16, destination_port: u16) -> Transport {
    let mut bytes = ports(source_port, destination_port);
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20]);
    Transport { protocol: protocol::SCTP, bytes }
}

/// An ICMP message; `rest` is the second word: an echo's identifier and sequence number, an error's unused field.
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Transport {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest);
    bytes.extend(body);
    Transport { protocol: protocol::ICMP, bytes }
}

/// An ICMPv6 message, as [`icmp`].
#[must_use]
pub fn icmpv6(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Transport {
    Transport { protocol: protocol::ICMPV6, ..icmp(kind, code, rest, body) }
}

/// An echo request of either version's ICMP, by its protocol number.
#[must_use]
pub fn echo_request(protocol_number: u8, identifier: u16) -> Transport {
    echo(protocol_number, if protocol_number == protocol::ICMP { 8 } else { 128 }, identifier)
}

/// An echo reply, as [`echo_request`].
#[must_use]
pub fn echo_reply(protocol_number: u8, identifier: u16) -> Transport {
    echo(protocol_number, if protocol_number == protocol::ICMP { 0 } else { 129 }, identifier)
}

/// A protocol that is judged by its number alone.
#[must_use]
pub fn other(protocol_number: u8, bytes: &[u8]) -> Transport {
    Transport { protocol: protocol_number, bytes: bytes.to_vec() }
}

fn echo(protocol_number: u8, kind: u8, identifier: u16) -> Transport {
    let [high, low] = identifier.to_be_bytes();
    Transport { protocol: protocol_number, ..icmp(kind, 0, [high, low, 0, 1], b"ping") }
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// One IP packet of either version.
#[derive(Clone, Debug)]
pub struct Ip {
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
    options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    fragment: Option<(u16, bool)>,
    id: u32,
    transport: Transport,
}

impl Ip {
    /// A packet between two addresses of one version, given as text.
    ///
    /// # Panics
    /// Where an address is none, or the versions differ.
    #[must_use]
    pub fn new(source: &str, destination: &str, transport: Transport) -> Self {
        let address = |text: &str| text.parse::<IpAddr>().expect("the address is a literal of the test");
        Self::between(address(source), address(destination), transport)
    }

    /// A packet between two addresses of one version.
    ///
    /// # Panics
    /// The versions differ.
    #[must_use]
    pub fn between(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one version per packet");
        Self {
            source,
            destination,
            hops: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            id: 0,
            transport,
        }
    }

    /// With another transport.
    #[must_use]
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// With this TTL or hop limit.
    #[must_use]
    pub const fn hops(mut self, hops: u8) -> Self {
        self.hops = hops;
        self
    }

    /// With IPv4 options; their length is a multiple of four.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// With one more IPv6 extension header, of this number; `body` is what follows its next-header byte.
    #[must_use]
    pub fn extension(mut self, number: u8, body: &[u8]) -> Self {
        self.extensions.push((number, body.to_vec()));
        self
    }

    /// As a fragment at `offset` (in units of eight bytes) of the datagram `id`; the transport's bytes are the fragment's.
    #[must_use]
    pub const fn fragment(mut self, id: u32, offset: u16, more: bool) -> Self {
        self.id = id;
        self.fragment = Some((offset, more));
        self
    }

    /// The packet, with its checksums.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut transport = self.transport.bytes.clone();
        if self.fragment.is_none() {
            self.fill_checksum(&mut transport);
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.v4(&source.octets(), &destination.octets(), &transport)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.v6(&source.octets(), &destination.octets(), &transport)
            }
            _ => unreachable!("both are of one version"),
        }
    }

    fn v4(&self, source: &[u8], destination: &[u8], transport: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let total = u16::try_from(header + transport.len()).unwrap_or(0);
        let (offset, more) = self.fragment.unwrap_or_default();
        let mut bytes = vec![0x40 | (header / 4) as u8, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend((self.id as u16).to_be_bytes());
        bytes.extend((offset | u16::from(more) << 13).to_be_bytes());
        bytes.extend([self.hops, self.transport.protocol, 0, 0]);
        bytes.extend([source, destination].concat());
        bytes.extend(&self.options);
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum);
        bytes.extend(transport);
        bytes
    }

    fn v6(&self, source: &[u8], destination: &[u8], transport: &[u8]) -> Vec<u8> {
        let mut headers: Vec<(u8, Vec<u8>)> = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let field = (offset << 3 | u16::from(more)).to_be_bytes();
            headers.push((44, [&[0][..], &field, &self.id.to_be_bytes()].concat()));
        }
        let numbers: Vec<u8> = headers.iter().map(|(number, _)| *number).chain([self.transport.protocol]).collect();
        let mut payload = Vec::new();
        for ((_, body), next) in headers.iter().zip(&numbers[1..]) {
            payload.push(*next);
            payload.extend(body);
        }
        payload.extend(transport);
        let length = u16::try_from(payload.len()).unwrap_or(0);
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(length.to_be_bytes());
        bytes.extend([numbers[0], self.hops]);
        bytes.extend([source, destination].concat());
        bytes.extend(payload);
        bytes
    }

    /// The transport checksum over the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
    fn fill_checksum(&self, transport: &mut [u8]) {
        let at = match self.transport.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            protocol::ICMP | protocol::ICMPV6 => 2,
            _ => return,
        };
        if transport.len() < at + 2 {
            return;
        }
        transport[at..at + 2].fill(0);
        let mut covered = Vec::new();
        if self.transport.protocol != protocol::ICMP {
            for address in [self.source, self.destination] {
                match address {
                    IpAddr::V4(address) => covered.extend(address.octets()),
                    IpAddr::V6(address) => covered.extend(address.octets()),
                }
            }
            covered.extend((transport.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, self.transport.protocol]);
        }
        covered.extend(&*transport);
        transport[at..at + 2].copy_from_slice(&checksum(&covered));
    }
}

/// An Ethernet frame around an IP packet, behind VLAN tags given as ethertype and VLAN number. Both hardware addresses are
/// zero.
#[must_use]
pub fn ethernet(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet.first().is_some_and(|byte| byte >> 4 == 6) { 0x86dd } else { 0x0800 };
    frame(tags, ethertype, packet)
}

/// An Ethernet frame of any ethertype, as [`ethernet`].
#[must_use]
pub fn frame(tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    for (number, vlan) in tags {
        bytes.extend(number.to_be_bytes());
        bytes.extend(vlan.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
