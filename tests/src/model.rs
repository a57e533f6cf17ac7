//! The reference model: what a policy means, slow and obvious, written from the design and not from the implementation.
//!
//! It shares the input types with the implementation (the validated policy, the workloads) and the words for places, verdicts and
//! reasons, and nothing else: no compiled tables, no port classes, no identities, no generation. A flow is judged again by the
//! rules at every packet, so that "a change holds at the next packet" needs no bookkeeping here.
//!
//! Where the design is silent, this is how it is read:
//!
//! - **Sides.** Each end of a flow has a side, which stands for the host that enforces that end. A side holds only what it
//!   allowed itself, and as what it allowed it: the opening end's egress or the answering end's ingress. Which end opened a flow
//!   may differ between the sides, for one host may have denied what opened it for the other. Idle time and TCP state belong
//!   to the flow: both sides see the same packets.
//! - **A side that has not judged a flow yet**, which the other end's side opened, judges it as what it is: it asks the
//!   answering end's ingress. If that denies, the packet may still open a flow of its own the other way round; a TCP
//!   segment only if it is a SYN.
//! - **Denied packets leave no trace**: they neither open, keep awake nor close a flow.
//! - **A revoked flow stays revoked** for the side that revoked it: packets of either direction are denied until the flow has
//!   been idle for its time-out, or the policy allows it again. Otherwise a late answer, which open egress lets out, would open
//!   the flow anew from the other end. Only a TCP SYN says that it begins something else, and is then judged by itself.
//! - **A TCP SYN begins another flow** on one that is closing, and, sent by the answering end, on one that was answered.
//! - **Any packet that the rules allow opens a flow**, a TCP segment in mid-stream too, unless the operator says otherwise.
//! - **A TCP segment in mid-stream, where the operator denies those** (`--midstream deny`), is one that opens nothing and is of no
//!   flow that this side has judged: what the other end's side let out is no proof for this one. It is undecidable, as a
//!   fragment whose first was not seen: denied for whoever is governed; in audit it passes by itself and leaves no trace, so that
//!   the next one is told again. Guardrails and failsafe ports say what they say of every segment.
//! - **Audited flows** pass both ways, every packet with the verdict audit: replies exist only because the opening passed.
//! - **Every denial of a workload's own policy** can become audit: no rule, undecidable packets, a source not its own.
//! - **`established: keep`** is a promise of the group whose rule allowed the flow to the workload that it allowed it for, and
//!   about the peer as long as the same workload, or none, holds its address. If several rules match, one group with `keep` is enough (order
//!   never matters). The promise outlives the group, the rule and the workload's membership. Being ungoverned or having open egress promises nothing.
//! - **An ICMP error belongs to a flow** for a side if it goes to the sender of the quoted packet, and that sender is this
//!   side's end (it may come from any router), or if this side's end sends it about a packet that it received. It belongs only
//!   where the flow passes now; otherwise the rules say, as for any ICMP message. It doesn't keep the flow awake.
//! - **An echo request opens an ICMP flow**, named by client, server and identifier. Every other message, and an answer that
//!   nobody asked for, is judged by itself each time: it can't be replied to.
//! - **Guardrails** are asked before the rules, of every workload, at each end. An entry names an end by what is behind the
//!   packet's address there, as a rule names a peer; at the local end by the workload's own groups too, which need no address.
//!   Neither audit nor `established: keep` softens them.
//! - **Failsafe ports** turn what would be denied or audited into an allow, guardrails included, where the subject's end of the flow is at an
//!   address of the host and not behind a link. What is not decided by rules (forged, undecidable) they do not touch.
//! - **On loopback nothing is looked at**, and nothing remembered.
//! - **A later fragment** is judged as a packet with its first one's ports. A first fragment was seen even where it was
//!   denied. TCP flags are in the first fragment alone.
//! - **RFC 4890's messages that must not be dropped** are neighbour discovery (which only counts with a hop limit of 255),
//!   listener discovery (with a hop limit of 1) and errors that come in. Errors go out where they belong to a flow. Echo is
//!   left to the rules: they name it by type, which would mean nothing otherwise.
//! - **DHCP from a workload to its own link** is client to server (68 to 67, 546 to 547), to the broadcast address or the
//!   link's multicast address, and the answer, which is part of it.
//! - **The source address must be the workload's own** where its addresses are known; an ungoverned workload's packets pass.
//!   But it may in no case be another workload's, nor, behind a link, the host's: such a packet is not the workload's, so
//!   neither being ungoverned nor being in audit lets it pass.
//! - **An uplink (XDP) decides the ingress of the local workload that has the destination address**, nothing else, and leaves
//!   no trace. What it can't decide (malformed packets, later fragments) it leaves to the receiver's own hook. What comes from
//!   outside is not from a workload of this host or the host itself: for a governed receiver such a source is forged.
//! - **A packet that comes to a workload but is addressed to another one** (a bridge floods), or to none of the receiver's
//!   addresses where they are known, is judged and leaves no trace: the receiver must not become the owner of that end.
//! - **An address that leaves its workload** is nobody's until somebody has it: in no group, and not `world` for what rules allow, but
//!   `world` for what guardrails deny. (It becomes `world` when every flow of its former holder is dead: later than any case here ends.)
//! - **Two workloads at one end** of a flow (one address, one port, one after the other) are each judged for themselves, and
//!   the last one is the one that the end is held to.
//! - **A receiver behind a link** is asked at its link, not at the sender's cgroup hook too.
//! - **Who is no workload** (a process in a cgroup that nobody named) has an end and is tracked like an ungoverned workload, so
//!   that being named later cuts nothing.
//! - **Who is unidentified** (in a managed scope's cgroup or below, nearer to it than to any workload's) is no workload either, not
//!   the scope's own one: its scope says whether all or nothing passes, and of nested ones the nearest. What is never cut, and
//!   what a failsafe port names, passes all the same.
//! - **Who comes back is another one**, under the old name too: no promise to the workload that left, or about it, holds.

