//! Fragments: later ones carry no ports, so the first one's are remembered.

use super::Address;

/// Entries of the map `FRAGMENTS`. When it is full the oldest datagram gives way (an LRU map); its later fragments are
/// denied as unseen.
pub const FRAGMENTS: u32 = 8_192;

/// Key of `FRAGMENTS`: one datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source and destination.
    pub addresses: [Address; 2],
    /// Identification, as it stands in the header.
    pub id: u32,
    /// IP protocol number for IPv4; 0 for IPv6, where it is no part of the key.
    pub protocol: u8,
    /// Always 0.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<FragmentKey>() == 40);

/// Value of `FRAGMENTS`: what the first fragment said.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Source and destination port in network order, or what stands for them in [`super::FlowKey`].
    pub ports: [u16; 2],
    /// The port index's detail: the destination port, or ICMP type and code, in host order.
    pub detail: u16,
    /// IP protocol number: behind an IPv6 fragment header further headers may stand before it.
    pub protocol: u8,
    /// Always 0.
    pub reserved: u8,
}

const _: () = assert!(size_of::<Fragment>() == 8);
