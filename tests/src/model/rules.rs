//! What the rules say of one flow, with everything else out of sight.

use std::net::IpAddr;

use bulkhead::policy::model::{Established, GroupId, Mode, Peer, PortMatch, Rule, SecurityGroup};
use bulkhead_ebpf::abi::{Direction, Verdict};

use super::{Model, Port, Subject};

/// A rule: its group, direction and index from 0.
pub type RuleName = (GroupId, Direction, usize);

/// What the rules of one workload say of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// No group selects the workload.
    Ungoverned,
    /// None of its groups mentions egress.
    OpenEgress,
    /// These rules allow it.
    Allowed(Vec<RuleName>),
    /// None does, and every group that governs the direction is in audit.
    Audited,
    /// None does.
    Denied,
}

impl Ruling {
    /// Whether the packet passes.
    #[must_use]
    pub const fn passes(&self) -> bool {
        !matches!(self, Self::Denied)
    }

    /// The more, the better for the packet.
    pub(super) const fn leniency(&self) -> u8 {
        match self {
            Self::Denied => 0,
            Self::Audited => 1,
            Self::Ungoverned | Self::OpenEgress | Self::Allowed(_) => 2,
        }
    }
}

impl Model {
    /// Asks the subject's groups about a flow with `peer` for `port`.
    pub(super) fn rule_on(&self, subject: Subject, peer: IpAddr, port: &Port) -> Ruling {
        let groups = self.groups_of(subject.workload);
        if groups.is_empty() {
            return Ruling::Ungoverned;
        }
        if subject.direction == Direction::Egress && groups.iter().all(|group| group.egress.is_none()) {
            return Ruling::OpenEgress;
        }
        let mut allowing = Vec::new();
        for group in &groups {
            for (index, rule) in group.rules(subject.direction) {
                if self.rule_allows(rule, peer, port) {
                    allowing.push((group.id, subject.direction, index));
                }
            }
        }
        if !allowing.is_empty() {
            return Ruling::Allowed(allowing);
        }
        match self.denial(subject) {
            Some(Verdict::Audit) => Ruling::Audited,
            _ => Ruling::Denied,
        }
    }

    /// What a denial comes to for the subject; `None` where nothing governs it.
    pub(super) fn denial(&self, subject: Subject) -> Option<Verdict> {
        let groups = self.groups_of(subject.workload);
        if groups.is_empty() {
            return None;
        }
        let governing: Vec<_> =
            groups.iter().filter(|group| subject.direction == Direction::Ingress || group.egress.is_some()).collect();
        // An undecidable packet of a workload with open egress: nobody in audit speaks for it.
        let audit = !governing.is_empty() && governing.iter().all(|group| group.mode == Mode::Audit);
        Some(if audit { Verdict::Audit } else { Verdict::Deny })
    }

    /// Whether a group with `established: keep` is among those that allow the flow.
    pub(super) fn promised(&self, ruling: &Ruling) -> bool {
        let Ruling::Allowed(rules) = ruling else { return false };
        rules.iter().any(|(id, ..)| {
            self.world.policy.groups.iter().any(|group| group.id == *id && group.established == Established::Keep)
        })
    }

    fn groups_of(&self, workload: Option<usize>) -> Vec<&SecurityGroup> {
        let Some(workload) = workload else { return Vec::new() };
        let labels = &self.world.workloads[workload].labels;
        self.world.policy.groups.iter().filter(|group| group.selector.matches(labels)).collect()
    }

    fn rule_allows(&self, rule: &Rule, peer: IpAddr, port: &Port) -> bool {
        let named = rule.peers.iter().any(|named| self.is_peer(named, peer));
        let ported = match &rule.ports {
            None => true,
            Some(ports) => ports.iter().any(|entry| covers(entry, port)),
        };
        named && ported
    }

    fn is_peer(&self, named: &Peer, address: IpAddr) -> bool {
        let holders =
            || self.world.workloads.iter().enumerate().filter(|(_, workload)| workload.addresses.contains(&address));
        match named {
            Peer::Group(id) => {
                holders().any(|(index, _)| self.groups_of(Some(index)).iter().any(|group| group.id == *id))
            }
            Peer::Cidr(prefix) => prefix.contains(&address),
            Peer::World => holders().next().is_none() && !self.world.host.contains(&address),
            Peer::Host => self.world.host.contains(&address),
        }
    }
}

fn covers(entry: &PortMatch, port: &Port) -> bool {
    match (entry, port) {
        (PortMatch::Ports { protocol, first, last }, Port::Number { protocol: of, port }) => {
            protocol == of && (*first..=*last).contains(port)
        }
        (PortMatch::Icmp { protocol, kind, code }, Port::Icmp { protocol: of, kind: is_kind, code: is_code }) => {
            protocol == of && kind.is_none_or(|kind| kind == *is_kind) && code.is_none_or(|code| code == *is_code)
        }
        (PortMatch::Protocol(number), port) => *number == port.protocol(),
        _ => false,
    }
}
