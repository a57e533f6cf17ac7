//! The packets that most are: whole, TCP or UDP, without options or extension headers. They are read in one go, where they lie,
//! and the full parser has the last word on all others.

use super::{Bytes, Network, Packet, Part, protocol};
use crate::abi::{Address, FlowKey};

/// Reads a plain packet; `None` for any other, the malformed ones included.
#[inline(always)]
pub fn plain<B: Bytes + ?Sized>(bytes: &B, at: u32, network: Network) -> Option<Packet> {
    match network {
        Network::Ip4 => {
            let [word0, word1, word2, source, destination] = bytes.words::<5>(at)?;
            let (word0, word1) = (u32::from_be(word0), u32::from_be(word1));
            // Version 4 and a header of five words; neither a fragment nor the first of some.
            if word0 >> 24 != 0x45 || word1 & 0x3fff != 0 {
                return None;
            }
            let word2 = u32::from_be(word2);
            let (hops, protocol_number) = ((word2 >> 24) as u8, (word2 >> 16 & 0xff) as u8);
            let (source, destination) = (Address::v4(source.to_ne_bytes()), Address::v4(destination.to_ne_bytes()));
            transport(bytes, at, 20, word0 & 0xffff, word1 >> 16, hops, protocol_number, &source, &destination)
        }
        Network::Ip6 => {
            let words = bytes.words::<10>(at)?;
            let second = u32::from_be(words[1]);
            let source = Address::from_words([words[2], words[3], words[4], words[5]]);
            let destination = Address::from_words([words[6], words[7], words[8], words[9]]);
            if u32::from_be(words[0]) >> 28 != 6 || source.is_v4() || destination.is_v4() || second >> 16 == 0 {
                return None;
            }
            let (hops, protocol_number) = ((second & 0xff) as u8, (second >> 8 & 0xff) as u8);
            transport(bytes, at, 40, 40 + (second >> 16), 0, hops, protocol_number, &source, &destination)
        }
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "what the network header says; a struct would hide nothing")]
fn transport<B: Bytes + ?Sized>(
    bytes: &B,
    at: u32,
    header: u32,
    total: u32,
    fragment_id: u32,
    hops: u8,
    protocol_number: u8,
    source: &Address,
    destination: &Address,
) -> Option<Packet> {
    if total < header + 8 {
        return None;
    }
    let (ports, tcp_flags) = match protocol_number {
        protocol::TCP => {
            let [ports, _sequence, _acknowledgement, word3] = bytes.words::<4>(at + header)?;
            let word3 = u32::from_be(word3);
            let (length, flags) = ((word3 >> 28) * 4, (word3 >> 16 & 0xff) as u8);
            if length < 20 || length > total - header {
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
    let (key, sender) = FlowKey::of_ports(protocol_number, source, destination, ports);
    Some(Packet {
        key,
        sender: sender as u8,
        tcp_flags,
        hops,
        part: Part::Whole,
        detail: (u32::from_be(ports) & 0xffff) as u16,
        fragment_id,
        quote: 0,
        length: total,
        no_embryo: 0,
        here: 0,
    })
}
