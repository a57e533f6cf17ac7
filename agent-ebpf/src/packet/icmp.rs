//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo as a flow, errors as part of the flow that they quote, and what is never cut.

use super::transport::Transport;
use super::{Bytes, Packet, Part, protocol};
use crate::abi::{Direction, Reason};

#[inline(always)]
pub(super) fn parse<B: Bytes + ?Sized>(
    bytes: &B,
    at: u32,
    length: u32,
    protocol_number: u8,
) -> Result<Transport, Reason> {
    let [word0, word1] = bytes.words::<2>(at).ok_or(Reason::Malformed)?;
    if length < 8 {
        return Err(Reason::Malformed);
    }
    let detail = (u32::from_be(word0) >> 16) as u16;
    let kind = (detail >> 8) as u8;
    let (request, reply) = if protocol_number == protocol::ICMP { (8, 0) } else { (128, 129) };
    let is_error =
        if protocol_number == protocol::ICMP { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { matches!(kind, 1..=4) };
    // Request and reply share the identifier, so it stands in for the port of the end that asks: a ping and its answer are
    // one flow, pings both ways are two. Any other message is a flow of its type and code. An identifier of 0, by which the
    // ends could not be told apart, counts as 1.
    let identifier = ((u32::from_be(word1) >> 16) as u16).max(1).to_be();
    let (source_port, destination_port) = if kind == request {
        (identifier, 0)
    } else if kind == reply {
        (0, identifier)
    } else {
        (detail.to_be(), detail.to_be())
    };
    let quote = if is_error { at + 8 } else { 0 };
    Ok(Transport { source_port, destination_port, detail, tcp_flags: 0, quote })
}

/// Neighbour discovery (RFC 4861), DHCP on the workload's own link, and the ICMPv6 messages that RFC 4890 section 4.4.1
/// says must not be dropped, echo aside: rules decide on echo, as on IPv4.
///
/// What only means something on the link must be unable to leave it, and an error that goes out must belong to a flow
/// ([`super::parse_quote`]): a sender that makes its own packets could otherwise carry data in them to anybody.
#[inline(always)]
#[must_use]
pub fn is_never_cut(packet: &Packet, direction: Direction) -> bool {
    match packet.protocol() {
        protocol::ICMPV6 => {
            let kind = (packet.detail >> 8) as u8;
            // Neighbour discovery in fragments is to be ignored (RFC 6980 section 5).
            let is_whole = matches!(packet.part, Part::Whole);
            match kind {
                1..=4 => matches!(direction, Direction::Ingress),
                // Multicast listener discovery (RFC 3810 section 5), multicast router discovery (RFC 4286 section 3).
                130..=132 | 143 | 151..=153 => packet.hops == 1 && is_whole,
                // Neighbour discovery never crosses a router: its hop limit is still 255 (RFC 4861 section 3.1).
                133..=137 | 141 | 142 | 148 | 149 => packet.hops == 255 && is_whole,
                _ => false,
            }
        }
        protocol::UDP => is_dhcp(packet, direction),
        _ => false,
    }
}

/// DHCP (RFC 2131) to the broadcast address, DHCPv6 (RFC 8415) to the link's servers and relays, and their answers.
#[inline(always)]
fn is_dhcp(packet: &Packet, direction: Direction) -> bool {
    const ALL_ONES: [u8; 4] = [255; 4];
    const ALL_SERVERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
    let (source, destination) = (u16::from_be(packet.source_port()), u16::from_be(packet.destination_port()));
    match (direction, source, destination) {
        (Direction::Egress, 68, 67) => *packet.destination() == crate::abi::Address::v4(ALL_ONES),
        (Direction::Ingress, 67, 68) => packet.source().is_v4(),
        (Direction::Egress, 546, 547) => *packet.destination() == crate::abi::Address::v6(ALL_SERVERS),
        (Direction::Ingress, 547, 546) => packet.source().is_link_local(),
        _ => false,
    }
}
