//! IPv4 (RFC 791): header, options by length, fragments.

use super::transport::{self, Transport};
use super::{Bytes, Packet, Part, protocol};
use crate::abi::{Address, End, FlowKey, Reason};

const MORE_FRAGMENTS: u32 = 0x2000;
const FRAGMENT_OFFSET: u32 = 0x1fff;

/// Option types (IANA, IP Option Numbers).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
/// The header has room for 40 bytes of options, and the shortest option is one byte.
const MAX_OPTIONS: u32 = 40;

#[inline(always)]
pub(super) fn parse<B: Bytes + ?Sized>(bytes: &B, at: u32) -> Result<Packet, Reason> {
    let [word0, word1, word2, source, destination] = bytes.words::<5>(at).ok_or(Reason::Malformed)?;
    let (word0, word1, word2) = (u32::from_be(word0), u32::from_be(word1), u32::from_be(word2));
    let available = bytes.length().saturating_sub(at);
    let header = (word0 >> 24 & 0xf) * 4;
    let total = total_length(word0 & 0xffff, available);
    if word0 >> 28 != 4 || header < 20 || total < header || total > available {
        return Err(Reason::Malformed);
    }
    let protocol_number = (word2 >> 16 & 0xff) as u8;
    // ICMPv6 is no protocol of IPv4: its types must not lend their meaning to such a packet.
    if protocol_number == protocol::ICMPV6 || (header > 20 && !bytes.options_are_harmless(at, header)) {
        return Err(Reason::Malformed);
    }
    let offset = word1 & FRAGMENT_OFFSET;
    let part = match (offset, word1 & MORE_FRAGMENTS) {
        (0, 0) => Part::Whole,
        (0, _) => Part::First,
        // A TCP fragment at offset 1 would overwrite the flags of the first (RFC 1858 section 4).
        (1, _) if protocol_number == protocol::TCP => return Err(Reason::Malformed),
        _ => Part::Later,
    };
    let transport = match part {
        Part::Later => Transport::NONE,
        _ => transport::parse(bytes, at + header, total - header, protocol_number, part)?,
    };
    let (source, destination) = (address(source), address(destination));
    let (key, sender) =
        FlowKey::new(protocol_number, (&source, transport.source_port), (&destination, transport.destination_port));
    Ok(Packet {
        key,
        sender: sender as u8,
        tcp_flags: transport.tcp_flags,
        hops: (word2 >> 24) as u8,
        part,
        detail: transport.detail,
        fragment_id: word1 >> 16,
        quote: transport.quote,
        length: total,
        no_embryo: 0,
        here: 0,
    })
}

#[inline(always)]
pub(super) fn parse_quote<B: Bytes + ?Sized>(bytes: &B, at: u32) -> Option<(FlowKey, End)> {
    let [word0, word1, word2, source, destination] = bytes.words::<5>(at)?;
    let header = (u32::from_be(word0) >> 24 & 0xf) * 4;
    if u32::from_be(word0) >> 28 != 4 || header < 20 || u32::from_be(word1) & FRAGMENT_OFFSET != 0 {
        return None;
    }
    let protocol_number = (u32::from_be(word2) >> 16 & 0xff) as u8;
    let (source_port, destination_port) = transport::quoted_ports(bytes, at + header, protocol_number)?;
    let (source, destination) = (address(source), address(destination));
    Some(FlowKey::new(protocol_number, (&source, source_port), (&destination, destination_port)))
}

/// Whether the options of the header at `at`, which is `header` bytes long, make sense and none of them is a source route, with which the packet would go on to somebody else
/// than its destination (RFC 7126 sections 4.3 and 4.4 recommend to drop those).
#[inline(always)]
pub fn options_are_harmless<B: Bytes + ?Sized>(bytes: &B, at: u32, header: u32) -> bool {
    let mut offset = 20;
    let mut steps = 0;
    while offset < header && steps < MAX_OPTIONS {
        steps += 1;
        // A word that ends with the byte is within the packet wherever the byte is.
        let Some([kind]) = bytes.words::<1>(at + offset - 3) else { return false };
        match (u32::from_be(kind) & 0xff) as u8 {
            END_OF_OPTIONS => return true,
            NO_OPERATION => offset += 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return false,
            _ => {
                let Some([length]) = bytes.words::<1>(at + offset - 2) else { return false };
                let length = u32::from_be(length) & 0xff;
                if length < 2 || offset + length > header {
                    return false;
                }
                offset += length;
            }
        }
    }
    offset == header
}

#[inline(always)]
const fn address(word: u32) -> Address {
    Address::v4(word.to_ne_bytes())
}

/// A segment of more than 64 KiB that the stack has yet to cut (BIG TCP) says 0; its buffer knows better
/// (`iph_totlen` in include/net/ip.h).
#[inline(always)]
const fn total_length(field: u32, available: u32) -> u32 {
    if field == 0 && available > 0xffff { available } else { field }
}
