//! A packet as part of its flow: what was decided before, what the rules say now, and what the table keeps of it.

use super::claim::vouches;
use super::failsafe::is_failsafe;
use super::{Evaluation, Judgement, Local, Seen, Subject, behind, local_end, of_stamp};
use crate::abi::{
    Backends, Course, Direction, End, Flow, FlowKey, Party, Place, PortIndex, Reason, Side, Stamp, State, Verdict,
};
use crate::packet::{Packet, protocol};
use crate::tables::Tables;
use crate::track::FlowCell;

#[inline(always)]
pub(super) fn judge_flow<T: Tables>(
    tables: &T,
    packet: &Packet,
    local: &Local,
    direction: Direction,
    subject: Subject,
    peer: &Party,
) -> Judgement {
    // Only where something is to be written: it may take a look-up.
    let vouches = || vouches(tables, packet, local, direction);
    let control = tables.control();
    let (key, sender) = (&packet.key, packet.sender());
    let end = local_end(sender, direction);
    // In the order of [`Tables::find`].
    let embryo = if packet.no_embryo != 0 { None } else { tables.embryo(key) };
    let entry = tables.flow(key).or(embryo);
    let alive = entry.filter(|flow| goes_on(tables, flow, packet, sender));

    // An entry that only the other end's side made is no proof for this one.
    let is_judged = alive.is_some_and(|flow| flow.stamp(end).is_judged());
    let is_midstream = !is_judged
        && control.settings.denies_midstream != 0
        && packet.protocol() == protocol::TCP
        && !packet.opens_tcp()
        && subject.is_governed()
        && !is_failsafe(tables, local, key.address(end), direction, packet.service());

    let (role, service) = match alive {
        Some(flow) if !is_midstream => {
            let role = role(flow, end);
            (role, service(flow, packet, role, direction, end))
        }
        _ => (direction, packet.service()),
    };
    let ask = |identity, role, service| {
        let evaluation = if local.is_denied_by_scope() {
            Evaluation::denied(Reason::Unidentified)
        } else {
            tables.evaluate(subject, [local.identity, packet.here], identity, role, service)
        };
        let passes = evaluation.is_allowed() || !is_failsafe(tables, local, key.address(end), role, service);
        if passes { evaluation } else { Evaluation::allowed(Reason::Failsafe) }
    };
    let mut evaluation = Evaluation::unpack(0);
    let stamp = alive.map_or(Stamp::NONE, |flow| flow.stamp(end));
    let was_allowed = stamp.was_allowed_for(local.workload) && local.workload != 0;
    let is_held = was_allowed && stamp.holds(local.generation);
    if !is_held {
        let Backends { identity, service } = reached(tables, packet, peer, role, direction, service);
        evaluation = ask(identity, role, service);
    }
    // Where audit lets it pass, a guardrail must not.
    if is_midstream && !evaluation.is_guarded() {
        return Judgement::denied(subject, Reason::Midstream, direction, peer.workload);
    }
    if let Some(flow) = alive {
        // No promise outlives a guardrail.
        if is_held || was_allowed && stamp.keeps() && flow.peer(end) == peer.workload && !evaluation.is_guarded() {
            if vouches() {
                match local.seen {
                    // Another hook judged this flow for the same workload.
                    Seen::Interface(interface) if is_held => flow.notice_interface(end, interface),
                    Seen::Cgroup(cgroup) if is_held => flow.notice_owner(end, cgroup),
                    // `established: keep`: the flow is carried over to the new policy.
                    Seen::Interface(_) | Seen::Cgroup(_) => flow.renew(end, stamp.renewed(local.generation)),
                    Seen::Address => {}
                }
                follow(tables, flow, key, Step::of(packet, sender));
            }
            return of_stamp(stamp, direction);
        }
    }

    let mut final_role = role;
    // A TCP segment says whether it begins something. Another packet may only where this side has not judged the flow: a late
    // answer must not open a revoked flow from the other end.
    let may_open = if packet.protocol() == protocol::TCP { packet.opens_tcp() } else { !is_judged };
    let verdict = subject.verdict(evaluation, role);
    let is_denied = verdict == Verdict::Deny || verdict == Verdict::Audit && !is_judged;
    if is_denied && role != direction && may_open {
        // Not allowed as part of that flow, but perhaps as a flow of its own the other way round.
        let own = ask(peer.identity, direction, packet.service());
        if own.is_allowed() || verdict == Verdict::Deny && subject.verdict(own, direction) == Verdict::Audit {
            (evaluation, final_role) = (own, direction);
        }
    }

    let is_unidentified = local.flags & Place::SCOPE != 0 && evaluation.reason() == Reason::Ungoverned;
    let judgement = Judgement {
        verdict: subject.verdict(evaluation, final_role),
        reason: if is_unidentified { Reason::Unidentified } else { evaluation.reason() },
        role: final_role,
        rule: evaluation.rule(),
        peer_workload: peer.workload,
        is_news: !evaluation.is_allowed() || local.workload != 0,
    };
    if judgement.verdict == Verdict::Deny {
        if let Some(flow) = alive
            && flow.stamp(end).workload() == local.workload
            && vouches()
        {
            flow.revoke(end);
        }
        return judgement;
    }
    let begins = match alive {
        None => Begins::Anew,
        Some(_) if final_role == role => Begins::Nothing,
        Some(_) if packet.protocol() == protocol::TCP => Begins::Anew,
        Some(_) => Begins::OtherWay,
    };
    if begins != Begins::Nothing && !packet.may_be_replied_to() {
        return judgement;
    }
    if !vouches() {
        return Judgement { is_news: false, ..judgement };
    }
    let (owner, interface) = match local.seen {
        Seen::Address => (0, 0),
        Seen::Cgroup(cgroup) => (cgroup, 0),
        Seen::Interface(interface) => (0, interface),
    };
    let side = side(local, subject, peer, evaluation.keeps(), &judgement, owner, interface);
    settle(tables, entry, begins, key, packet, end, sender, &side, judgement, subject)
}

