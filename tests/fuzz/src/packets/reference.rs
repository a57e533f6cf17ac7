//! What a packet says, read slowly and obviously from the RFCs: what the packet path's parser is held against.
//!
//! Nothing is shared with that parser but the words for a packet's place in its datagram. Slices of slices, one header after the
//! other; whatever is missing ends in `None`, which is malformed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_ebpf::packet::Part;
use bulkhead_tests::model::{ICMP, ICMPV6, SCTP, TCP, UDP};

/// More IPv6 extension headers than this are no packet that anybody sends (RFC 8504 section 5.3).
const MOST_EXTENSIONS: usize = 8;

/// What one packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// What stands behind the IP headers.
    pub protocol: u8,
    /// Where it stands in its datagram.
    pub part: Part,
    /// The datagram's identification as a number; 0 for IPv6 without a fragment header.
    pub id: u32,
    /// Bytes, by what the header says.
    pub length: usize,
    /// Whether the IP header says how long the packet is, and nothing stands between it and the transport header.
    pub is_bare: bool,
    /// What the transport header says.
    pub transport: Transport,
}

/// What a transport header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Flags.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Whether the header says its length.
        has_length: bool,
    },
    /// SCTP.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP, or ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier, if it is an echo.
        identifier: u16,
        /// Where the packet that it quotes begins, counted from the IP header; `None` for what is no error.
        quote: Option<usize>,
    },
    /// Ports are not to be seen, or there are none.
    Nothing,
}

impl Facts {
    /// Whether it may be read the short way.
    pub const fn is_plain(&self) -> bool {
        self.is_bare
            && matches!(self.part, Part::Whole)
            && match self.transport {
                Transport::Tcp { .. } => true,
                Transport::Udp { has_length, .. } => has_length,
                _ => false,
            }
    }
}

/// Reads a packet that is said to be of one IP version; `None` where it is malformed.
pub fn read(bytes: &[u8], is_v6: bool) -> Option<Facts> {
    if is_v6 { read_v6(bytes) } else { read_v4(bytes) }
}

/// RFC 791.
fn read_v4(bytes: &[u8]) -> Option<Facts> {
    let header = header_v4(bytes)?;
    let field = usize::from(number(bytes, 2)?);
    // Longer than the field can say: the stack has yet to cut it into packets.
    let length = if field == 0 && bytes.len() > 0xffff { bytes.len() } else { field };
    let datagram = bytes.get(..length)?;
    let (options, payload) = (datagram.get(20..header)?, datagram.get(header..)?);
    let (flags_and_offset, protocol) = (number(bytes, 6)?, bytes[9]);
    let offset = flags_and_offset & 0x1fff;
    let part = match (offset, flags_and_offset & 0x2000 != 0) {
        (0, false) => Part::Whole,
        (0, true) => Part::First,
        _ => Part::Later,
    };
    if protocol == ICMPV6 || !are_harmless(options) || protocol == TCP && offset == 1 {
        return None;
    }
    let [source, destination] = addresses_v4(bytes)?;
    Some(Facts {
        source,
        destination,
        hops: bytes[8],
        protocol,
        part,
        id: u32::from(number(bytes, 4)?),
        length,
        is_bare: header == 20 && field != 0,
        transport: transport(payload, header, protocol, part)?,
    })
}

/// The header's length.
fn header_v4(bytes: &[u8]) -> Option<usize> {
    let header = usize::from(bytes.first()? & 0xf) * 4;
    (bytes.len() >= 20 && bytes[0] >> 4 == 4 && header >= 20).then_some(header)
}

fn addresses_v4(bytes: &[u8]) -> Option<[IpAddr; 2]> {
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?)));
    Some([address(12)?, address(16)?])
}

/// RFC 791 section 3.1: options of one byte, options with a length, and an end; and no source routes (RFC 7126).
fn are_harmless(options: &[u8]) -> bool {
    match options {
        [] | [0, ..] => true,
        [1, rest @ ..] => are_harmless(rest),
        [131 | 137, ..] => false,
        [_, length, ..] => *length >= 2 && options.get(usize::from(*length)..).is_some_and(are_harmless),
        [_] => false,
    }
}

/// RFC 8200.
fn read_v6(bytes: &[u8]) -> Option<Facts> {
    let payload = usize::from(number(bytes, 4)?);
    let length = if payload == 0 { bytes.len() } else { 40 + payload };
    let datagram = bytes.get(..length)?;
    let [source, destination] = addresses_v6(datagram)?;
    let is_mapped = |address| matches!(address, IpAddr::V6(v6) if Ipv6Addr::to_ipv4_mapped(&v6).is_some());
    if datagram[0] >> 4 != 6 || is_mapped(source) || is_mapped(destination) {
        return None;
    }
    let Chain { at, protocol, part, id } = chain(datagram, datagram[6])?;
    if protocol == ICMP {
        return None;
    }
    Some(Facts {
        source,
        destination,
        hops: datagram[7],
        protocol,
        part,
        id: id.unwrap_or(0),
        length,
        is_bare: at == 40 && payload != 0,
        transport: transport(datagram.get(at..)?, at, protocol, part)?,
    })
}

fn addresses_v6(bytes: &[u8]) -> Option<[IpAddr; 2]> {
    let address = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?)));
    Some([address(8)?, address(24)?])
}

/// What stands behind IPv6's extension headers.
struct Chain {
    at: usize,
    protocol: u8,
    part: Part,
    id: Option<u32>,
}

