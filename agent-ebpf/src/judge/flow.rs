//! A packet as part of its flow: what was decided before, what the rules say now, and what the table keeps of it.

use super::{Evaluation, Judgement, Local, Seen, Subject, local_end, of_stamp};
use crate::abi::{Course, Direction, End, Flow, FlowKey, Party, Place, PortIndex, Reason, Side, Stamp, State, Verdict};
use crate::packet::{Packet, protocol};
use crate::tables::Tables;
use crate::track::FlowCell;

#[inline(always)]
pub(super) fn judge_flow<T: Tables>(
    tables: &T,
    packet: &Packet,
    local: &Local,
    seen: Seen,
    direction: Direction,
    subject: Subject,
    peer: &Party,
) -> Judgement {
    let control = tables.control();
    let (settings, now) = (&control.settings, tables.now());
    let (key, sender) = packet.flow_key();
    let end = local_end(sender, direction);
    let entry = tables.find(&key);
    let alive = entry.filter(|flow| {
        flow.is_alive(settings, packet.protocol, now) && !(packet.opens_tcp() && opens_another(flow, sender))
    });

    if let Some(flow) = alive {
        let stamp = flow.stamp(end);
        let is_held = stamp.holds(control.generation);
        if stamp.was_allowed_for(local.workload) && local.workload != 0 && (is_held || stamp.keeps()) {
            match seen {
                // Another hook judged this flow for the same workload.
                Seen::Interface(interface) if is_held => flow.notice_interface(end, u64::from(interface)),
                Seen::Cgroup(cgroup) if is_held => flow.notice_owner(end, cgroup),
                // `established: keep`: the flow is carried over to the new policy.
                Seen::Interface(_) | Seen::Cgroup(_) => {
                    flow.renew(end, stamp.renewed(subject.generation(control.generation)))
                }
                Seen::Address => {}
            }
            if seen != Seen::Address {
                follow(tables, flow, &key, Step::of(packet, sender));
            }
            return of_stamp(stamp, direction);
        }
    }

    if alive.is_none()
        && settings.denies_midstream != 0
        && packet.protocol == protocol::TCP
        && !packet.opens_tcp()
        && subject.is_governed()
    {
        return Judgement::denied(subject, Reason::Midstream, direction, peer.workload);
    }

    let (role, service, is_judged) = match alive {
        Some(flow) => {
            let role = role(flow, end);
            (role, service(flow, packet, role, direction, end), flow.stamp(end).is_judged())
        }
        None => (direction, packet.service(), false),
    };
    let mut evaluation = tables.evaluate(subject, peer.identity, role, service);
    let mut final_role = role;
    // A TCP segment says whether it begins something. Another packet may only where this side has not judged the flow: a late
    // answer must not open a revoked flow from the other end.
    let may_open = if packet.protocol == protocol::TCP { packet.opens_tcp() } else { !is_judged };
    let is_audited = is_judged && subject.audits(role);
    if evaluation.allowed_by.is_err() && !is_audited && role != direction && may_open {
        // Not allowed as part of that flow, but perhaps as a flow of its own the other way round.
        let own = tables.evaluate(subject, peer.identity, direction, packet.service());
        if own.allowed_by.is_ok() || subject.audits(direction) && !subject.audits(role) {
            (evaluation, final_role) = (own, direction);
        }
    }

    let judgement = match evaluation.allowed_by {
        Ok(_) => Judgement {
            verdict: Verdict::Allow,
            reason: if local.flags & Place::SCOPE != 0 { Reason::Unidentified } else { evaluation.reason() },
            role: final_role,
            rule: evaluation.rule,
            peer_workload: peer.workload,
            is_news: local.workload != 0,
        },
        Err(reason) => Judgement::denied(subject, reason, final_role, peer.workload),
    };
    if judgement.verdict == Verdict::Deny {
        if let Some(flow) = alive
            && seen != Seen::Address
            && flow.stamp(end).workload() == local.workload
        {
            flow.revoke(end);
        }
        return judgement;
    }
    let begins = match alive {
        None => Begins::Anew,
        Some(_) if final_role == role => Begins::Nothing,
        Some(_) if packet.protocol == protocol::TCP => Begins::Anew,
        Some(_) => Begins::OtherWay,
    };
    if begins != Begins::Nothing && !packet.may_be_replied_to() {
        return judgement;
    }
    let generation = subject.generation(control.generation);
    let side = match seen {
        Seen::Address => return Judgement { is_news: false, ..judgement },
        Seen::Cgroup(cgroup) => side(generation, local, subject, peer, &evaluation, &judgement, cgroup, 0),
        Seen::Interface(interface) => {
            side(generation, local, subject, peer, &evaluation, &judgement, 0, u64::from(interface))
        }
    };
    settle(tables, entry, begins, &key, packet, end, sender, &side, judgement, subject)
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
        PortIndex::new(packet.protocol, u16::from_be(packet.source_port))
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "everything that judge_flow found out; a struct would hide nothing")]
fn side(
    generation: u32,
    local: &Local,
    subject: Subject,
    peer: &Party,
    evaluation: &Evaluation,
    judgement: &Judgement,
    owner: u64,
    interface: u64,
) -> Side {
    let audits = judgement.verdict == Verdict::Audit;
    let stamp = Stamp::allowed(local.workload, generation, evaluation.keeps, audits, !subject.is_governed());
    let stamp = if local.flags & Place::SCOPE != 0 { stamp.of_unidentified() } else { stamp };
    let stamp = if peer.flags & (Party::LOCAL | Party::HOST) != 0 { stamp.with_peer_here() } else { stamp };
    let stamp = stamp.as_role(judgement.role);
    Side { stamp, owner, interface }
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
    if let Some(flow) = entry {
        match begins {
            Begins::Nothing => {}
            Begins::Anew => flow.restart(sender, packet.service(), now),
            Begins::OtherWay => flow.turn(sender, packet.service(), now),
        }
        return settle_side(tables, flow, key, packet, end, sender, side, judgement);
    }
    if open(tables, key, side, end, FlowCell::first(sender, packet.service(), packet.tcp_flags)) {
        return judgement;
    }
    if let Some(flow) = tables.find(key) {
        // Another CPU was first, with the other side's packet or with another one of this flow.
        return settle_side(tables, flow, key, packet, end, sender, side, judgement);
    }
    if subject.is_governed() {
        return Judgement::denied(subject, Reason::TableFull, judgement.role, judgement.peer_workload);
    }
    judgement
}

/// Makes the entry of a new flow. A function of its own, as a program's stack is small and the entry is not.
#[inline(never)]
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
        Self { protocol: packet.protocol, tcp_flags: packet.tcp_flags, sender }
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