mod answer;
mod flows;
mod packet;
mod rules;
mod who;

pub use answer::Answer;
pub use flows::Timeouts;
pub use packet::{ACK, FIN, ICMP, ICMPV6, Message, Packet, Port, Quote, RST, SCTP, SYN, Spot, TCP, UDP};
pub use rules::{RuleName, Ruling};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead::config::failsafe::FailsafePort;
use bulkhead::policy::model::PolicySet;
use bulkhead::source::ServiceFact;
use bulkhead::workload::{CgroupRef, Workload};
use bulkhead_ebpf::abi::{Direction, Reason, Verdict};

use answer::{answer, strictest};
use flows::{Flow, Permission};
use who::Subject;

/// Everything that is so at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The policy in force.
    pub policy: PolicySet,
    /// Every workload known to this host. No two share an address, a cgroup or an interface.
    pub workloads: Vec<Workload>,
    /// The host's own addresses.
    pub host: Vec<IpAddr>,
    /// Addresses of other nodes. Nobody else has one of them.
    pub nodes: Vec<IpAddr>,
    /// Services, at addresses that nobody else has. No two share an address.
    pub services: Vec<ServiceFact>,
    /// Failsafe ports.
    pub failsafe: Vec<FailsafePort>,
    /// Managed scopes.
    pub scopes: Vec<Scope>,
    /// Whether a TCP segment that opens nothing and belongs to no known flow is denied.
    pub denies_midstream: bool,
}

/// A part of the cgroup tree in which nobody is let pass, or everybody, until it is known who he is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Where it begins.
    pub cgroup: CgroupRef,
    /// Whether what is unidentified there is denied.
    pub denies: bool,
}

/// The world and what has been seen in it.
#[derive(Clone, Debug)]
pub struct Model {
    world: World,
    /// How long flows live without a packet.
    pub timeouts: Timeouts,
    /// Addresses that have left their workload, and that nobody has since.
    left: Vec<IpAddr>,
    /// How often a workload of each name has come since the start.
    arrivals: BTreeMap<Arc<str>, u32>,
    flows: Vec<Flow>,
    fragments: Vec<Packet>,
}

impl Model {
    /// A world in which nothing has been seen yet.
    #[must_use]
    pub fn new(world: World, timeouts: Timeouts) -> Self {
        let (left, arrivals) = (Vec::new(), BTreeMap::new());
        Self { world, timeouts, left, arrivals, flows: Vec::new(), fragments: Vec::new() }
    }

    /// The world is another from here on: the next packet is judged by it.
    pub fn change(&mut self, world: &World) {
        let before = std::mem::replace(&mut self.world, world.clone());
        for workload in &world.workloads {
            if before.workloads.iter().all(|old| old.name != workload.name) {
                *self.arrivals.entry(workload.name.clone()).or_default() += 1;
            }
        }
        self.left.extend(before.workloads.into_iter().flat_map(|workload| workload.addresses.to_vec()));
        let Self { world, left, .. } = self;
        left.retain(|address| {
            let is_held = world.workloads.iter().any(|workload| workload.addresses.contains(address));
            let is_services = world.services.iter().any(|service| service.addresses.contains(address));
            !is_held && !is_services && !world.host.contains(address) && !world.nodes.contains(address)
        });
    }

