//! The decision: one packet, one local workload, the tables; out comes a verdict with its reason.
//!
//! Every hook calls this, and so do the agent's tests. A packet of a flow that was judged under the generation in force
//! takes [`known`]: one flow look-up. Everything else takes [`judge`].
//!
//! A TCP segment in the middle of a connection that the table does not know (one older than the agent, or idle beyond its
//! time-out) is judged as if its sender had opened the connection. What a client sends brings the connection back by the
//! same rules as its SYN would have; what a server sends is, where its egress is restricted, denied until the client's next
//! packet, which TCP repeats. The port that a segment comes from is no proof that it is an answer: with one that counted as
//! such, a workload could send what it likes, to whomever may reach one of its ports.
//!
//! A segment that the kernel has yet to cut, or has put together (GSO, GRO), is one packet here, of all its bytes.

mod evaluate;

pub use evaluate::{Evaluation, Subject, evaluate};

use crate::abi::{
    Address, Course, Direction, End, Flow, FlowKey, Fragment, IDENTITY_WORLD, Party, Place, PortIndex, RULE_NONE,
    Reason, Settings, Side, Stamp, State, Verdict,
};
use crate::packet::{Bytes, Packet, Part, Plain, is_never_cut, parse_quote, protocol, tcp};
use crate::tables::Tables;
use crate::track::FlowCell;

/// The local workload whose side is judged, and how the hook knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its number; 0 for the host's own processes.
    pub workload: u32,
    /// Its identity; [`IDENTITY_WORLD`] for the host's own processes.
    pub identity: u32,
    /// Bits of [`Place`].
    pub flags: u32,
    /// How the hook knows it.
    pub seen: Seen,
}

/// How a hook knows the local workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// By the cgroup of the packet's socket.
    Cgroup(u64),
    /// By the interface that the packet came or goes through.
    Interface(u32),
    /// By address alone, or not for sure: such a packet is only dropped or not, it never vouches for a flow.
    Address,
}

impl Local {
    /// The host's own processes, which no workload claims.
    #[must_use]
    pub const fn host(seen: Seen) -> Self {
        Self { workload: 0, identity: IDENTITY_WORLD, flags: 0, seen }
    }

    /// Behind an interface that the tables don't name: there was no room for it, or it is not written yet.
    #[must_use]
    pub const fn unnamed(seen: Seen) -> Self {
        Self { flags: Place::SCOPE | Place::SCOPE_DENIES, ..Self::host(seen) }
    }

    /// The workload of a cgroup or an interface.
    #[must_use]
    pub const fn at(place: Place, seen: Seen) -> Self {
        Self { workload: place.workload, identity: place.identity, flags: place.flags, seen }
    }
}

/// A verdict, and what an event or a counter says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What happens to the packet.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Whose rules were consulted: of the local workload as the flow's destination or as its source.
    pub role: Direction,
    /// The rule that decided, or [`RULE_NONE`].
    pub rule: u32,
    /// The workload at the other end, 0 where none is known.
    pub peer_workload: u32,
    /// Whether this is news, and counts as a hit of the rule: a denied packet or call; or a flow, once for each of its sides
    /// that belongs to a workload here.
    ///
    /// A side is news where it was not allowed for its workload before: neither the further hooks that see the same packet
    /// nor a change of policy or workloads that leaves the flow allowed make it so again. A flow that was idle beyond its
    /// time-out or gave way in a full table is a new one. XDP and the calls only tell of denials: what they let pass is
    /// judged where the flow is tracked.
    pub is_news: bool,
}

impl Judgement {
    #[inline(always)]
    const fn quiet(reason: Reason, role: Direction) -> Self {
        Self { verdict: Verdict::Allow, reason, role, rule: RULE_NONE, peer_workload: 0, is_news: false }
    }

    /// Loopback: not looked at any further.
    #[inline(always)]
    #[must_use]
    pub const fn loopback(role: Direction) -> Self {
        Self::quiet(Reason::Loopback, role)
    }

    /// ARP: not looked at any further.
    #[inline(always)]
    #[must_use]
    pub const fn never_cut(role: Direction) -> Self {
        Self::quiet(Reason::NeverCut, role)
    }

    /// The receiver is no workload of this host.
    #[inline(always)]
    #[must_use]
    pub const fn not_local(role: Direction) -> Self {
        Self::quiet(Reason::NotLocal, role)
    }

    /// A later hook decides.
    #[inline(always)]
    #[must_use]
    pub const fn deferred(role: Direction) -> Self {
        Self::quiet(Reason::Deferred, role)
    }

