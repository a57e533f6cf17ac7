//! The packets that most are: whole, TCP or UDP, without options or extension headers. The established path needs no more
//! than their flow, and the full parser has the last word on all others.

use super::{Bytes, Network, Packet, Part, protocol, tcp};
use crate::abi::{Address, End, FlowKey};

/// What the established path needs of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Its flow.
    pub key: FlowKey,
    /// The end that sent it.
    pub sender: End,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Bytes from the IP header on.
    pub length: u32,
}

impl Plain {
    /// The same of a packet that was parsed in full. `None` where more than the flow has to be looked at: a fragment, an ICMP
    /// error, a segment that opens a connection.
    #[inline(always)]
    #[must_use]
    pub fn of(packet: &Packet) -> Option<Self> {
        if packet.part != Part::Whole || packet.quote != 0 || packet.opens_tcp() {
            return None;
        }
        Some(Self { key: packet.key, sender: packet.sender(), tcp_flags: packet.tcp_flags, length: packet.length })
    }
}

/// Reads a plain packet; `None` for any other, the malformed ones included.
#[inline(always)]
pub fn plain<B: Bytes + ?Sized>(bytes: &B, at: u32, network: Network) -> Option<Plain> {
    match network {
        Network::Ip4 => {
            let [word0, word1, word2, source, destination] = bytes.words::<5>(at)?;
            let (word0, word1) = (u32::from_be(word0), u32::from_be(word1));
            // Version 4 and a header of five words; neither a fragment nor the first of some.
            if word0 >> 24 != 0x45 || word1 & 0x3fff != 0 {
                return None;
            }
            let protocol_number = (u32::from_be(word2) >> 16 & 0xff) as u8;
            let (source, destination) = (Address::v4(source.to_ne_bytes()), Address::v4(destination.to_ne_bytes()));
            transport(bytes, at, 20, word0 & 0xffff, protocol_number, &source, &destination)
        }
        Network::Ip6 => {
            let words = bytes.words::<10>(at)?;
            let second = u32::from_be(words[1]);
            let source = Address::from_words([words[2], words[3], words[4], words[5]]);
            let destination = Address::from_words([words[6], words[7], words[8], words[9]]);
            if u32::from_be(words[0]) >> 28 != 6 || source.is_v4() || destination.is_v4() || second >> 16 == 0 {
                return None;
            }
            let protocol_number = (second >> 8 & 0xff) as u8;
            transport(bytes, at, 40, 40 + (second >> 16), protocol_number, &source, &destination)
        }
    }
}

#[inline(always)]
fn transport<B: Bytes + ?Sized>(
    bytes: &B,
    at: u32,
    header: u32,
    total: u32,
    protocol_number: u8,
    source: &Address,
    destination: &Address,
) -> Option<Plain> {
    if total < header + 8 {
        return None;
    }
    let (ports, tcp_flags) = match protocol_number {
        protocol::TCP => {
            let [ports, _sequence, _acknowledgement, word3] = bytes.words::<4>(at + header)?;
            let word3 = u32::from_be(word3);
            let (length, flags) = ((word3 >> 28) * 4, (word3 >> 16 & 0xff) as u8);
            if length < 20 || length > total - header || flags & (tcp::SYN | tcp::ACK) == tcp::SYN {
                return None;
            }
            (ports, flags)
        }
        protocol::UDP => {
            let [ports, word1] = bytes.words::<2>(at + header)?;
            if u32::from_be(word1) >> 16 < 8 {
                return None;
            }
            (ports, 0)
        }
        _ => return None,
    };
    // After the reads: a compiler that knew of it would drop their own checks, which the verifier insists on.
    if !bytes.reaches(at + total) {
        return None;
    }
    let ports = ports.to_ne_bytes();
    let source_port = u16::from_ne_bytes([ports[0], ports[1]]);
    let destination_port = u16::from_ne_bytes([ports[2], ports[3]]);
    let (key, sender) = FlowKey::new(protocol_number, (source, source_port), (destination, destination_port));
    Some(Plain { key, sender, tcp_flags, length: total })
}
