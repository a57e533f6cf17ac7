//! The reference model: what a policy means, slow and obvious, written from the design and not from the implementation.
//!
//! It shares the input types with the implementation (the validated policy, the workloads) and the words for verdicts and
//! reasons, and nothing else: no compiled tables, no port classes, no identities, no generation. A flow is judged again by the
//! rules at every packet, so that "a change holds at the next packet" needs no bookkeeping here.
//!
//! Where the design is silent, this is how it is read:
//!
//! - **Sides.** Each end of a flow has a side, which stands for the host that enforces that end. A side holds only what it
//!   allowed itself. Which end opened a flow may differ between the sides: one host may have denied the packet that opened it
//!   for the other. Idle time and TCP state belong to the flow: both sides see the same packets.
//! - **Denied packets leave no trace**: they neither open, keep awake nor close a flow.
//! - **A revoked flow is forgotten** by the side that revoked it. The packet that met the revocation, and every later one, is
//!   judged by itself, as if no flow had been: a packet in the direction of the old replies may well be allowed by a rule.
//! - **Any packet that the rules allow opens a flow**, a TCP segment in mid-stream too.
//! - **Audited flows** pass both ways, every packet with the verdict audit: replies exist only because the opening passed.
//! - **Every denial of a workload's own policy** can become audit: no rule, undecidable packets, a source not its own.
//! - **`established: keep`** is a promise of the group whose rule allowed the flow to the workload that it allowed it for. If
//!   several rules match, one group with `keep` is enough (order never matters). The promise outlives the group, the rule
//!   and the workload's membership. Being ungoverned or having open egress promises nothing.
//! - **An ICMP error belongs to a flow** for a side if it goes to the sender of the quoted packet, and that sender is this
//!   side's end (it may come from any router), or if this side's end sends it about a packet that it received. It belongs only
//!   where the flow passes now; otherwise the rules say, as for any ICMP message. It doesn't keep the flow awake.
//! - **Requests open ICMP flows** (echo, timestamp), named by client, server and identifier. Every other message, and an
//!   answer that nobody asked for, is judged by itself each time: it can't be replied to.
//! - **A later fragment** is judged as a packet with its first one's ports. A first fragment was seen even where it was
//!   denied. TCP flags are in the first fragment alone.
//! - **RFC 4890's messages that must not be dropped** are those of the link (neighbour discovery, which only counts with a hop
//!   limit of 255, and listener reports and queries). Errors pass because they belong to a flow, echo because a rule says so:
//!   rules name both by type, which would mean nothing otherwise.
//! - **DHCP from a workload to its own link** is client to server (68 to 67, 546 to 547), to the broadcast address or the
//!   link's multicast address. The answer, and a renewal addressed to the server, are the rules' matter.
//! - **The source address must be the workload's own** where its addresses are known, and may in no case be another
//!   workload's. An ungoverned workload's packets pass, this included.
//! - **An address that a workload and the host share** is both: rules that name either match.
//! - **An uplink (XDP) decides the ingress of the local workload that has the destination address**, nothing else.
//! - **Who is no workload** (a process in a cgroup that nobody named) has an end and is tracked like an ungoverned workload, so
//!   that being named later cuts nothing.

mod flows;
mod packet;
mod rules;

pub use flows::Timeouts;
pub use packet::{Message, Packet, Port, Quote, Spot};
pub use rules::{RuleName, Ruling};

use std::net::IpAddr;

use bulkhead::policy::model::PolicySet;
use bulkhead::workload::Workload;
use bulkhead_ebpf::abi::{Direction, Reason, Verdict};

use flows::{Flow, Permission};
use packet::{is_answer, is_request};

/// Everything that is so at one moment.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The policy in force.
    pub policy: PolicySet,
    /// Every workload known to this host. No two share an address, a cgroup or an interface.
    pub workloads: Vec<Workload>,
    /// The host's own addresses.
    pub host: Vec<IpAddr>,
}