    /// A denial, or an audit where the workload's groups are in audit for `role`.
    #[inline(always)]
    const fn denied(subject: Subject, reason: Reason, role: Direction, peer_workload: u32) -> Self {
        let verdict = if subject.audits(role) { Verdict::Audit } else { Verdict::Deny };
        Self { verdict, reason, role, rule: RULE_NONE, peer_workload, is_news: true }
    }
}

/// The end of the flow that is local: the sender's for egress, the receiver's for ingress.
#[inline(always)]
#[must_use]
pub const fn local_end(sender: End, direction: Direction) -> End {
    match direction {
        Direction::Egress => sender,
        Direction::Ingress => sender.other(),
    }
}

/// The fast path: a plain packet of a flow whose local side was allowed under this generation, for this very cgroup or
/// interface. `None` means that [`judge`] must look.
#[inline(always)]
pub fn known<T: Tables>(tables: &T, packet: &Plain, seen: Seen, direction: Direction) -> Option<Judgement> {
    let sender = packet.sender;
    let flow = tables.flow(&packet.key)?;
    let end = local_end(sender, direction);
    let is_same = match seen {
        Seen::Cgroup(cgroup) => flow.owner(end) == cgroup,
        Seen::Interface(interface) => flow.interface(end) == u64::from(interface),
        // This hook only drops, and the hooks behind it make sure of the owner. But what comes from outside is no packet of
        // a flow whose sending end was judged here.
        Seen::Address => flow.stamp(sender) == Stamp::NONE && !flow.stamp(end).peer_is_here(),
    };
    let stamp = flow.stamp(end);
    let (control, now) = (tables.control(), tables.now());
    if !is_same || !stamp.holds(control.generation) || !flow.is_alive(&control.settings, packet.key.protocol, now) {
        return None;
    }
    if seen != Seen::Address {
        flow.follow(packet.tcp_flags, sender, &control.settings, now);
    }
    Some(of_stamp(stamp, direction))
}

/// What a flow's stamp says of its further packets.
#[inline(always)]
fn of_stamp(stamp: Stamp, role: Direction) -> Judgement {
    if stamp.unidentified() {
        Judgement::quiet(Reason::Unidentified, role)
    } else if stamp.ungoverned() {
        Judgement::quiet(Reason::Ungoverned, role)
    } else if stamp.audits() {
        Judgement { verdict: Verdict::Audit, ..Judgement::quiet(Reason::NoRule, role) }
    } else {
        Judgement::quiet(Reason::Established, role)
    }
}

/// Judges a packet that could not be parsed: undecidable is denied for governed workloads.
#[inline(always)]
pub fn undecidable<T: Tables>(tables: &T, local: &Local, direction: Direction, reason: Reason) -> Judgement {
    if let Some(judgement) = denied_by_scope(local, direction) {
        return judgement;
    }
    let subject = Subject::of(tables, local);
    if local.flags & Place::SCOPE != 0 {
        Judgement::quiet(Reason::Unidentified, direction)
    } else if subject.is_governed() {
        Judgement::denied(subject, reason, direction, 0)
    } else {
        Judgement::quiet(Reason::Ungoverned, direction)
    }
}

/// Judges one packet in full.
#[inline(always)]
pub fn judge<T: Tables, B: Bytes + ?Sized>(
    tables: &T,
    bytes: &B,
    mut packet: Packet,
    local: &Local,
    direction: Direction,
) -> Judgement {
    let is_related = is_related(tables, bytes, &packet, local, direction);
    judge_in_place(tables, is_related, &mut packet, local, direction)
}

/// [`judge`] in two steps and without a copy of the packet, as a program's stack is small: [`is_related`] comes first, and a
/// later fragment gets its first one's ports.
#[inline(always)]
pub fn judge_in_place<T: Tables>(
    tables: &T,
    is_related: bool,
    packet: &mut Packet,
    local: &Local,
    direction: Direction,
) -> Judgement {
    let is_complete = packet.part == Part::Whole || complete(tables, packet);
    if is_never_cut(packet, direction) {
        return Judgement::quiet(Reason::NeverCut, direction);
    }
    if let Some(judgement) = denied_by_scope(local, direction) {
        return judgement;
    }
    let subject = Subject::of(tables, local);
    let peer = match direction {
        Direction::Egress => tables.party(&packet.destination),
        Direction::Ingress => tables.party(&packet.source),
    };
    if is_foreign(local, &peer) && subject.is_governed() {
        return Judgement::denied(subject, Reason::Spoofed, direction, peer.workload);
    }
    if local.workload != 0 && peer.workload == local.workload {
        return Judgement::quiet(Reason::SameWorkload, direction);
    }
    match claim(tables, packet, local, direction) {
        Claim::Own => {}
        Claim::Unknown if !subject.is_governed() => {}
        Claim::Unknown => return Judgement::denied(subject, Reason::Spoofed, direction, peer.workload),
        // It is not this workload's packet, so its being in audit says nothing: it would be judged as the other's elsewhere.
        Claim::Others => {
            let denied = Judgement::denied(subject, Reason::Spoofed, direction, peer.workload);
            return Judgement { verdict: Verdict::Deny, ..denied };
        }
    }
    if !is_complete {
        return undecidable(tables, local, direction, Reason::FragmentUnseen);
    }
    if is_related {
        return Judgement::quiet(Reason::Related, direction);
    }
    // A bridge floods, say. It must not make this workload the owner of another's end, who could then answer for it.
    let is_misaddressed = direction == Direction::Ingress && is_misaddressed(tables, packet, local);
    let seen = if is_misaddressed { Seen::Address } else { local.seen };
    judge_flow(tables, packet, local, seen, direction, subject, &peer)
}

