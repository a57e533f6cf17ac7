//! What the rules say of one flow, with everything else out of sight.

use std::net::{IpAddr, SocketAddr};

use bulkhead::config::failsafe::FailsafePort;
use bulkhead::policy::compile::RulePlace;
use bulkhead::policy::model::{DenyEntry, Established, Mode, NamedPort, Peer, PortMatch, PortOf, Rule, SecurityGroup};
use bulkhead_ebpf::abi::{Direction, Verdict};

use super::who::Subject;
use super::{Model, Port};

/// A rule or a deny entry, by its place.
pub type RuleName = RulePlace;

/// What the rules of one workload say of one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// No group selects the workload.
    Ungoverned,
    /// Nobody has said whose it is: its managed scope lets it pass or denies it.
    Unidentified {
        /// Which of the two.
        denies: bool,
    },
    /// None of its groups mentions egress.
    OpenEgress,
    /// None of its groups mentions ingress, though one mentions egress.
    OpenIngress,
    /// None allows it, but a failsafe port does.
    Failsafe,
    /// These rules allow it.
    Allowed(Vec<RuleName>),
    /// None does, and every group that governs the direction is in audit.
    Audited,
    /// None does.
    Denied,
    /// These deny entries deny it, whatever rules say.
    Guarded(Vec<RuleName>),
}

impl Ruling {
    /// Whether the packet passes.
    #[must_use]
    pub const fn passes(&self) -> bool {
        !matches!(self, Self::Denied | Self::Guarded(_) | Self::Unidentified { denies: true })
    }

    /// The more, the better for the packet.
    pub(super) const fn leniency(&self) -> u8 {
        match self {
            Self::Denied | Self::Guarded(_) | Self::Unidentified { denies: true } => 0,
            Self::Audited => 1,
            Self::Ungoverned
            | Self::Unidentified { denies: false }
            | Self::OpenEgress
            | Self::OpenIngress
            | Self::Failsafe
            | Self::Allowed(_) => 2,
        }
    }
}

impl Model {
    /// Asks the guardrails, the subject's groups and the failsafe ports about a flow of its address `own` with `peer` for `port`.
    pub(super) fn rule_on(&self, subject: Subject, own: IpAddr, peer: IpAddr, port: &Port) -> Ruling {
        let (peers, port) = &self.behind(subject, peer, port);
        match self.policy_on(subject, own, peers, port) {
            Ruling::Guarded(_) | Ruling::Audited | Ruling::Denied | Ruling::Unidentified { denies: true }
                if self.is_failsafe(subject, own, port) =>
            {
                Ruling::Failsafe
            }
            ruling => ruling,
        }
    }

    /// Whether a guardrail denies it, and nothing stands above that.
    pub(super) fn is_guarded(&self, subject: Subject, own: IpAddr, peer: IpAddr, port: &Port) -> bool {
        let (peers, port) = &self.behind(subject, peer, port);
        !self.denying(subject, own, peers, port).is_empty() && !self.is_failsafe(subject, own, port)
    }

    /// Whom a flow is for in the end, and at which port: what the subject sends to a service is for those behind it, where all of
    /// them listen at one port.
    pub(super) fn behind(&self, subject: Subject, peer: IpAddr, port: &Port) -> (Vec<IpAddr>, Port) {
        let itself = (vec![peer], port.clone());
        let Port::Number { protocol, port } = *port else { return itself };
        if subject.direction == Direction::Ingress {
            return itself;
        }
        let services = self.world.services.iter().filter(|service| service.addresses.contains(&peer));
        let ports = services.flat_map(|service| &service.ports);
        let Some(found) = ports.into_iter().find(|found| (found.protocol, found.port) == (protocol, port)) else {
            return itself;
        };
        match found.backends.as_slice() {
            [first, others @ ..] if others.iter().all(|other| other.port() == first.port()) => {
                let peers = found.backends.iter().map(SocketAddr::ip).collect();
                (peers, Port::Number { protocol, port: first.port() })
            }
            _ => itself,
        }
    }

    pub(super) fn is_failsafe(&self, subject: Subject, own: IpAddr, port: &Port) -> bool {
        let Port::Number { protocol, port } = *port else { return false };
        let named = |it: &FailsafePort| (it.direction, it.protocol, it.port) == (subject.direction, protocol, port);
        !subject.linked && self.world.host.contains(&own) && self.world.failsafe.iter().any(named)
    }

