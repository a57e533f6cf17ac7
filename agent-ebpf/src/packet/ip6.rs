//! IPv6 (RFC 8200): header, extension headers, fragments.

use super::transport::{self, Transport};
use super::{Bytes, Packet, Part, protocol};
use crate::abi::{Address, End, FlowKey, Reason};

/// Extension headers that are followed; a packet with more is malformed. RFC 8504 section 5.3 lets a host set such a limit
/// and proposes 8.
const MAX_EXTENSIONS: usize = 8;
const HEADER: u32 = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
pub(super) fn parse<B: Bytes + ?Sized>(bytes: &B, at: u32) -> Result<Packet, Reason> {
    let words = bytes.words::<10>(at).ok_or(Reason::Malformed)?;
    let available = bytes.length().saturating_sub(at);
    let second = u32::from_be(words[1]);
    let payload = second >> 16;
    // 0 is a jumbogram (RFC 2675) or a segment that the stack has yet to cut; its buffer knows the length.
    let total = if payload == 0 { available } else { HEADER + payload };
    let source = Address::from_words([words[2], words[3], words[4], words[5]]);
    let destination = Address::from_words([words[6], words[7], words[8], words[9]]);
    // An IPv4-mapped address on the wire would pass for the IPv4 address (RFC 4942 section 2.2).
    if u32::from_be(words[0]) >> 28 != 6 || total > available || source.is_v4() || destination.is_v4() {
        return Err(Reason::Malformed);
    }
    let end = at + total;
    let headers = bytes.extensions(at + HEADER, (second >> 8 & 0xff) as u8).ok_or(Reason::Malformed)?;
    // ICMP is no protocol of IPv6: its types must not lend their meaning to such a packet.
    if headers.at > end || headers.protocol == protocol::ICMP {
        return Err(Reason::Malformed);
    }
    let fragment_id = match headers.fragment_id_at {
        0 => 0,
        at => bytes.words::<1>(at).ok_or(Reason::Malformed)?[0],
    };
    let transport = match headers.part {
        Part::Later => Transport::NONE,
        part => transport::parse(bytes, headers.at, end - headers.at, headers.protocol, part)?,
    };
    let (key, sender) =
        FlowKey::new(headers.protocol, (&source, transport.source_port), (&destination, transport.destination_port));
    Ok(Packet {
        key,
        sender: sender as u8,
        tcp_flags: transport.tcp_flags,
        hops: (second & 0xff) as u8,
        part: headers.part,
        detail: transport.detail,
        fragment_id,
        quote: transport.quote,
        length: total,
        no_embryo: 0,
        here: 0,
    })
}

#[inline(always)]
pub(super) fn parse_quote<B: Bytes + ?Sized>(bytes: &B, at: u32) -> Option<(FlowKey, End)> {
    let words = bytes.words::<10>(at)?;
    if u32::from_be(words[0]) >> 28 != 6 {
        return None;
    }
    let headers = bytes.extensions(at + HEADER, (u32::from_be(words[1]) >> 8 & 0xff) as u8)?;
    if headers.part == Part::Later {
        return None;
    }
    let (source_port, destination_port) = transport::quoted_ports(bytes, headers.at, headers.protocol)?;
    let source = Address::from_words([words[2], words[3], words[4], words[5]]);
    let destination = Address::from_words([words[6], words[7], words[8], words[9]]);
    Some(FlowKey::new(headers.protocol, (&source, source_port), (&destination, destination_port)))
}

/// What stands behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Offset of the transport header, or of a later fragment's bytes.
    pub at: u32,
    /// Protocol number of what stands there.
    pub protocol: u8,
    /// Where the packet stands in its datagram.
    pub part: Part,
    /// Offset of the fragment header's identification; 0 without one.
    pub fragment_id_at: u32,
}

impl Headers {
    /// As one number, which is never 0. Offsets are below 2^16: a packet's headers are at most `MAX_EXTENSIONS` + 1 times
    /// 2,048 bytes.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        let part = match self.part {
            Part::Whole => 1,
            Part::First => 2,
            Part::Later => 3,
        };
        (self.at as u64 & 0xffff) << 16
            | self.fragment_id_at as u64 & 0xffff
            | (self.protocol as u64) << 32
            | part << 40
    }

    /// From one number; 0 is `None`.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Option<Self> {
        let part = match number >> 40 {
            0 => return None,
            1 => Part::Whole,
            2 => Part::First,
            _ => Part::Later,
        };
        let (at, fragment_id_at) = ((number >> 16 & 0xffff) as u32, (number & 0xffff) as u32);
        Some(Self { at, protocol: (number >> 32) as u8, part, fragment_id_at })
    }
}

/// Walks the extension headers, of which the first is at `at` and of this number. `None` where they are truncated, too many,
/// or a route that goes on.
#[inline(always)]
pub fn extensions<B: Bytes + ?Sized>(bytes: &B, mut at: u32, mut protocol: u8) -> Option<Headers> {
    let mut part = Part::Whole;
    let mut fragment_id_at = 0;
    let mut seen = 0;
    while seen <= MAX_EXTENSIONS {
        seen += 1;
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION => {
                let [word] = bytes.words::<1>(at)?;
                let word = u32::from_be(word);
                // Segments left: the packet goes on to somebody else than its destination (RFC 8200 section 4.4).
                if protocol == ROUTING && word & 0xff != 0 {
                    return None;
                }
                let length = word >> 16 & 0xff;
                at += if protocol == AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
                protocol = (word >> 24) as u8;
            }
            FRAGMENT => {
                let [word, _id] = bytes.words::<2>(at)?;
                let word = u32::from_be(word);
                let (offset, more) = (word >> 3 & 0x1fff, word & 1);
                fragment_id_at = at + 4;
                at += 8;
                protocol = (word >> 24) as u8;
                if offset != 0 {
                    part = Part::Later;
                    break;
                }
                // Offset 0 without more to come is an atomic fragment (RFC 6946): a whole packet.
                if more == 1 {
                    part = Part::First;
                }
            }
            _ => return Some(Headers { at, protocol, part, fragment_id_at }),
        }
    }
    // Either a later fragment, whose upper protocol only the first one knows, or too many headers.
    (part == Part::Later).then_some(Headers { at, protocol, part, fragment_id_at })
}