    /// Whether a flow is within `margin` seconds of its time-out, where the implementation may be either side of it.
    #[must_use]
    pub fn on_the_brink(&self, now: f64, margin: f64) -> bool {
        self.flows.iter().any(|flow| (now - flow.seen - self.timeouts.of(flow)).abs() <= margin)
    }

    /// Judges a packet at one spot, `now` seconds after the start.
    pub fn judge(&mut self, packet: &Packet, now: f64) -> Answer {
        self.flows.retain(|flow| now - flow.seen <= self.timeouts.of(flow));
        let subjects = self.subjects(packet);
        if subjects.is_empty() {
            if let Spot::TcEgress { .. } | Spot::TcIngress { .. } = packet.spot {
                return unknown_link(packet);
            }
            return Answer::new(
                Verdict::Allow,
                &[Reason::NotLocal, Reason::Ungoverned, Reason::Deferred, Reason::Established],
            );
        }
        let whole = if packet.on_loopback() { Some(packet.clone()) } else { self.reassembled(packet) };
        let answers: Vec<Answer> =
            subjects.iter().map(|subject| self.side(packet, whole.as_ref(), *subject, now)).collect();
        strictest(answers)
    }

    /// What one side says of a packet. `whole` is the packet with its ports, which a later fragment has from its first one.
    fn side(&mut self, packet: &Packet, whole: Option<&Packet>, subject: Subject, now: f64) -> Answer {
        if packet.on_loopback() {
            return Answer::allow(Reason::Loopback);
        }
        if whole.unwrap_or(packet).belongs_to_the_link(subject.direction) {
            return Answer::new(Verdict::Allow, &[Reason::NeverCut, Reason::Ungoverned, Reason::Established]);
        }
        if packet.spot == Spot::Xdp
            && matches!(packet.message, Message::Malformed { .. } | Message::LaterFragment { .. })
        {
            return Answer::allow(Reason::Deferred);
        }
        match packet.message {
            Message::Malformed { .. } => return self.undecidable(subject, Reason::Malformed),
            Message::NotIp { .. } => return self.undecidable(subject, Reason::NotIp),
            _ => {}
        }
        if packet.spot == Spot::Xdp && self.is_of_this_host(packet.source) && self.denial(subject).is_some() {
            return self.undecidable(subject, Reason::Spoofed);
        }
        if self.with_itself(packet, subject) {
            return Answer::new(Verdict::Allow, &[Reason::SameWorkload]);
        }
        if self.poses_as_another(packet, subject) {
            return Answer::new(Verdict::Deny, &[Reason::Spoofed]);
        }
        if self.forges_its_source(packet, subject) && self.denial(subject).is_some() {
            return self.undecidable(subject, Reason::Spoofed);
        }
        let Some(packet) = whole else {
            return self.undecidable(subject, Reason::FragmentUnseen);
        };
        if let Message::IcmpError { quote: Some(quote), .. } = &packet.message
            && self.quotes_a_flow(packet, quote, subject)
        {
            return Answer::new(Verdict::Allow, &[Reason::Related, Reason::Ungoverned]);
        }
        if self.is_out_of_nothing(packet, subject) {
            let (own, _) = packet.own_end(subject.direction);
            let ruling = self.rule_on(subject, own, packet.peer(subject.direction), &packet.port());
            return match ruling {
                Ruling::Guarded(_) => answer(&ruling, false),
                _ => self.undecidable(subject, Reason::Midstream),
            };
        }
        if let Some(answer) = self.of_a_flow(packet, subject, now) {
            return answer;
        }
        self.by_itself(packet, subject, now)
    }

    /// Whether a TCP segment is denied for being in the middle of a connection that this side knows nothing of.
    fn is_out_of_nothing(&self, packet: &Packet, subject: Subject) -> bool {
        let end = packet.own_end(subject.direction);
        let is_known = self.flows.iter().any(|flow| flow.holds(packet) && flow.permissions[flow.end(end)].is_some());
        self.world.denies_midstream
            && packet.protocol() == TCP
            && !packet.message.opens_tcp()
            && !is_known
            && self.denial(subject).is_some()
            && !self.is_failsafe(
                subject,
                end.0,
                &self.behind(subject, packet.peer(subject.direction), &packet.port()).1,
            )
    }

