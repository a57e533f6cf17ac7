//! Packets as plain data: what they say, and where they were met.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_ebpf::abi::Direction;

/// IP protocol numbers (IANA).
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const TCP: u8 = 6;
/// See [`ICMP`].
pub const UDP: u8 = 17;
/// See [`ICMP`].
pub const ICMPV6: u8 = 58;
/// See [`ICMP`].
pub const SCTP: u8 = 132;

/// TCP flags (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// See [`FIN`].
pub const SYN: u8 = 0x02;
/// See [`FIN`].
pub const RST: u8 = 0x04;
/// See [`FIN`].
pub const ACK: u8 = 0x10;

/// One packet at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it is met.
    pub spot: Spot,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// What it carries.
    pub message: Message,
    /// IPv4's TTL or IPv6's hop limit.
    pub hops: u8,
    /// The identification, where the datagram comes in fragments.
    pub fragment: Option<u32>,
    /// Whether it wears what changes nothing: a VLAN tag, IP options or extension headers.
    pub dressed: bool,
}

/// A hook, with what it knows of the local side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// Leaves a process of this cgroup (its path below the root).
    CgroupEgress {
        /// Path.
        cgroup: String,
        /// On the loopback device.
        loopback: bool,
    },
    /// Reaches a process of this cgroup.
    CgroupIngress {
        /// Path.
        cgroup: String,
        /// On the loopback device.
        loopback: bool,
    },
    /// Comes out of the workload behind this interface.
    TcEgress {
        /// Index.
        interface: u32,
    },
    /// Goes to the workload behind this interface.
    TcIngress {
        /// Index.
        interface: u32,
    },
    /// Arrives at an uplink.
    Xdp,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A TCP segment.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// [`SYN`] and so on.
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// An SCTP packet.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP or, between IPv6 addresses, ICMPv6, of a kind that quotes nothing.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Identifier, of requests and their answers.
        identifier: u16,
    },
    /// An ICMP or ICMPv6 error.
    IcmpError {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The packet that it is about; `None` where that can't be read.
        quote: Option<Box<Quote>>,
    },
    /// Another protocol.
    Other(u8),
    /// A fragment that is not its datagram's first.
    LaterFragment {
        /// The protocol, as far as the header says.
        protocol: u8,
    },
    /// Truncated or impossible headers of this protocol, behind an IP header that can be read.
    Malformed {
        /// The protocol.
        protocol: u8,
    },
    /// Neither IP nor ARP.
    NotIp {
        /// Ethertype.
        ethertype: u16,
    },
    /// ARP.
    Arp,
}

/// The packet that an ICMP error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its source address.
    pub source: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// What it carried; nothing that quotes, is broken or is a later fragment.
    pub message: Message,
}

impl Quote {
    /// The quoted packet, met where the error is met.
    #[must_use]
    pub fn as_packet(&self, error: &Packet) -> Packet {
        Packet {
            spot: error.spot.clone(),
            source: self.source,
            destination: self.destination,
            message: self.message.clone(),
            hops: 64,
            fragment: None,
            dressed: false,
        }
    }
}

/// What a rule's `ports` are compared with: what the packet that opens a flow is addressed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// A destination port.
    Number {
        /// TCP, UDP or SCTP.
        protocol: u8,
        /// The port.
        port: u16,
    },
    /// An ICMP message.
    Icmp {
        /// ICMP or ICMPv6.
        protocol: u8,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A protocol without ports.
    Other(u8),
}

impl Port {
    /// IP protocol number.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        match self {
            Self::Number { protocol, .. } | Self::Icmp { protocol, .. } | Self::Other(protocol) => *protocol,
        }
    }
}

/// Type of the echo request of each ICMP (RFC 792, RFC 4443), and of its answer.
#[must_use]
pub const fn echo(protocol: u8) -> (u8, u8) {
    if protocol == ICMP { (8, 0) } else { (128, 129) }
}

impl Message {
    /// A TCP SYN without ACK.
    #[must_use]
    pub const fn opens_tcp(&self) -> bool {
        matches!(self, Self::Tcp { flags, .. } if *flags & (SYN | ACK) == SYN)
    }

    /// What a later fragment knows of its first one.
    #[must_use]
    pub fn without_flags(&self) -> Self {
        match self {
            Self::Tcp { source, destination, .. } => {
                Self::Tcp { source: *source, destination: *destination, flags: ACK }
            }
            // What it quotes is in the first one.
            Self::IcmpError { kind, code, .. } => Self::IcmpError { kind: *kind, code: *code, quote: None },
            other => other.clone(),
        }
    }
}

impl Packet {
    /// Whether it is on the loopback device, inside one network namespace.
    #[must_use]
    pub const fn on_loopback(&self) -> bool {
        matches!(self.spot, Spot::CgroupEgress { loopback: true, .. } | Spot::CgroupIngress { loopback: true, .. })
    }