fn chain(packet: &[u8], first: u8) -> Option<Chain> {
    let mut chain = Chain { at: 40, protocol: first, part: Part::Whole, id: None };
    for headers in 0.. {
        // Whether anything stands where the last header leads is the caller's to ask: a quote may be cut there.
        let rest = packet.get(chain.at..).unwrap_or_default();
        match chain.protocol {
            0 | 43 | 60 => {
                let header = rest.get(..4)?;
                let length = (usize::from(header[1]) + 1) * 8;
                // A route that goes on (RFC 8200 section 4.4).
                if chain.protocol == 43 && header[3] != 0 {
                    return None;
                }
                chain.at += length;
            }
            // RFC 4302 section 2.2.
            51 => chain.at += (usize::from(rest.get(..4)?[1]) + 2) * 4,
            44 => {
                let (field, id) = (number(rest, 2)?, rest.get(4..8)?);
                chain.id = Some(u32::from_be_bytes(id.try_into().ok()?));
                chain.at += 8;
                if field >> 3 != 0 {
                    // What follows is the first fragment's to say.
                    return Some(Chain { protocol: rest[0], part: Part::Later, ..chain });
                }
                if field & 1 == 1 {
                    chain.part = Part::First;
                }
            }
            _ => return Some(chain),
        }
        if headers == MOST_EXTENSIONS {
            return None;
        }
        chain.protocol = rest[0];
    }
    None
}

fn transport(bytes: &[u8], at: usize, protocol: u8, part: Part) -> Option<Transport> {
    if part == Part::Later {
        return Some(Transport::Nothing);
    }
    Some(match protocol {
        TCP => {
            // RFC 9293 section 3.1. The options may be the next fragment's.
            let header = usize::from(bytes.get(12)? >> 4) * 4;
            if bytes.len() < 20 || header < 20 || part == Part::Whole && header > bytes.len() {
                return None;
            }
            Transport::Tcp { source: number(bytes, 0)?, destination: number(bytes, 2)?, flags: bytes[13] }
        }
        UDP => {
            // RFC 768; 0 is a jumbogram's (RFC 2675 section 4).
            let length = number(bytes, 4)?;
            if bytes.len() < 8 || (1..8).contains(&length) {
                return None;
            }
            Transport::Udp { source: number(bytes, 0)?, destination: number(bytes, 2)?, has_length: length != 0 }
        }
        // RFC 9260 section 3.1.
        SCTP if bytes.len() < 12 => return None,
        SCTP => Transport::Sctp { source: number(bytes, 0)?, destination: number(bytes, 2)? },
        ICMP | ICMPV6 => icmp(bytes.get(..8)?, at, protocol)?,
        _ => Transport::Nothing,
    })
}

/// The first eight bytes of a message of ICMP (RFC 792) or ICMPv6 (RFC 4443), which stands at `at`.
fn icmp(bytes: &[u8], at: usize, protocol: u8) -> Option<Transport> {
    let kind = bytes[0];
    let is_error = if protocol == ICMP { [3, 4, 5, 11, 12].contains(&kind) } else { (1..=4).contains(&kind) };
    // 0 counts as 1: as a port it would not tell the end that asks.
    let identifier = number(bytes, 4)?.max(1);
    Some(Transport::Icmp { kind, code: bytes[1], identifier, quote: is_error.then_some(at + 8) })
}

/// The packet that an error quotes: addresses, protocol, and what the first eight bytes behind its headers say. `None` where
/// that is not there. The quote may run on into what pads the frame: whoever sends it could have quoted the same within.
pub fn quoted(bytes: &[u8], is_v6: bool) -> Option<([IpAddr; 2], u8, Transport)> {
    let (addresses, at, protocol, part) = if is_v6 {
        let chain = chain(bytes, *bytes.get(6)?)?;
        (addresses_v6(bytes)?, chain.at, chain.protocol, chain.part)
    } else {
        let later = number(bytes, 6)? & 0x1fff != 0;
        (addresses_v4(bytes)?, header_v4(bytes)?, bytes[9], if later { Part::Later } else { Part::Whole })
    };
    if bytes[0] >> 4 != if is_v6 { 6 } else { 4 } || part == Part::Later {
        return None;
    }
    let bytes = bytes.get(at..).unwrap_or_default();
    let transport = match protocol {
        TCP => Transport::Tcp { source: number(bytes, 0)?, destination: number(bytes, 2)?, flags: 0 },
        UDP => Transport::Udp { source: number(bytes, 0)?, destination: number(bytes, 2)?, has_length: true },
        SCTP => Transport::Sctp { source: number(bytes, 0)?, destination: number(bytes, 2)? },
        ICMP | ICMPV6 => icmp(bytes.get(..8)?, at, protocol)?,
        _ => Transport::Nothing,
    };
    Some((addresses, protocol, transport))
}

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// IP of this version (6 or not), behind so many bytes.
    Ip(bool, usize),
    /// ARP.
    Arp,
    /// Something else, of this ethertype.
    Other(u16),
}

/// IEEE 802.3, behind up to two tags of 802.1Q or 802.1ad. `None` for a frame that ends before.
pub fn frame(bytes: &[u8]) -> Option<Carried> {
    let mut at = 12;
    for _ in 0..2 {
        if [0x8100, 0x88a8].contains(&number(bytes, at)?) {
            at += 4;
        }
    }
    Some(match number(bytes, at)? {
        0x0800 => Carried::Ip(false, at + 2),
        0x86dd => Carried::Ip(true, at + 2),
        0x0806 => Carried::Arp,
        other => Carried::Other(other),
    })
}

/// Two bytes in network order.
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