    /// The answer for a packet of a flow that is tracked; `None` where the packet speaks for itself.
    fn of_a_flow(&mut self, packet: &Packet, subject: Subject, now: f64) -> Option<Answer> {
        let index = self.flows.iter().position(|flow| flow.holds(packet))?;
        let flow = &self.flows[index];
        let is_syn = packet.message.opens_tcp();
        if is_syn && flow.is_another(packet) {
            return None;
        }
        let (own, _) = packet.own_end(subject.direction);
        let end = flow.end(packet.own_end(subject.direction));
        let judged = flow.permissions[end].clone();
        if let Some(permission) = &judged
            && self.is_kept(permission)
            && permission.workload == self.who(subject)
            && !self.is_guarded(
                Subject { direction: permission.direction, ..subject },
                own,
                permission.peer,
                &permission.port,
            )
        {
            if self.leaves_a_trace(packet, subject) {
                self.flows[index].note(packet, now);
            }
            return Some(Answer::allow(Reason::Established));
        }
        // As what the flow is judged: as what this side allowed, or, if it allowed nothing yet, as what the other side opened.
        let (direction, peer, port) = match &judged {
            Some(permission) => (permission.direction, permission.peer, permission.port.clone()),
            None => {
                let direction = if end == 0 { Direction::Egress } else { Direction::Ingress };
                (direction, packet.peer(subject.direction), flow.port.clone())
            }
        };
        let ruling = self.rule_on(Subject { direction, ..subject }, own, peer, &port);
        let may_speak_for_itself =
            direction != subject.direction && if packet.protocol() == TCP { is_syn } else { judged.is_none() };
        if may_speak_for_itself && (judged.is_none() || !ruling.passes()) {
            // Audit would be wrong of what is allowed by itself.
            let by_itself = self.rule_on(subject, own, packet.peer(subject.direction), &packet.port());
            if ruling.leniency() < by_itself.leniency() {
                return None;
            }
        }
        if ruling.passes() {
            let (workload, holder) = (self.who(subject), self.held_by(peer));
            let kept = self.promised(&ruling);
            let permission = Permission { workload, direction, peer, holder, port, kept };
            if self.leaves_a_trace(packet, subject) {
                self.grant(index, end, permission, packet, now);
            }
            return Some(self.of_an_old_flow(&ruling, subject));
        }
        // No promise outlives a guardrail.
        if matches!(ruling, Ruling::Guarded(_)) && self.leaves_a_trace(packet, subject) {
            let who = self.who(subject);
            if let Some(permission) = self.flows[index].permissions[end].as_mut().filter(|it| it.workload == who) {
                permission.kept = false;
            }
        }
        Some(answer(&ruling, false))
    }

    /// Judges a packet by itself, and tracks what may be replied to.
    fn by_itself(&mut self, packet: &Packet, subject: Subject, now: f64) -> Answer {
        let (own, _) = packet.own_end(subject.direction);
        let ruling = self.rule_on(subject, own, packet.peer(subject.direction), &packet.port());
        if ruling.passes() && packet.may_be_replied_to() && self.leaves_a_trace(packet, subject) {
            let permission = Permission {
                workload: self.who(subject),
                direction: subject.direction,
                peer: packet.peer(subject.direction),
                holder: self.held_by(packet.peer(subject.direction)),
                port: packet.port(),
                kept: self.promised(&ruling),
            };
            self.open(packet, subject, permission, now);
        }
        answer(&ruling, false)
    }

    /// Opens a flow, or begins a tracked one anew from the other end.
    fn open(&mut self, packet: &Packet, subject: Subject, permission: Permission, now: f64) {
        let mut flow = Flow::opened_by(packet, now);
        if let Some(index) = self.flows.iter().position(|old| old.holds(packet)) {
            let old = self.flows.remove(index);
            if !packet.message.opens_tcp() {
                // The other side still holds what it allowed.
                let other = flow.ends.map(|end| old.permissions[old.end(end)].clone());
                flow.permissions = other;
            }
        }
        let end = flow.end(packet.own_end(subject.direction));
        self.flows.push(flow);
        let index = self.flows.len() - 1;
        self.grant(index, end, permission, packet, now);
    }

    fn grant(&mut self, index: usize, end: usize, permission: Permission, packet: &Packet, now: f64) {
        self.flows[index].permissions[end] = Some(permission);
        self.flows[index].note(packet, now);
    }

    /// Whether what is said of this packet may be held to the flow.
    fn leaves_a_trace(&self, packet: &Packet, subject: Subject) -> bool {
        let holder = self.holder(packet.destination);
        let own = subject.workload.map(|workload| &self.world.workloads[workload].addresses);
        let is_own = match own {
            Some(own) if !own.is_empty() => own.contains(&packet.destination),
            _ => holder.is_none(),
        };
        packet.spot != Spot::Xdp && (subject.direction == Direction::Egress || is_own)
    }