/// What a scope says of a workload that is not known yet; `None` where it allows it or there is no scope.
#[inline(always)]
const fn denied_by_scope(local: &Local, direction: Direction) -> Option<Judgement> {
    if local.flags & Place::SCOPE == 0 || local.flags & Place::SCOPE_DENIES == 0 {
        return None;
    }
    Some(Judgement { verdict: Verdict::Deny, is_news: true, ..Judgement::quiet(Reason::Unidentified, direction) })
}

/// Judges a system call that opens a flow, before there is a packet: the same egress decision.
#[inline(always)]
pub fn judge_call<T: Tables>(tables: &T, destination: &Address, packet: &Packet, local: &Local) -> Judgement {
    let role = Direction::Egress;
    // Linux connects `0.0.0.0` and `::` to loopback, which is never cut. For the rest the packets that follow are judged with
    // what is known by then.
    let is_here = destination.is_loopback() || destination.is_unspecified();
    if is_here || local.flags & Place::SCOPE != 0 || local.workload == 0 {
        return Judgement::quiet(Reason::Deferred, role);
    }
    let subject = Subject::of(tables, local);
    let peer = tables.party(destination);
    if peer.workload == local.workload {
        return Judgement::quiet(Reason::SameWorkload, role);
    }
    if is_never_cut(packet, role) {
        return Judgement::quiet(Reason::NeverCut, role);
    }
    if peer.flags & Party::HOST != 0 {
        // Within the host's own network namespace its addresses are loopback; only the packet's interface tells.
        return Judgement::quiet(Reason::Deferred, role);
    }
    let evaluation = tables.evaluate(subject, peer.identity, role, packet.service());
    match evaluation.allowed_by {
        Ok(_) => Judgement {
            rule: evaluation.rule,
            peer_workload: peer.workload,
            ..Judgement::quiet(evaluation.reason(), role)
        },
        Err(reason) => Judgement::denied(subject, reason, role, peer.workload),
    }
}

/// Fills in the ports of a later fragment from the first, or remembers the first. False where the first is not known.
#[inline(never)]
fn complete<T: Tables>(tables: &T, packet: &mut Packet) -> bool {
    let key = packet.fragment_key();
    if packet.part == Part::First {
        let fragment = Fragment {
            ports: [packet.source_port, packet.destination_port],
            detail: packet.detail,
            protocol: packet.protocol,
            reserved: 0,
        };
        tables.remember_fragment(&key, &fragment);
        return true;
    }
    let Some(first) = tables.fragment(&key) else { return false };
    packet.source_port = first.ports[0];
    packet.destination_port = first.ports[1];
    packet.detail = first.detail;
    packet.protocol = first.protocol;
    true
}

/// Whether a packet that comes from outside claims to be sent by a workload of this host, or by the host itself.
#[inline(always)]
fn is_foreign(local: &Local, peer: &Party) -> bool {
    local.seen == Seen::Address && peer.flags & (Party::LOCAL | Party::HOST) != 0
}

/// Whether a packet comes to a workload that is addressed to another one.
#[inline(never)]
fn is_misaddressed<T: Tables>(tables: &T, packet: &Packet, local: &Local) -> bool {
    let addressee = tables.party(&packet.destination);
    addressee.workload != 0 && addressee.workload != local.workload
}

/// What a local sender claims to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// An address of its own, or one that nobody is known to hold.
    Own,
    /// An address that nobody is known to hold, although the sender's own ones are known.
    Unknown,
    /// Another workload's address or, from behind a link, the host's.
    Others,
}