/// Whom a flow that is known is for, and at which port of theirs: at a service's address those who stand behind it now, but what
/// the address itself opened is the service's own. `peer` and the packet are translated already where the packet goes there.
#[inline(always)]
fn reached<T: Tables>(
    tables: &T,
    packet: &Packet,
    peer: &Party,
    role: Direction,
    direction: Direction,
    service: PortIndex,
) -> Backends {
    let own = Backends { identity: peer.identity, service };
    if peer.flags & Party::SERVICE == 0 {
        return own;
    }
    match (role, direction) {
        (Direction::Egress, Direction::Egress) => Backends { service: packet.service(), ..own },
        (Direction::Ingress, Direction::Ingress) => own,
        (Direction::Ingress, Direction::Egress) => {
            Backends { identity: tables.party(packet.destination()).identity, service }
        }
        (Direction::Egress, Direction::Ingress) => match behind(tables, packet, direction) {
            0 => own,
            found => Backends::unpack(found, service),
        },
    }
}

/// Whether a flow is not dead, and the packet does not begin another one. A function of its own, as a program's stack is small.
#[inline(never)]
fn goes_on<T: Tables>(tables: &T, flow: &FlowCell, packet: &Packet, sender: End) -> bool {
    flow.is_alive(&tables.control().settings, packet.protocol(), tables.now())
        && !(packet.opens_tcp() && opens_another(flow, sender))
}

/// What a packet does to the entry of its flow, besides being part of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// Nothing: it is part of the flow.
    Nothing,
    /// Another flow, about which neither side has said anything.
    Anew,
    /// The flow from its other end. What that end's side allowed stands: it may be another host that enforces it.
    OtherWay,
}

/// As what `end` is judged: as what this side judged it before, else as the end of the flow that it is.
#[inline(always)]
fn role(flow: &FlowCell, end: End) -> Direction {
    let stamp = flow.stamp(end);
    if stamp.is_judged() { stamp.role() } else { course_role(flow, end) }
}

#[inline(always)]
pub(super) fn course_role(flow: &FlowCell, end: End) -> Direction {
    if flow.course().initiator() == end { Direction::Egress } else { Direction::Ingress }
}

/// What the flow's opening packet was addressed to, for a side that judges it in `role`.
#[inline(always)]
fn service(flow: &FlowCell, packet: &Packet, role: Direction, direction: Direction, end: End) -> PortIndex {
    if role == course_role(flow, end) {
        flow.course().service()
    } else if role == direction {
        packet.service()
    } else {
        PortIndex::new(packet.protocol(), u16::from_be(packet.source_port()))
    }
}