    /// Whether an ICMP error belongs to a flow that passes at this side.
    fn quotes_a_flow(&self, error: &Packet, quote: &Quote, subject: Subject) -> bool {
        let quoted = quote.as_packet(error);
        // Errors go to the sender of what they quote.
        if error.destination != quoted.source {
            return false;
        }
        // The direction in which the quoted packet passed this side.
        let quoted_direction = match subject.direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        let Some(flow) = self.flows.iter().find(|flow| flow.holds(&quoted)) else { return false };
        let end = flow.end(quoted.own_end(quoted_direction));
        let Some(permission) = &flow.permissions[end] else { return false };
        if permission.workload != self.who(subject) {
            return false;
        }
        let (own, _) = quoted.own_end(quoted_direction);
        let asked = Subject { direction: permission.direction, ..subject };
        let ruling = self.rule_on(asked, own, permission.peer, &permission.port);
        ruling.passes() || self.is_kept(permission) && !matches!(ruling, Ruling::Guarded(_))
    }

    /// The packet with its ports: itself, or for a later fragment what its first one said, if that was seen.
    fn reassembled(&mut self, packet: &Packet) -> Option<Packet> {
        match packet.message {
            Message::LaterFragment { .. } => {
                let first = self.fragments.iter().rev().find(|first| first.same_datagram(packet))?;
                Some(Packet { message: first.message.without_flags(), ..packet.clone() })
            }
            _ => {
                if packet.fragment.is_some() && !matches!(packet.message, Message::Malformed { .. }) {
                    self.fragments.push(packet.clone());
                }
                Some(packet.clone())
            }
        }
    }

    /// Whether the subject, whose addresses are known, sends with a source address that is none of them.
    fn forges_its_source(&self, packet: &Packet, subject: Subject) -> bool {
        let (Direction::Egress, Some(workload)) = (subject.direction, subject.workload) else { return false };
        let own = &self.world.workloads[workload].addresses;
        !own.is_empty() && !own.contains(&packet.source)
    }

    /// Whether the subject sends with the address of another workload, or, from behind a link, of the host.
    fn poses_as_another(&self, packet: &Packet, subject: Subject) -> bool {
        let (Direction::Egress, Some(workload)) = (subject.direction, subject.workload) else { return false };
        match self.holder(packet.source) {
            Some(holder) => holder != workload,
            None => matches!(packet.spot, Spot::TcEgress { .. }) && self.world.host.contains(&packet.source),
        }
    }

    fn is_of_this_host(&self, address: IpAddr) -> bool {
        self.world.host.contains(&address)
            || self.holder(address).is_some_and(|holder| self.world.workloads[holder].local)
    }

    /// Whether the subject talks with itself.
    fn with_itself(&self, packet: &Packet, subject: Subject) -> bool {
        subject.workload.is_some() && self.holder(packet.peer(subject.direction)) == subject.workload
    }

    /// Denied where the subject is governed, or its scope denies it.
    fn undecidable(&self, subject: Subject, reason: Reason) -> Answer {
        if let Some(denies) = subject.unidentified {
            return answer(&Ruling::Unidentified { denies }, false);
        }
        match self.denial(subject) {
            None => Answer::new(Verdict::Allow, &[Reason::Ungoverned]),
            Some(verdict) => Answer::new(verdict, &[reason]),
        }
    }

    /// What passes as part of a flow that passed before. Of a failsafe port's it may be told whose it is instead.
    fn of_an_old_flow(&self, ruling: &Ruling, subject: Subject) -> Answer {
        let mut answer = answer(ruling, true);
        if *ruling == Ruling::Failsafe && self.denial(subject).is_none() {
            answer.reasons.push(subject.unidentified.map_or(Reason::Ungoverned, |_| Reason::Unidentified));
        }
        answer
    }

    /// Whether a promise to keep the flow still holds.
    fn is_kept(&self, permission: &Permission) -> bool {
        permission.kept && self.held_by(permission.peer) == permission.holder
    }
}

/// Only workloads' links have a hook: whose link nobody knows any more is denied until somebody does.
fn unknown_link(packet: &Packet) -> Answer {
    let direction = if matches!(packet.spot, Spot::TcEgress { .. }) { Direction::Egress } else { Direction::Ingress };
    if packet.belongs_to_the_link(direction) {
        Answer::allow(Reason::NeverCut)
    } else {
        Answer::new(Verdict::Deny, &[Reason::Unidentified])
    }
}

#[cfg(test)]
mod tests;
