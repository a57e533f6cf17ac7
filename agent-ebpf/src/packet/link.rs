//! Ethernet: which network protocol a frame carries, behind at most two VLAN tags.

use super::Bytes;

/// The network protocols that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4.
    Ip4,
    /// IPv6.
    Ip6,
}

/// Ethertypes (IANA, IEEE 802 Numbers).
const IP4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IP6: u16 = 0x86dd;
const QINQ: u16 = 0x88a8;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET: u32 = 14;
const TAG: u32 = 4;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// IP, its header at this offset.
    Ip(Network, u32),
    /// ARP, never cut.
    Arp,
    /// Anything else.
    Other,
}

/// Looks behind the Ethernet header and up to two VLAN tags (IEEE 802.1Q, 802.1ad). `None` for a truncated frame.
#[inline(always)]
pub fn network<B: Bytes + ?Sized>(bytes: &B) -> Option<Frame> {
    let mut at = ETHERNET;
    // The ethertype is the upper half of the word that ends at the header's end; it is read together with what stands
    // before it, so that the shortest frame is enough.
    let mut ethertype = ethertype_before(bytes, at)?;
    let mut tags = 0;
    while tags < 2 && (ethertype == VLAN || ethertype == QINQ) {
        at += TAG;
        ethertype = ethertype_before(bytes, at)?;
        tags += 1;
    }
    Some(match ethertype {
        IP4 => Frame::Ip(Network::Ip4, at),
        IP6 => Frame::Ip(Network::Ip6, at),
        ARP => Frame::Arp,
        _ => Frame::Other,
    })
}

/// The same for a frame without tags; what a tagged one carries is [`Frame::Other`].
#[inline(always)]
pub fn network_untagged<B: Bytes + ?Sized>(bytes: &B) -> Option<Frame> {
    Some(match ethertype_before(bytes, ETHERNET)? {
        IP4 => Frame::Ip(Network::Ip4, ETHERNET),
        IP6 => Frame::Ip(Network::Ip6, ETHERNET),
        ARP => Frame::Arp,
        _ => Frame::Other,
    })
}

#[inline(always)]
fn ethertype_before<B: Bytes + ?Sized>(bytes: &B, at: u32) -> Option<u16> {
    let [word] = bytes.words::<1>(at - 4)?;
    Some((u32::from_be(word) & 0xffff) as u16)
}
