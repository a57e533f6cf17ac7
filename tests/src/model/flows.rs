//! What is remembered of the packets that passed.

use std::net::IpAddr;

use bulkhead_ebpf::abi::Direction;

use super::packet::{FIN, ICMP, ICMPV6, Message, Packet, Port, RST, TCP, UDP, echo};
use super::who::Who;

/// How long flows live without a packet, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// TCP, packets one way only.
    pub tcp_embryonic: f64,
    /// TCP, packets both ways.
    pub tcp_established: f64,
    /// TCP after FIN, or RST and nothing to the contrary since.
    pub tcp_closing: f64,
    /// UDP, packets one way only.
    pub udp_one_way: f64,
    /// UDP, packets both ways.
    pub udp_stream: f64,
    /// ICMP and ICMPv6.
    pub icmp: f64,
    /// All others.
    pub other: f64,
}

impl Timeouts {
    /// How long this flow lives without a packet.
    #[must_use]
    pub(super) const fn of(&self, flow: &Flow) -> f64 {
        match flow.protocol {
            TCP if flow.closing.is_some() => self.tcp_closing,
            TCP if flow.replied => self.tcp_established,
            TCP => self.tcp_embryonic,
            UDP if flow.replied => self.udp_stream,
            UDP => self.udp_one_way,
            ICMP | ICMPV6 => self.icmp,
            _ => self.other,
        }
    }
}

/// A flow: its ends, the opener first, and what each side allowed.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub protocol: u8,
    pub ends: [(IpAddr, u16); 2],
    /// What the opener addressed.
    pub port: Port,
    /// The identifier of an echo.
    pub echo: Option<u16>,
    /// When a packet of it last passed, in seconds.
    pub seen: f64,
    pub replied: bool,
    /// How TCP closes, if it does.
    pub closing: Option<Close>,
    /// What each end's side allowed, in the order of `ends`.
    pub permissions: [Option<Permission>; 2],
}

/// How a TCP flow closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    /// By FIN, or by a RST for an answer: for good.
    Good,
    /// By a RST that seems to come from this end: until the other one goes on.
    Reset(usize),
}

/// What one side allowed, so that it can be asked again.
#[derive(Clone, Debug)]
pub(super) struct Permission {
    /// The workload that it was allowed for.
    pub workload: Option<Who>,
    /// The direction, seen from that workload, in which the flow was opened.
    pub direction: Direction,
    pub peer: IpAddr,
    /// The workload that held the peer's address.
    pub holder: Option<Who>,
    pub port: Port,
    /// A group with `established: keep` allowed it.
    pub kept: bool,
}

impl Flow {
    pub(super) fn opened_by(packet: &Packet, now: f64) -> Self {
        let (source, destination) = packet.ports();
        let echo = match packet.message {
            Message::Icmp { identifier, .. } => Some(identifier),
            _ => None,
        };
        Self {
            protocol: packet.protocol(),
            ends: [(packet.source, source), (packet.destination, destination)],
            port: packet.port(),
            echo,
            seen: now,
            replied: false,
            closing: None,
            permissions: [None, None],
        }
    }

    /// Whether a packet belongs to the flow, in either direction.
    pub(super) fn holds(&self, packet: &Packet) -> bool {
        let (source, destination) = packet.ports();
        let (from, to) = ((packet.source, source), (packet.destination, destination));
        if self.protocol != packet.protocol() {
            return false;
        }
        let (there, back) = (self.ends == [from, to], self.ends == [to, from]);
        match (&packet.message, self.echo) {
            (Message::Icmp { kind, identifier, .. }, Some(asked)) => {
                let (request, answer) = echo(self.protocol);
                *identifier == asked && ((*kind == request && there) || (*kind == answer && back))
            }
            (Message::Icmp { .. } | Message::IcmpError { .. }, None) | (_, Some(_)) => false,
            _ => there || back,
        }
    }

    /// Which end this is. Where both are alike, it is the first.
    pub(super) fn end(&self, end: (IpAddr, u16)) -> usize {
        usize::from(self.ends[0] != end)
    }

    /// Whether a SYN begins another flow than this one.
    pub(super) fn is_another(&self, syn: &Packet) -> bool {
        self.closing.is_some() || (self.replied && self.end((syn.source, syn.ports().0)) == 1)
    }

    /// A packet of the flow passed.
    pub(super) fn note(&mut self, packet: &Packet, now: f64) {
        self.seen = now;
        let (source, _) = packet.ports();
        let end = self.end((packet.source, source));
        let is_first_answer = end == 1 && !self.replied;
        // A SYN of the other end's own is no answer: both open at the same time.
        if end == 1 && !packet.message.opens_tcp() {
            self.replied = true;
        }
        let Message::Tcp { flags, .. } = packet.message else { return };
        self.closing = match self.closing {
            _ if flags & FIN != 0 => Some(Close::Good),
            Some(Close::Good) => Some(Close::Good),
            None if flags & RST != 0 && is_first_answer => Some(Close::Good),
            _ if flags & RST != 0 => Some(Close::Reset(end)),
            Some(Close::Reset(by)) if by != end && !packet.message.opens_tcp() => None,
            as_before => as_before,
        };
    }
}