    /// Source and destination, where there is an IP header.
    #[must_use]
    pub const fn readable(&self) -> Option<(IpAddr, IpAddr)> {
        match self.message {
            Message::NotIp { .. } | Message::Arp => None,
            _ => Some((self.source, self.destination)),
        }
    }

    /// IP protocol number.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        match self.message {
            Message::Tcp { .. } => TCP,
            Message::Udp { .. } => UDP,
            Message::Sctp { .. } => SCTP,
            Message::Icmp { .. } | Message::IcmpError { .. } => match self.source {
                IpAddr::V4(_) => ICMP,
                IpAddr::V6(_) => ICMPV6,
            },
            Message::Other(protocol) | Message::LaterFragment { protocol } | Message::Malformed { protocol } => {
                protocol
            }
            Message::NotIp { .. } | Message::Arp => 0,
        }
    }

    /// What the packet is addressed to.
    #[must_use]
    pub const fn port(&self) -> Port {
        match self.message {
            Message::Tcp { destination, .. } | Message::Udp { destination, .. } | Message::Sctp { destination, .. } => {
                Port::Number { protocol: self.protocol(), port: destination }
            }
            Message::Icmp { kind, code, .. } | Message::IcmpError { kind, code, .. } => {
                Port::Icmp { protocol: self.protocol(), kind, code }
            }
            _ => Port::Other(self.protocol()),
        }
    }

    /// The other end's address, seen from a workload that sends (egress) or receives (ingress) the packet.
    #[must_use]
    pub const fn peer(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Egress => self.destination,
            Direction::Ingress => self.source,
        }
    }

    /// The workload's own end: address and port.
    #[must_use]
    pub const fn own_end(&self, direction: Direction) -> (IpAddr, u16) {
        let (source, destination) = self.ports();
        match direction {
            Direction::Egress => (self.source, source),
            Direction::Ingress => (self.destination, destination),
        }
    }

    /// Whether there can be a reply to it: of ICMP only to an echo request.
    #[must_use]
    pub fn may_be_replied_to(&self) -> bool {
        match self.message {
            Message::Icmp { kind, .. } => kind == echo(self.protocol()).0,
            Message::IcmpError { .. } => false,
            _ => true,
        }
    }

    /// Source and destination port; 0 where there is none.
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        match self.message {
            Message::Tcp { source, destination, .. }
            | Message::Udp { source, destination }
            | Message::Sctp { source, destination } => (source, destination),
            _ => (0, 0),
        }
    }

    /// Whether it belongs to the link itself, which nothing works without.
    #[must_use]
    pub fn belongs_to_the_link(&self, direction: Direction) -> bool {
        match (&self.message, self.destination) {
            (Message::Arp, _) => true,
            // Neighbour and router discovery count only from the link itself (RFC 4861 section 6.1 and 7.1; inverse and
            // secure: RFC 3122, RFC 3971), and not in fragments (RFC 6980 section 5).
            (Message::Icmp { kind: 133..=137 | 141 | 142 | 148 | 149, .. }, IpAddr::V6(_)) => {
                self.hops == 255 && self.fragment.is_none()
            }
            // Multicast listener and router discovery (RFC 2710, RFC 3810, RFC 4286) are sent with a hop limit of 1.
            (Message::Icmp { kind: 130..=132 | 143 | 151..=153, .. }, IpAddr::V6(_)) => {
                self.hops == 1 && self.fragment.is_none()
            }
            (Message::IcmpError { .. }, IpAddr::V6(_)) => direction == Direction::Ingress,
            (Message::Udp { source: 68, destination: 67 }, IpAddr::V4(to)) => {
                direction == Direction::Egress && to == Ipv4Addr::BROADCAST
            }
            (Message::Udp { source: 67, destination: 68 }, IpAddr::V4(_)) => direction == Direction::Ingress,
            (Message::Udp { source: 546, destination: 547 }, IpAddr::V6(to)) => {
                direction == Direction::Egress && to == Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2)
            }
            (Message::Udp { source: 547, destination: 546 }, IpAddr::V6(_)) => {
                direction == Direction::Ingress
                    && matches!(self.source, IpAddr::V6(from) if from.is_unicast_link_local())
            }
            _ => false,
        }
    }

    /// Whether a later fragment belongs to the same datagram as this first one (RFC 791: protocol included; RFC 8200: not).
    #[must_use]
    pub fn same_datagram(&self, later: &Self) -> bool {
        self.fragment == later.fragment
            && self.source == later.source
            && self.destination == later.destination
            && (self.source.is_ipv6() || self.protocol() == later.protocol())
    }
}
