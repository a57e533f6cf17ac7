//! Ports, flags, types: what the transport header says.

use super::{Bytes, Part, icmp, protocol};
use crate::abi::Reason;

/// The part of a transport header that decisions need. Ports are in network order.
#[derive(Clone, Copy)]
pub(super) struct Transport {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) detail: u16,
    pub(super) tcp_flags: u8,
    pub(super) quote: u32,
}

impl Transport {
    /// A protocol without ports.
    pub(super) const NONE: Self = Self { source_port: 0, destination_port: 0, detail: 0, tcp_flags: 0, quote: 0 };
}

/// Parses the transport header at `at`, of which `length` bytes are the packet's. A first fragment must carry the whole
/// header (RFC 1858 section 3, RFC 7112 section 5).
#[inline(always)]
pub(super) fn parse<B: Bytes + ?Sized>(
    bytes: &B,
    at: u32,
    length: u32,
    protocol_number: u8,
    part: Part,
) -> Result<Transport, Reason> {
    match protocol_number {
        protocol::TCP => tcp(bytes, at, length, part),
        protocol::UDP => udp(bytes, at, length),
        protocol::SCTP => sctp(bytes, at, length),
        protocol::ICMP | protocol::ICMPV6 => icmp::parse(bytes, at, length, protocol_number),
        _ => Ok(Transport::NONE),
    }
}

/// The ports in the first eight bytes of a quoted transport header.
#[inline(always)]
pub(super) fn quoted_ports<B: Bytes + ?Sized>(bytes: &B, at: u32, protocol_number: u8) -> Option<(u16, u16)> {
    match protocol_number {
        protocol::TCP | protocol::UDP | protocol::SCTP => {
            let [ports] = bytes.words::<1>(at)?;
            Some(split(ports))
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let transport = icmp::parse(bytes, at, 8, protocol_number).ok()?;
            Some((transport.source_port, transport.destination_port))
        }
        _ => Some((0, 0)),
    }
}

#[inline(always)]
fn tcp<B: Bytes + ?Sized>(bytes: &B, at: u32, length: u32, part: Part) -> Result<Transport, Reason> {
    let [ports, _sequence, _acknowledgement, word3] = bytes.words::<4>(at).ok_or(Reason::Malformed)?;
    let word3 = u32::from_be(word3);
    let header = (word3 >> 28) * 4;
    if header < 20 || length < 20 || (header > length && part == Part::Whole) {
        return Err(Reason::Malformed);
    }
    Ok(with_ports(ports, (word3 >> 16 & 0xff) as u8))
}

#[inline(always)]
fn udp<B: Bytes + ?Sized>(bytes: &B, at: u32, length: u32) -> Result<Transport, Reason> {
    let [ports, word1] = bytes.words::<2>(at).ok_or(Reason::Malformed)?;
    let field = u32::from_be(word1) >> 16;
    // 0 stands for a jumbogram (RFC 2675 section 4).
    if length < 8 || (field != 0 && field < 8) {
        return Err(Reason::Malformed);
    }
    Ok(with_ports(ports, 0))
}

#[inline(always)]
fn sctp<B: Bytes + ?Sized>(bytes: &B, at: u32, length: u32) -> Result<Transport, Reason> {
    let [ports] = bytes.words::<1>(at).ok_or(Reason::Malformed)?;
    if length < 12 {
        return Err(Reason::Malformed);
    }
    Ok(with_ports(ports, 0))
}

#[inline(always)]
const fn with_ports(ports: u32, tcp_flags: u8) -> Transport {
    let (source_port, destination_port) = split(ports);
    Transport { source_port, destination_port, detail: u16::from_be(destination_port), tcp_flags, quote: 0 }
}

#[inline(always)]
const fn split(ports: u32) -> (u16, u16) {
    let bytes = ports.to_ne_bytes();
    (u16::from_ne_bytes([bytes[0], bytes[1]]), u16::from_ne_bytes([bytes[2], bytes[3]]))
}