    fn policy_on(&self, subject: Subject, own: IpAddr, peers: &[IpAddr], port: &Port) -> Ruling {
        if let Some(denies) = subject.unidentified {
            return Ruling::Unidentified { denies };
        }
        let denying = self.denying(subject, own, peers, port);
        if !denying.is_empty() {
            return Ruling::Guarded(denying);
        }
        let groups = self.groups_of(subject.workload);
        if groups.iter().all(|group| group.ingress.is_none() && group.egress.is_none()) {
            return Ruling::Ungoverned;
        }
        if groups.iter().all(|group| !mentions(group, subject.direction)) {
            return match subject.direction {
                Direction::Ingress => Ruling::OpenIngress,
                Direction::Egress => Ruling::OpenEgress,
            };
        }
        let mut allowing = Vec::new();
        for group in &groups {
            for (index, rule) in group.rules(subject.direction) {
                if self.rule_allows(rule, &groups, peers, port) {
                    allowing.push(RulePlace::Rule { group: group.id, direction: subject.direction, index });
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

    /// The deny entries that deny a flow of the subject. Whoever is no workload has none.
    fn denying(&self, subject: Subject, own: IpAddr, peers: &[IpAddr], port: &Port) -> Vec<RuleName> {
        let mut denying = Vec::new();
        if subject.workload.is_none() {
            return denying;
        }
        for guardrail in &self.world.policy.guardrails {
            for (index, entry) in guardrail.entries.iter().enumerate() {
                if self.entry_denies(entry, subject, own, peers, port) {
                    denying.push(RulePlace::Deny { guardrail: guardrail.name.clone(), index });
                }
            }
        }
        denying
    }

    fn entry_denies(&self, entry: &DenyEntry, subject: Subject, own: IpAddr, peers: &[IpAddr], port: &Port) -> bool {
        let (mine, theirs) = match subject.direction {
            Direction::Egress => (&entry.from, &entry.to),
            Direction::Ingress => (&entry.to, &entry.from),
        };
        let groups = self.groups_of(subject.workload);
        let is_own =
            |named: &Peer| self.is_denied_as(named, own) || groups.iter().any(|group| *named == Peer::Group(group.id));
        mine.as_ref().is_none_or(|peers| peers.iter().any(is_own))
            && theirs
                .as_ref()
                .is_none_or(|named| named.iter().any(|named| peers.iter().any(|peer| self.is_denied_as(named, *peer))))
            && entry.ports.as_ref().is_none_or(|ports| ports.iter().any(|entry| covers(entry, port)))
    }

    /// What a denial comes to for the subject; `None` where nothing governs it.
    pub(super) fn denial(&self, subject: Subject) -> Option<Verdict> {
        let groups = self.groups_of(subject.workload);
        if groups.iter().all(|group| group.ingress.is_none() && group.egress.is_none()) {
            return None;
        }
        let governing: Vec<_> = groups.iter().filter(|group| mentions(group, subject.direction)).collect();
        // An undecidable packet of a workload with an open direction: nobody in audit speaks for it.
        let audit = !governing.is_empty() && governing.iter().all(|group| group.mode == Mode::Audit);
        Some(if audit { Verdict::Audit } else { Verdict::Deny })
    }

    /// Whether a group with `established: keep` is among those that allow the flow.
    pub(super) fn promised(&self, ruling: &Ruling) -> bool {
        let Ruling::Allowed(rules) = ruling else { return false };
        rules.iter().any(|rule| {
            let RulePlace::Rule { group: id, .. } = rule else { return false };
            self.world.policy.groups.iter().any(|group| group.id == *id && group.established == Established::Keep)
        })
    }

    fn groups_of(&self, workload: Option<usize>) -> Vec<&SecurityGroup> {
        let Some(workload) = workload else { return Vec::new() };
        let labels = &self.world.workloads[workload].labels;
        self.world.policy.groups.iter().filter(|group| group.selector.matches(labels)).collect()
    }

    /// Whether a rule allows it to a subject that is in `groups`.
    fn rule_allows(&self, rule: &Rule, groups: &[&SecurityGroup], peers: &[IpAddr], port: &Port) -> bool {
        let is_one = |of: &[Peer]| of.iter().any(|named| peers.iter().all(|peer| self.is_peer(named, *peer)));
        let ported = match &rule.ports {
            None => true,
            Some(ports) => ports.iter().any(|entry| covers(entry, port)),
        };
        let at_name = |named: &NamedPort| {
            covers(&named.port, port)
                && match &named.of {
                    PortOf::Subjects(id) => groups.iter().any(|group| group.id == *id) && is_one(&rule.peers),
                    PortOf::Peers(peers) => is_one(peers),
                }
        };
        ported && is_one(&rule.peers) || rule.named.iter().any(at_name)
    }

    /// As [`Self::is_peer`], for guardrails: whoever takes an address that its workload has left may be a stranger, and so may
    /// whoever answers at a service's where nobody is known to stand behind it.
    fn is_denied_as(&self, named: &Peer, address: IpAddr) -> bool {
        let may_be_stranger = self.left.contains(&address) || self.is_services(address);
        self.is_peer(named, address) || *named == Peer::World && may_be_stranger
    }

    fn is_peer(&self, named: &Peer, address: IpAddr) -> bool {
        let holders =
            || self.world.workloads.iter().enumerate().filter(|(_, workload)| workload.addresses.contains(&address));
        match named {
            Peer::Group(id) => {
                holders().any(|(index, _)| self.groups_of(Some(index)).iter().any(|group| group.id == *id))
            }
            Peer::Cidr(prefix) => prefix.contains(&address),
            Peer::World => {
                let is_hosts = [&self.world.host, &self.world.nodes].iter().any(|hosts| hosts.contains(&address));
                holders().next().is_none() && !is_hosts && !self.is_services(address) && !self.left.contains(&address)
            }
            Peer::Host => self.world.host.contains(&address),
            Peer::RemoteHost => holders().next().is_none() && self.world.nodes.contains(&address),
        }
    }

    /// Whether an address is a service's and nobody else's.
    fn is_services(&self, address: IpAddr) -> bool {
        let is_held = self.world.workloads.iter().any(|workload| workload.addresses.contains(&address));
        !is_held && self.world.services.iter().any(|service| service.addresses.contains(&address))
    }
}

fn mentions(group: &SecurityGroup, direction: Direction) -> bool {
    match direction {
        Direction::Ingress => group.ingress.is_some(),
        Direction::Egress => group.egress.is_some(),
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
