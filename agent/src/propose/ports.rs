//! Ports as a rule should name them: those that were seen, runs as ranges, and ephemeral ones as what they are.

use std::collections::BTreeSet;
use std::fmt;

use crate::view::talk::TalkView;

/// Where Linux takes ports from that nobody asked for by number (`net.ipv4.ip_local_port_range`), and where RFC 6335 has them.
const EPHEMERAL: [u16; 2] = [32_768, 65_535];
/// So many of them between two groups are no services, but a protocol that agrees on ports.
const MANY: usize = 8;

/// One entry of a rule's `ports`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortRange {
    /// Ports of a protocol that has them.
    Ports(&'static str, u16, u16),
    /// Type and code of ICMP or ICMPv6.
    Icmp(&'static str, u8, u8),
    /// Another protocol.
    Protocol(u8),
}

impl PortRange {
    /// What a talk was for. `None` for what no rule can name.
    #[must_use]
    pub fn of(talk: &TalkView) -> Option<Self> {
        let with_ports = ["tcp", "udp", "sctp"].into_iter().find(|name| *name == talk.protocol);
        let icmp = ["icmp", "icmpv6"].into_iter().find(|name| *name == talk.protocol);
        match (with_ports, icmp) {
            (Some(name), _) => talk.port.filter(|port| *port != 0).map(|port| Self::Ports(name, port, port)),
            (_, Some(name)) => talk.icmp.map(|icmp| Self::Icmp(name, icmp.kind, icmp.code)),
            _ => talk.protocol.parse().ok().map(Self::Protocol),
        }
    }

    /// Whether it is the range that stands for ephemeral ports.
    #[must_use]
    pub const fn is_ephemeral(&self) -> bool {
        matches!(self, Self::Ports(_, first, last) if *first == EPHEMERAL[0] && *last == EPHEMERAL[1])
    }
}

impl fmt::Display for PortRange {
    /// As YAML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports(name, first, last) if first == last => write!(f, "{{protocol: {name}, port: {first}}}"),
            Self::Ports(name, first, last) => write!(f, "{{protocol: {name}, port: {first}, endPort: {last}}}"),
            Self::Icmp(name, kind, code) => write!(f, "{{protocol: {name}, type: {kind}, code: {code}}}"),
            Self::Protocol(number) => write!(f, "{{protocol: {number}}}"),
        }
    }
}

/// Neighbours become ranges; many ephemeral ports of a protocol become all of them.
#[must_use]
pub fn merge(seen: &BTreeSet<PortRange>) -> Vec<PortRange> {
    let mut merged: Vec<PortRange> = Vec::new();
    for name in ["tcp", "udp", "sctp"] {
        let ports: Vec<u16> = seen
            .iter()
            .filter_map(|it| if let PortRange::Ports(of, port, _) = it { (*of == name).then_some(*port) } else { None })
            .collect();
        let ephemeral = ports.iter().filter(|port| **port >= EPHEMERAL[0]).count();
        let is_ephemeral = |port: &u16| ephemeral >= MANY && *port >= EPHEMERAL[0];
        for port in ports.iter().copied().filter(|port| !is_ephemeral(port)) {
            match merged.last_mut() {
                Some(PortRange::Ports(of, _, last)) if *of == name && last.checked_add(1) == Some(port) => *last = port,
                _ => merged.push(PortRange::Ports(name, port, port)),
            }
        }
        if ephemeral >= MANY {
            merged.push(PortRange::Ports(name, EPHEMERAL[0], EPHEMERAL[1]));
        }
    }
    merged.extend(seen.iter().filter(|it| !matches!(it, PortRange::Ports(..))).cloned());
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(ports: impl IntoIterator<Item = u16>) -> Vec<String> {
        let seen = ports.into_iter().map(|port| PortRange::Ports("tcp", port, port)).collect();
        merge(&seen).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn runs_become_ranges_and_nothing_between_is_added() {
        assert_eq!(merged([80, 443]), ["{protocol: tcp, port: 80}", "{protocol: tcp, port: 443}"]);
        assert_eq!(merged([8000, 8001, 8002]), ["{protocol: tcp, port: 8000, endPort: 8002}"]);
        assert_eq!(merged([8000, 8002]).len(), 2);
    }

    #[test]
    fn many_high_ports_are_the_ephemeral_ones_and_a_few_are_services() {
        assert_eq!(merged([50_051]), ["{protocol: tcp, port: 50051}"]);
        let passive = merged((0..10).map(|number| 33_000 + number * 13).chain([21]));
        assert_eq!(passive, ["{protocol: tcp, port: 21}", "{protocol: tcp, port: 32768, endPort: 65535}"]);
    }
}