#[inline(always)]
fn side(
    local: &Local,
    subject: Subject,
    peer: &Party,
    keeps: bool,
    judgement: &Judgement,
    owner: u64,
    interface: u32,
) -> Side {
    let audits = judgement.verdict == Verdict::Audit;
    let stamp = Stamp::allowed(local.workload, local.generation, keeps, audits, !subject.is_governed());
    let stamp = if local.flags & Place::SCOPE != 0 { stamp.of_unidentified() } else { stamp };
    let stamp = if peer.flags & (Party::LOCAL | Party::HOST) != 0 { stamp.with_peer_here() } else { stamp };
    let stamp = stamp.as_role(judgement.role);
    Side { stamp, owner, interface_and_peer: u64::from(peer.workload) << 32 | u64::from(interface) }
}

/// Writes an allowed side into the flow table.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "everything that judge_flow found out; a struct would hide nothing")]
fn settle<T: Tables>(
    tables: &T,
    entry: Option<&FlowCell>,
    begins: Begins,
    key: &FlowKey,
    packet: &Packet,
    end: End,
    sender: End,
    side: &Side,
    judgement: Judgement,
    subject: Subject,
) -> Judgement {
    let now = tables.now();
    let existing = match entry {
        Some(flow) => {
            match begins {
                Begins::Nothing => {}
                Begins::Anew => flow.restart(sender, packet.service(), now),
                Begins::OtherWay => flow.turn(sender, packet.service(), now),
            }
            Some(flow)
        }
        None => {
            if open(tables, key, side, end, FlowCell::first(sender, packet.service(), packet.tcp_flags)) {
                return judgement;
            }
            // Perhaps another CPU was first, with the other side's packet or with another one of this flow.
            tables.find(key)
        }
    };
    if let Some(flow) = existing {
        return settle_side(tables, flow, key, packet, end, sender, side, judgement);
    }
    if subject.is_governed() {
        return Judgement::denied(subject, Reason::TableFull, judgement.role, judgement.peer_workload);
    }
    judgement
}

/// Makes the entry of a new flow.
#[inline(always)]
fn open<T: Tables>(tables: &T, key: &FlowKey, side: &Side, end: End, course: Course) -> bool {
    let mut flow = Flow { sides: [Side::NONE; 2], seen: tables.now(), course };
    match end {
        End::Low => flow.sides[0] = *side,
        End::High => flow.sides[1] = *side,
    }
    tables.insert_embryo(key, &flow)
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "as above")]
fn settle_side<T: Tables>(
    tables: &T,
    flow: &FlowCell,
    key: &FlowKey,
    packet: &Packet,
    end: End,
    sender: End,
    side: &Side,
    judgement: Judgement,
) -> Judgement {
    let is_first = flow.settle(end, side);
    follow(tables, flow, key, Step::of(packet, sender));
    Judgement { is_news: judgement.is_news && is_first, ..judgement }
}

/// What [`follow`] needs to know of a packet: small enough for one register.
#[derive(Clone, Copy)]
struct Step {
    protocol: u8,
    tcp_flags: u8,
    sender: End,
}

impl Step {
    #[inline(always)]
    const fn of(packet: &Packet, sender: End) -> Self {
        Self { protocol: packet.protocol(), tcp_flags: packet.tcp_flags, sender }
    }
}

/// Follows one allowed packet, which may be the one that makes an embryo an established flow. A function of its own, as a
/// program's stack is small.
#[inline(never)]
fn follow<T: Tables>(tables: &T, flow: &FlowCell, key: &FlowKey, step: Step) {
    flow.follow(step.tcp_flags, step.sender, &tables.control().settings, tables.now());
    if flow.is_proven(step.protocol, step.tcp_flags, step.sender) && tables.flow(key).is_none() {
        tables.establish(key, flow);
    }
}

/// Whether a SYN is none of this flow's: the flow is closing and its ports are used again, or the answering end opens a
/// connection of its own. While nobody has answered yet, both ends may open the same connection (RFC 9293 section 3.5).
#[inline(always)]
fn opens_another(flow: &FlowCell, sender: End) -> bool {
    let course = flow.course();
    match course.state() {
        State::Embryonic => false,
        State::Established => course.initiator() != sender,
        State::Closing | State::Reset => true,
    }
}