/// What the local sender claims to be by its source address.
#[inline(never)]
fn claim<T: Tables>(tables: &T, packet: &Packet, local: &Local, direction: Direction) -> Claim {
    if direction == Direction::Ingress || local.workload == 0 {
        return Claim::Own;
    }
    let own = tables.party(&packet.source);
    let is_hosts = matches!(local.seen, Seen::Interface(_)) && own.flags & Party::HOST != 0;
    if own.workload == local.workload {
        Claim::Own
    } else if own.workload != 0 || is_hosts {
        Claim::Others
    } else if local.flags & Place::STRICT_SOURCE != 0 {
        Claim::Unknown
    } else {
        Claim::Own
    }
}

/// Whether an ICMP error quotes a flow that the local side allows, and goes to the sender of the packet that it quotes: to
/// anybody else it would be a way to carry data past the rules.
#[inline(never)]
pub fn is_related<T: Tables, B: Bytes + ?Sized>(
    tables: &T,
    bytes: &B,
    packet: &Packet,
    local: &Local,
    direction: Direction,
) -> bool {
    let Some((key, sender)) = parse_quote(bytes, packet) else { return false };
    if key.addresses[sender as usize & 1] != packet.destination {
        return false;
    }
    // An error that comes in quotes what the local end sent; one that goes out quotes what it received.
    let end = local_end(
        sender,
        match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        },
    );
    let Some(flow) = tables.flow(&key) else { return false };
    let (stamp, control) = (flow.stamp(end), tables.control());
    if !flow.is_alive(&control.settings, key.protocol, tables.now()) {
        return false;
    }
    if stamp.was_allowed_for(local.workload) && (stamp.holds(control.generation) || stamp.keeps()) {
        return true;
    }
    // The policy changed, and the error comes before the flow's next packet.
    let role = stamp.role();
    let service = if role == course_role(flow, end) {
        flow.course().service()
    } else {
        let opener = match role {
            Direction::Egress => end,
            Direction::Ingress => end.other(),
        };
        PortIndex::new(key.protocol, u16::from_be(key.ports[opener.other() as usize & 1]))
    };
    let peer = tables.party(&key.addresses[end.other() as usize & 1]);
    let subject = Subject::of(tables, local);
    stamp.is_judged()
        && stamp.workload() == local.workload
        && (subject.audits(role) || tables.evaluate(subject, peer.identity, role, service).allowed_by.is_ok())
}

#[inline(always)]
fn judge_flow<T: Tables>(
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
    let entry = tables.flow(&key);
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
                Seen::Interface(_) | Seen::Cgroup(_) => flow.renew(end, stamp.renewed(control.generation)),
                Seen::Address => {}
            }
            if seen != Seen::Address {
                flow.follow(packet.tcp_flags, sender, settings, now);
            }
            return of_stamp(stamp, direction);
        }
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
    let side = match seen {
        Seen::Address => return Judgement { is_news: false, ..judgement },
        Seen::Cgroup(cgroup) => side(control.generation, local, subject, peer, &evaluation, &judgement, cgroup, 0),
        Seen::Interface(interface) => {
            side(control.generation, local, subject, peer, &evaluation, &judgement, 0, u64::from(interface))
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
fn course_role(flow: &FlowCell, end: End) -> Direction {
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
    let (settings, now) = (&tables.control().settings, tables.now());
    if let Some(flow) = entry {
        match begins {
            Begins::Nothing => {}
            Begins::Anew => flow.restart(sender, packet.service(), now),
            Begins::OtherWay => flow.turn(sender, packet.service(), now),
        }
        return settle_side(flow, packet, end, sender, side, settings, now, judgement);
    }
    let state = if packet.tcp_flags & (tcp::FIN | tcp::RST) != 0 { State::Closing } else { State::Embryonic };
    if open(tables, key, side, end, Course::new(sender, packet.service(), state)) {
        return judgement;
    }
    if let Some(flow) = tables.flow(key) {
        // Another CPU was first, with the other side's packet or with another one of this flow.
        return settle_side(flow, packet, end, sender, side, settings, now, judgement);
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
    tables.insert_flow(key, &flow)
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "as above")]
fn settle_side(
    flow: &FlowCell,
    packet: &Packet,
    end: End,
    sender: End,
    side: &Side,
    settings: &Settings,
    now: u64,
    judgement: Judgement,
) -> Judgement {
    let is_first = flow.settle(end, side);
    flow.follow(packet.tcp_flags, sender, settings, now);
    Judgement { is_news: judgement.is_news && is_first, ..judgement }
}

/// Whether a SYN is none of this flow's: the flow is closing and its ports are used again, or the answering end opens a
/// connection of its own. While nobody has answered yet, both ends may open the same connection (RFC 9293 section 3.5).
#[inline(always)]
fn opens_another(flow: &FlowCell, sender: End) -> bool {
    let course = flow.course();
    match course.state() {
        State::Embryonic => false,
        State::Established => course.initiator() != sender,
        State::Closing => true,
    }
}

#[cfg(test)]
mod tests;
