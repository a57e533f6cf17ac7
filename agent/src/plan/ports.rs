//! Ports that no rule of two policies tells apart, as ranges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::policy::model::{PolicySet, PortMatch};
use crate::trial::Service;

/// Protocols whose numbers are ports.
const WITH_PORTS: [u8; 3] = [6, 17, 132];
/// Stands for every protocol that no rule names: one that nobody uses (RFC 3692).
const UNUSED: u8 = 253;

/// Everything that there is, by the names of [`Ports`]; SCTP and rarer ones are among what no kernel need have.
pub(super) const ALL: [&str; 4] = ["tcp", "udp", "sctp", "other protocols"];

/// A range of ports, of ICMP types and codes, or a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    protocol: u8,
    first: u16,
    last: u16,
}

impl Ports {
    pub(super) const fn first(&self) -> Service {
        Service { protocol: self.protocol, detail: self.first }
    }

    /// Whether it is found in packets of an IP version.
    pub(super) const fn goes_by(&self, is_v4: bool) -> bool {
        match self.protocol {
            1 => is_v4,
            58 => !is_v4,
            _ => true,
        }
    }

    /// Whether it comes right before another.
    pub(super) const fn joins(&self, next: &Self) -> bool {
        self.protocol == next.protocol && self.last.wrapping_add(1) == next.first && self.last != u16::MAX
    }

    pub(super) const fn with(self, next: &Self) -> Self {
        Self { last: next.last, ..self }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            1 => "icmp",
            6 => "tcp",
            17 => "udp",
            58 => "icmpv6",
            132 => "sctp",
            UNUSED => return write!(f, "other protocols"),
            number => return write!(f, "{number}"),
        };
        if self.first <= 1 && self.last == u16::MAX {
            return write!(f, "{name}");
        }
        let [[kind, code], [last_kind, last_code]] = [self.first.to_be_bytes(), self.last.to_be_bytes()];
        if matches!(self.protocol, 1 | 58) {
            return match (self.first == self.last, code == 0 && last_code == 255) {
                (true, _) => write!(f, "{name}/{kind}/{code}"),
                (false, true) if kind == last_kind => write!(f, "{name}/{kind}"),
                (false, true) => write!(f, "{name}/{kind}-{last_kind}"),
                (false, false) => write!(f, "{name}/{kind}/{code}-{last_kind}/{last_code}"),
            };
        }
        if self.first == self.last {
            write!(f, "{name}/{}", self.first)
        } else {
            write!(f, "{name}/{}-{}", self.first, self.last)
        }
    }
}

/// Every port of every protocol, cut where a rule or deny entry begins or ends.
pub(super) fn ports(policies: &[&PolicySet]) -> Vec<Ports> {
    let mut starts: BTreeMap<u8, BTreeSet<u16>> = WITH_PORTS.iter().map(|protocol| (*protocol, [1].into())).collect();
    starts.extend([(1, [0].into()), (58, [0].into())]);
    let mut others: BTreeSet<u8> = [UNUSED].into();
    for port in policies.iter().flat_map(|policy| matches(policy)) {
        let (protocol, first, last) = match port {
            PortMatch::Ports { protocol, first, last } => (protocol, first.max(1), last),
            PortMatch::Icmp { protocol, kind: None, .. } => (protocol, 0, u16::MAX),
            PortMatch::Icmp { protocol, kind: Some(kind), code } => {
                let at = |code| u16::from_be_bytes([kind, code]);
                (protocol, at(code.unwrap_or(0)), at(code.unwrap_or(u8::MAX)))
            }
            PortMatch::Protocol(protocol) => {
                if !starts.contains_key(&protocol) {
                    others.insert(protocol);
                }
                continue;
            }
        };
        let of_protocol = starts.entry(protocol).or_default();
        of_protocol.insert(first);
        of_protocol.extend(last.checked_add(1));
    }
    let ranges = starts.iter().flat_map(|(protocol, starts)| {
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
        starts.iter().zip(ends).map(|(first, last)| Ports { protocol: *protocol, first: *first, last })
    });
    ranges.chain(others.iter().map(|protocol| Ports { protocol: *protocol, first: 0, last: 0 })).collect()
}

fn matches(policy: &PolicySet) -> impl Iterator<Item = PortMatch> {
    let of_rules = policy
        .groups
        .iter()
        .flat_map(crate::policy::model::SecurityGroup::all_rules)
        .flat_map(|rule| rule.ports.iter().flatten().copied().chain(rule.named.iter().map(|named| named.port)));
    let of_entries =
        policy.guardrails.iter().flat_map(|rail| &rail.entries).flat_map(|entry| entry.ports.iter().flatten().copied());
    of_rules.chain(of_entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_read_as_people_write_them() {
        let range = |protocol, first, last| Ports { protocol, first, last }.to_string();
        assert_eq!(range(6, 80, 80), "tcp/80");
        assert_eq!(range(17, 8000, 8099), "udp/8000-8099");
        assert_eq!(range(6, 1, 65_535), "tcp");
        assert_eq!(range(1, 0x0800, 0x0800), "icmp/8/0");
        assert_eq!(range(1, 0x0800, 0x08ff), "icmp/8");
        assert_eq!(range(58, 0x0100, 0x03ff), "icmpv6/1-3");
        assert_eq!(range(47, 0, 0), "47");
    }

    #[test]
    fn without_a_policy_each_protocol_is_one_range() {
        let all = ports(&[&PolicySet::default()]);
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["icmp", "tcp", "udp", "icmpv6", "sctp", "other protocols"]);
    }
}
