//! From bytes to what a decision needs: addresses, ports, and what kind of packet it is.
//!
//! Parsing fails closed: whatever is truncated, contradictory or too deep is [`Reason::Malformed`], and the hook decides by
//! whether the workload is governed.

#[cfg(any(test, feature = "user"))]
pub mod build;
mod icmp;
mod ip4;
mod ip6;
mod link;
mod plain;
mod transport;

pub use icmp::is_never_cut;
pub use ip4::options_are_harmless;
pub use ip6::{Headers, extensions};
pub use link::{ETHERNET, Frame, Network, network, network_untagged};
pub use plain::plain;

use crate::abi::{Address, End, FlowKey, Fragment, FragmentKey, PortIndex, Reason};

/// Reads a packet's bytes. Offsets count from the start of what the hook sees: the IP header at cgroup hooks, the Ethernet
/// header elsewhere.
pub trait Bytes {
    /// `N` words at byte offset `at`, each as it lies in the packet (network order); `None` past the end.
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]>;
    /// Bytes in all.
    fn length(&self) -> u32;
    /// Whether there are at least `end` bytes.
    #[inline(always)]
    fn reaches(&self, end: u32) -> bool {
        end <= self.length()
    }
    /// [`options_are_harmless`]; a hook may call it as a function of its own, which the verifier then walks through once.
    fn options_are_harmless(&self, at: u32, header: u32) -> bool {
        options_are_harmless(self, at, header)
    }
    /// [`extensions`], as above.
    fn extensions(&self, at: u32, protocol: u8) -> Option<Headers> {
        extensions(self, at, protocol)
    }
}

impl Bytes for [u8] {
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let at = usize::try_from(at).ok()?;
        let bytes = self.get(at..at.checked_add(N * 4)?)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Some(words)
    }

    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}

/// TCP's FIN, SYN, RST and ACK bits (RFC 9293 section 3.1).
pub mod tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
}

/// IP protocol numbers that are treated in a way of their own (IANA, Protocol Numbers).
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Where a packet stands in a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Not fragmented.
    Whole,
    /// The first fragment, with the transport header.
    First,
    /// A later fragment: no ports.
    Later,
}

/// What one packet says. Its addresses and ports stand in the order of its flow's key alone, as a program's stack is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its flow: addresses, ports and protocol.
    pub key: FlowKey,
    /// The end that sent it, as a number ([`Self::sender`]): the verifier knows nothing of what a function reads from its
    /// caller's packet, and the compiler would take an [`End`] for 0 or 1 without a look.
    sender: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// Whether it is a fragment.
    pub part: Part,
    /// What a rule's `ports` are compared with: the destination port, or ICMP type (high byte) and code, in host order.
    pub detail: u16,
    /// Not 0 where a moment ago there was no embryo of its flow: it is not looked for again. A number, as the verifier would
    /// follow both values of a [`bool`] through everything that comes after it.
    pub no_embryo: u16,
    /// Identification of a fragment, as it stands in the header.
    pub fragment_id: u32,
    /// Offset of the IP header that an ICMP error quotes; 0 for anything else.
    pub quote: u32,
    /// Bytes from the IP header on.
    pub length: u32,
    /// The identity behind the local end's address; the decision fills it in, where there are guardrails to ask.
    pub here: u32,
}

impl Packet {
    /// Nothing: what a packet is parsed into.
    pub const EMPTY: Self = Self {
        key: FlowKey::EMPTY,
        sender: End::Low as u8,
        tcp_flags: 0,
        hops: 0,
        part: Part::Whole,
        detail: 0,
        fragment_id: 0,
        quote: 0,
        length: 0,
        no_embryo: 0,
        here: 0,
    };

    /// The end that sent it.
    #[inline(always)]
    #[must_use]
    pub const fn sender(&self) -> End {
        if self.sender == End::Low as u8 { End::Low } else { End::High }
    }

    /// Source address.
    #[inline(always)]
    #[must_use]
    pub const fn source(&self) -> &Address {
        self.key.address(self.sender())
    }

    /// Destination address.
    #[inline(always)]
    #[must_use]
    pub const fn destination(&self) -> &Address {
        self.key.address(self.sender().other())
    }

    /// Source port, in network order; of an ICMP echo request its identifier; 0 where there is none.
    #[inline(always)]
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.key.port(self.sender())
    }

    /// Destination port, in network order; of an ICMP echo reply its identifier; 0 where there is none.
    #[inline(always)]
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        self.key.port(self.sender().other())
    }

    /// IP protocol number.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.key.protocol()
    }

    /// A whole packet of these ends and this service, without anything else to it.
    #[inline(always)]
    #[must_use]
    pub fn new(protocol: u8, source: (&Address, u16), destination: (&Address, u16), detail: u16) -> Self {
        let (key, sender) = FlowKey::new(protocol, source, destination);
        Self { key, sender: sender as u8, detail, ..Self::EMPTY }
    }

    /// Gives the packet the ports and the protocol of its datagram.
    #[inline(always)]
    pub(crate) fn complete(&mut self, first: &Fragment) {
        let [source, destination] = first.ports;
        self.sender = self.key.complete(self.sender(), first.protocol, source, destination) as u8;
        self.detail = first.detail;
    }

    /// The service that the packet addresses, taken as its flow's first.
    #[inline(always)]
    #[must_use]
    pub const fn service(&self) -> PortIndex {
        PortIndex::new(self.protocol(), self.detail)
    }

    /// A SYN without ACK: the first segment of a TCP connection.
    #[inline(always)]
    #[must_use]
    pub const fn opens_tcp(&self) -> bool {
        self.protocol() == protocol::TCP && self.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN
    }

    /// Whether there can be a reply to it: of ICMP's messages only to an echo request. The others are judged one by one.
    #[inline(always)]
    #[must_use]
    pub const fn may_be_replied_to(&self) -> bool {
        match self.protocol() {
            protocol::ICMP => self.detail >> 8 == 8,
            protocol::ICMPV6 => self.detail >> 8 == 128,
            _ => true,
        }
    }

    /// The key of the datagram that a fragment belongs to.
    #[inline(always)]
    #[must_use]
    pub const fn fragment_key(&self) -> FragmentKey {
        FragmentKey {
            addresses: [*self.source(), *self.destination()],
            id: self.fragment_id,
            protocol: if self.source().is_v4() { self.protocol() } else { 0 },
            reserved: [0; 3],
        }
    }
}

/// Parses the packet whose IP header stands at `at`.
///
/// # Errors
/// [`Reason::Malformed`] where headers are truncated, contradict each other or are too many.
#[inline(always)]
pub fn parse<B: Bytes + ?Sized>(bytes: &B, at: u32, network: Network) -> Result<Packet, Reason> {
    match network {
        Network::Ip4 => ip4::parse(bytes, at),
        Network::Ip6 => ip6::parse(bytes, at),
    }
}

/// The flow that an ICMP error quotes, and the end that sent the quoted packet. RFC 792 promises the IP header and eight
/// bytes: enough for ports.
#[inline(always)]
pub fn parse_quote<B: Bytes + ?Sized>(bytes: &B, error: &Packet) -> Option<(FlowKey, End)> {
    if error.quote == 0 {
        return None;
    }
    if error.source().is_v4() { ip4::parse_quote(bytes, error.quote) } else { ip6::parse_quote(bytes, error.quote) }
}

#[cfg(test)]
mod tests;