/// What the model says of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it passes.
    pub verdict: Verdict,
    /// Reasons that may truly be given for it. Several where the design leaves open which of them is named.
    pub reasons: Vec<Reason>,
    /// Rules that allow the flow, where a rule does.
    pub rules: Vec<RuleName>,
}

impl Answer {
    fn new(verdict: Verdict, reasons: &[Reason]) -> Self {
        Self { verdict, reasons: reasons.to_vec(), rules: Vec::new() }
    }

    fn allow(reason: Reason) -> Self {
        Self::new(Verdict::Allow, &[reason])
    }
}

/// The world and what has been seen in it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The world as it is now. Change it at will: the next packet is judged by it.
    pub world: World,
    /// How long flows live without a packet.
    pub timeouts: Timeouts,
    flows: Vec<Flow>,
    fragments: Vec<Packet>,
}

/// Whose rules are asked: a workload (its index in the world) or nobody, at one end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subject {
    workload: Option<usize>,
    direction: Direction,
}

impl Model {
    /// A world in which nothing has been seen yet.
    #[must_use]
    pub const fn new(world: World, timeouts: Timeouts) -> Self {
        Self { world, timeouts, flows: Vec::new(), fragments: Vec::new() }
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
            return Answer::new(Verdict::Allow, &[Reason::NotLocal, Reason::Ungoverned, Reason::Deferred]);
        }
        let whole = self.reassembled(packet);
        let answers: Vec<Answer> =
            subjects.iter().map(|subject| self.side(packet, whole.as_ref(), *subject, now)).collect();
        strictest(answers)
    }

    /// Whose rules this spot asks.
    fn subjects(&self, packet: &Packet) -> Vec<Subject> {
        let local = |workload: &Workload| workload.local;
        match &packet.spot {
            Spot::CgroupEgress { cgroup, .. } => {
                let mut subjects = vec![Subject { workload: self.in_cgroup(cgroup), direction: Direction::Egress }];
                // The receiver's own ingress, where no cgroup hook of its own will ask it.
                let receiver = packet.readable().and_then(|(_, destination)| self.holder(destination));
                if let Some(receiver) = receiver
                    && local(&self.world.workloads[receiver])
                    && self.world.workloads[receiver].cgroup.is_none()
                {
                    subjects.push(Subject { workload: Some(receiver), direction: Direction::Ingress });
                }
                subjects
            }
            Spot::CgroupIngress { cgroup, .. } => {
                vec![Subject { workload: self.in_cgroup(cgroup), direction: Direction::Ingress }]
            }
            Spot::TcEgress { interface } => self.on_link(*interface, Direction::Egress),
            Spot::TcIngress { interface } => self.on_link(*interface, Direction::Ingress),
            Spot::Xdp => packet
                .readable()
                .and_then(|(_, destination)| self.holder(destination))
                .filter(|receiver| local(&self.world.workloads[*receiver]))
                .map(|receiver| Subject { workload: Some(receiver), direction: Direction::Ingress })
                .into_iter()
                .collect(),
        }
    }

    /// What one side says of a packet. `whole` is the packet with its ports, which a later fragment has from its first one.
    fn side(&mut self, packet: &Packet, whole: Option<&Packet>, subject: Subject, now: f64) -> Answer {
        if packet.on_loopback() {
            return Answer::allow(Reason::Loopback);
        }
        if packet.belongs_to_the_link(subject.direction) {
            return Answer::new(Verdict::Allow, &[Reason::NeverCut, Reason::Ungoverned]);
        }
        match packet.message {
            Message::Malformed { .. } => return self.undecidable(subject, Reason::Malformed),
            Message::NotIp { .. } => return self.undecidable(subject, Reason::NotIp),
            _ => {}
        }
        if self.forges_its_source(packet, subject) {
            return self.undecidable(subject, Reason::Spoofed);
        }
        if self.with_itself(packet, subject) {
            return Answer::new(Verdict::Allow, &[Reason::SameWorkload, Reason::Ungoverned]);
        }
        let Some(packet) = whole else {
            return self.undecidable(subject, Reason::FragmentUnseen);
        };
        if let Message::IcmpError { quote, .. } = &packet.message
            && self.quotes_a_flow(packet, quote, subject)
        {
            return Answer::new(Verdict::Allow, &[Reason::Related, Reason::Ungoverned]);
        }
        if let Some(answer) = self.of_a_flow(packet, subject, now) {
            return answer;
        }
        let ruling = self.rule_on(subject, packet.peer(subject.direction), &packet.port());
        if ruling.passes() {
            self.open(packet, subject, &ruling, now);
        }
        answer(&ruling, false)
    }

    /// The answer for a packet of a flow that this side allowed, unless the flow is revoked.
    fn of_a_flow(&mut self, packet: &Packet, subject: Subject, now: f64) -> Option<Answer> {
        if packet.message.opens_tcp() {
            // A SYN on a flow that is closing is a new connection with the old ports.
            self.flows.retain(|flow| !(flow.holds(packet) && flow.closing));
        }
        let index = self.flows.iter().position(|flow| flow.holds(packet))?;
        let end = self.flows[index].end(packet.own_address(subject.direction), packet.own_port(subject.direction));
        let permission = self.flows[index].permissions[end].clone()?;
        let answer = if permission.kept && permission.workload == self.name_of(subject) {
            Answer::new(Verdict::Allow, &[Reason::Established])
        } else {
            let asked = Subject { direction: permission.direction, ..subject };
            let ruling = self.rule_on(asked, permission.peer, &permission.port);
            if !ruling.passes() {
                self.flows[index].permissions[end] = None;
                return None;
            }
            let renewed = Permission { kept: self.promised(&ruling), workload: self.name_of(subject), ..permission };
            self.flows[index].permissions[end] = Some(renewed);
            answer(&ruling, true)
        };
        self.flows[index].note(packet, now);
        Some(answer)
    }

    /// Tracks a packet that a rule, or the absence of any governing group, let pass at this side.
    fn open(&mut self, packet: &Packet, subject: Subject, ruling: &Ruling, now: f64) {
        if let Message::Icmp { kind, .. } = packet.message
            && !is_request(packet.protocol(), kind)
        {
            return;
        }
        if matches!(packet.message, Message::IcmpError { .. }) {
            return;
        }
        let permission = Permission {
            workload: self.name_of(subject),
            direction: subject.direction,
            peer: packet.peer(subject.direction),
            port: packet.port(),
            kept: self.promised(ruling),
        };
        let index = self.flows.iter().position(|flow| flow.holds(packet)).unwrap_or_else(|| {
            self.flows.push(Flow::opened_by(packet, now));
            self.flows.len() - 1
        });
        let flow = &mut self.flows[index];
        let end = flow.end(packet.own_address(subject.direction), packet.own_port(subject.direction));
        flow.permissions[end] = Some(permission);
        flow.note(packet, now);
    }

    /// Whether an ICMP error belongs to a flow that passes at this side.
    fn quotes_a_flow(&self, error: &Packet, quote: &Quote, subject: Subject) -> bool {
        let quoted = quote.as_packet(error);
        if let Message::Icmp { kind, .. } = quoted.message
            && !is_request(quoted.protocol(), kind)
            && !is_answer(quoted.protocol(), kind)
        {
            return false;
        }
        // Errors go to the sender of what they quote.
        if error.destination != quoted.source {
            return false;
        }
        // The direction in which the quoted packet passed this side.
        let quoted_direction = match subject.direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress if error.source == quoted.destination => Direction::Ingress,
            Direction::Egress => return false,
        };
        let Some(flow) = self.flows.iter().find(|flow| flow.holds(&quoted)) else { return false };
        let end = flow.end(quoted.own_address(quoted_direction), quoted.own_port(quoted_direction));
        let Some(permission) = &flow.permissions[end] else { return false };
        if permission.kept && permission.workload == self.name_of(subject) {
            return true;
        }
        let asked = Subject { direction: permission.direction, ..subject };
        self.rule_on(asked, permission.peer, &permission.port).passes()
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

    /// Whether the subject sends with a source address that is not its own.
    fn forges_its_source(&self, packet: &Packet, subject: Subject) -> bool {
        let (Direction::Egress, Some(workload)) = (subject.direction, subject.workload) else { return false };
        let own = &self.world.workloads[workload].addresses;
        let holder = self.holder(packet.source);
        (!own.is_empty() && !own.contains(&packet.source)) || holder.is_some_and(|holder| holder != workload)
    }

    /// Whether the subject talks with itself.
    fn with_itself(&self, packet: &Packet, subject: Subject) -> bool {
        subject.workload.is_some() && self.holder(packet.peer(subject.direction)) == subject.workload
    }

    /// Denied where the subject is governed.
    fn undecidable(&self, subject: Subject, reason: Reason) -> Answer {
        match self.denial(subject) {
            None => Answer::new(Verdict::Allow, &[Reason::Ungoverned]),
            Some(verdict) => Answer::new(verdict, &[reason]),
        }
    }

    fn name_of(&self, subject: Subject) -> Option<String> {
        subject.workload.map(|index| self.world.workloads[index].name.clone())
    }

    /// The workload that holds an address.
    fn holder(&self, address: IpAddr) -> Option<usize> {
        self.world.workloads.iter().position(|workload| workload.addresses.contains(&address))
    }

    /// The workload of the nearest known cgroup at or above `path`.
    fn in_cgroup(&self, path: &str) -> Option<usize> {
        let parts: Vec<&str> = path.split('/').collect();
        (1..=parts.len()).rev().find_map(|length| {
            let ancestor = parts[..length].join("/");
            self.world
                .workloads
                .iter()
                .position(|workload| workload.cgroup.as_ref().is_some_and(|cgroup| cgroup.path == ancestor))
        })
    }

    fn on_link(&self, interface: u32, direction: Direction) -> Vec<Subject> {
        let owner = self
            .world
            .workloads
            .iter()
            .position(|workload| workload.interface.as_ref().is_some_and(|link| link.index == interface));
        owner.map(|owner| Subject { workload: Some(owner), direction }).into_iter().collect()
    }
}

/// What several sides say together: all must let it pass.
fn strictest(answers: Vec<Answer>) -> Answer {
    let rank = |verdict| match verdict {
        Verdict::Deny => 2,
        Verdict::Audit => 1,
        Verdict::Allow => 0,
    };
    let worst = answers.iter().map(|answer| rank(answer.verdict)).max().unwrap_or(0);
    let mut alike = answers.into_iter().filter(|answer| rank(answer.verdict) == worst);
    let mut merged = alike.next().expect("somebody was asked");
    for other in alike {
        merged.reasons.extend(other.reasons);
        merged.rules.extend(other.rules);
    }
    merged
}

fn answer(ruling: &Ruling, established: bool) -> Answer {
    let mut answer = match ruling {
        Ruling::Ungoverned => Answer::new(Verdict::Allow, &[Reason::Ungoverned]),
        Ruling::OpenEgress => Answer::new(Verdict::Allow, &[Reason::OpenEgress]),
        Ruling::Allowed(rules) => Answer { verdict: Verdict::Allow, reasons: vec![Reason::Rule], rules: rules.clone() },
        Ruling::Audited => Answer::new(Verdict::Audit, &[Reason::NoRule]),
        Ruling::Denied => Answer::new(Verdict::Deny, &[Reason::NoRule]),
    };
    if established {
        answer.reasons.push(Reason::Established);
    }
    answer
}

#[cfg(test)]
mod tests;
