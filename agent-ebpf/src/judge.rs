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

mod claim;
mod evaluate;
mod failsafe;
mod flow;
mod related;

pub use evaluate::{Evaluation, Subject, evaluate, guardrail};
pub use failsafe::failsafe;

use crate::abi::{
    Address, Backends, Direction, End, Fragment, Frontend, IDENTITY_WORLD, Party, Place, PortIndex, RULE_NONE, Reason,
    Stamp, State, Verdict,
};
use crate::packet::{Bytes, Packet, Part, is_never_cut};
use crate::tables::Tables;
use crate::track::FlowCell;
use claim::{Claim, claim, is_foreign};
use failsafe::names;
use flow::judge_flow;

/// The local workload whose side is judged, how the hook knows it, and as of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its number; 0 for the host's own processes.
    pub workload: u32,
    /// Its identity; [`IDENTITY_WORLD`] for the host's own processes.
    pub identity: u32,
    /// Bits of [`Place`].
    pub flags: u32,
    /// The generation that was in force before anything else was looked up. The copy of the tables that everything about the
    /// packet is asked of is this one's, and so is the stamp of what comes of it: what was looked up since is of this
    /// generation or newer, so that a verdict from before a change never passes for one from after it.
    pub generation: u32,
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
    pub const fn host(generation: u32, seen: Seen) -> Self {
        Self { workload: 0, identity: IDENTITY_WORLD, flags: 0, generation, seen }
    }

    /// Behind an interface that the tables don't name: there was no room for it, or it is not written yet.
    #[must_use]
    pub const fn unnamed(generation: u32, seen: Seen) -> Self {
        Self { flags: Place::SCOPE | Place::SCOPE_DENIES, ..Self::host(generation, seen) }
    }

    /// Whether it is not known yet, and its scope denies it until it is.
    #[inline(always)]
    const fn is_denied_by_scope(&self) -> bool {
        self.flags & (Place::SCOPE | Place::SCOPE_DENIES) == Place::SCOPE | Place::SCOPE_DENIES
    }

    /// The workload of a cgroup or an interface.
    #[must_use]
    pub const fn at(generation: u32, place: Place, seen: Seen) -> Self {
        Self { workload: place.workload, identity: place.identity, flags: place.flags, generation, seen }
    }

    /// The workload behind a packet's destination.
    #[inline(always)]
    #[must_use]
    pub const fn behind(generation: u32, receiver: &Party) -> Self {
        let (workload, identity) = (receiver.workload, receiver.identity);
        Self { workload, identity, flags: 0, generation, seen: Seen::Address }
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

/// What the fast path makes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It passes.
    Passes(Judgement),
    /// [`judge`] must look.
    Unsure,
    /// [`judge`] must look, and will find no embryo ([`Packet::no_embryo`]).
    NoEmbryo,
}

impl Known {
    /// Why it passes, if it does.
    #[inline(always)]
    #[must_use]
    pub const fn passes(self) -> Option<Judgement> {
        match self {
            Self::Passes(judgement) => Some(judgement),
            Self::Unsure | Self::NoEmbryo => None,
        }
    }
}

/// The fast path: a plain packet ([`crate::packet::plain`]) of a flow whose local side was allowed under this generation, for
/// this very cgroup or interface, or for its workload.
#[inline(always)]
pub fn known<T: Tables>(tables: &T, packet: &Packet, seen: Seen, direction: Direction) -> Known {
    // Copies of its own: of the packet in memory the compiler would write every field.
    let (key, sender) = (packet.key, packet.sender());
    let flow = match (tables.flow(&key), packet.opens_tcp()) {
        (Some(flow), false) => flow,
        // Perhaps it opens another one.
        (Some(_), true) => return Known::Unsure,
        (None, opens) => {
            let Some(flow) = tables.embryo(&key) else { return Known::NoEmbryo };
            // What nobody answers (telemetry, say) stays an embryo for good. A SYN is seen by several hooks, and again.
            let is_same_flow = !opens || flow.course().state() == State::Embryonic;
            if !is_same_flow || !flow.is_left_as_it_is(key.protocol(), packet.tcp_flags, sender) {
                return Known::Unsure;
            }
            flow
        }
    };
    let end = local_end(sender, direction);
    let stamp = flow.stamp(end);
    let is_same = match seen {
        Seen::Cgroup(cgroup) => flow.owner(end) == cgroup,
        Seen::Interface(interface) => flow.interface(end) == interface,
        // This hook only drops, and the hooks behind it make sure of the owner. But what comes from outside is no packet of
        // a flow whose sending end was judged here.
        Seen::Address => flow.stamp(sender) == Stamp::NONE && !stamp.peer_is_here(),
    };
    let (control, now) = (tables.control(), tables.now());
    if !stamp.holds(control.generation) || !flow.is_alive(&control.settings, key.protocol(), now) {
        return Known::Unsure;
    }
    if !is_same && !is_noticed(tables, flow, end, seen, stamp) {
        return Known::Unsure;
    }
    if seen != Seen::Address {
        flow.follow(packet.tcp_flags, sender, &control.settings, now);
    }
    Known::Passes(of_stamp(stamp, direction))
}

/// Whether the local side was allowed at the workload's other hook and never yet seen at this one, which is noted then. The
/// workload must be held to its own addresses, as for others it depends on the hook which ones it may have.
#[inline(always)]
fn is_noticed<T: Tables>(tables: &T, flow: &FlowCell, end: End, seen: Seen, stamp: Stamp) -> bool {
    let is_first = match seen {
        Seen::Cgroup(_) => flow.owner(end) == 0,
        Seen::Interface(_) => flow.interface(end) == 0,
        Seen::Address => false,
    };
    if !is_first || stamp.unidentified() || stamp.ungoverned() || stamp.workload() == 0 {
        return false;
    }
    let Some(place) = tables.place(seen) else { return false };
    if place.workload != stamp.workload() || place.flags & Place::STRICT_SOURCE == 0 {
        return false;
    }
    match seen {
        Seen::Cgroup(cgroup) => flow.notice_owner(end, cgroup),
        Seen::Interface(interface) => flow.notice_interface(end, interface),
        Seen::Address => {}
    }
    true
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
    if local.is_denied_by_scope() {
        return Judgement {
            verdict: Verdict::Deny,
            is_news: true,
            ..Judgement::quiet(Reason::Unidentified, direction)
        };
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
    let kin = kin(tables, bytes, &mut packet, local, direction);
    judge_in_place(tables, kin, &mut packet, local, direction)
}

/// What a packet is part of, besides a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// Nothing.
    None,
    /// A flow that it quotes, as an ICMP error.
    Flow,
    /// A datagram whose first fragment was not seen.
    Unseen,
}

/// The first step of [`judge`]: a later fragment gets its first one's ports, and an ICMP error is held against the flow that
/// it quotes. Two steps without a copy of the packet, as a program's stack is small and shared by the calls that are open.
#[inline(always)]
pub fn kin<T: Tables, B: Bytes + ?Sized>(
    tables: &T,
    bytes: &B,
    packet: &mut Packet,
    local: &Local,
    direction: Direction,
) -> Kin {
    if packet.part != Part::Whole && !complete(tables, packet) {
        return Kin::Unseen;
    }
    if packet.quote != 0 && related::is_related(tables, bytes, packet, local, direction) {
        Kin::Flow
    } else {
        Kin::None
    }
}

/// The second step of [`judge`].
#[inline(always)]
pub fn judge_in_place<T: Tables>(
    tables: &T,
    kin: Kin,
    packet: &mut Packet,
    local: &Local,
    direction: Direction,
) -> Judgement {
    if is_never_cut(packet, direction) {
        return Judgement::quiet(Reason::NeverCut, direction);
    }
    let subject = Subject::of(tables, local);
    let mut peer = match direction {
        Direction::Egress => tables.party(packet.destination()),
        Direction::Ingress => tables.party(packet.source()),
    };
    if direction == Direction::Egress && peer.flags & Party::SERVICE != 0 {
        let found = behind(tables, packet, direction);
        if found != 0 {
            let backends = Backends::unpack(found, packet.service());
            (peer.identity, packet.detail) = (backends.identity, backends.service.0 as u16);
        }
    }
    if subject.is_guarded() {
        let own = if direction == Direction::Egress { packet.source() } else { packet.destination() };
        packet.here = tables.party(own).identity;
    }
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
    if kin == Kin::Unseen {
        return undecidable(tables, local, direction, Reason::FragmentUnseen);
    }
    if kin == Kin::Flow {
        return Judgement::quiet(Reason::Related, direction);
    }
    judge_flow(tables, packet, local, direction, subject, &peer)
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
    let (mut identity, mut service) = (peer.identity, packet.service());
    if peer.flags & Party::SERVICE != 0 {
        let found = behind(tables, packet, role);
        if found != 0 {
            Backends { identity, service } = Backends::unpack(found, service);
        }
    }
    // The address is not chosen yet: a guardrail that names it is left to the packets.
    let evaluation = tables.evaluate(subject, [local.identity; 2], identity, role, service);
    if !evaluation.is_allowed() && names(tables, role, service) {
        // Nor whether it is the host's own; the packets tell.
        return Judgement::quiet(Reason::Deferred, role);
    }
    Judgement {
        verdict: subject.verdict(evaluation, role),
        reason: evaluation.reason(),
        role,
        rule: evaluation.rule(),
        peer_workload: peer.workload,
        is_news: !evaluation.is_allowed(),
    }
}

/// Whom a packet to a service is for, at which port of theirs, and whom an answer from there is from: those who stand behind it, as
/// the host translates such packets behind the hooks that see the client. As [`Backends::pack`] has it; 0 where nobody does. A
/// function of its own, as a program's stack is small.
#[inline(never)]
fn behind<T: Tables>(tables: &T, packet: &Packet, direction: Direction) -> u32 {
    let (address, port) = match direction {
        Direction::Egress => (packet.destination(), packet.detail),
        Direction::Ingress => (packet.source(), u16::from_be(packet.source_port())),
    };
    let frontend = Frontend { address: *address, service: PortIndex::new(packet.protocol(), port) };
    tables.backends(&frontend).map_or(0, Backends::pack)
}

/// Fills in the ports of a later fragment from the first, or remembers the first. False where the first is not known.
#[inline(never)]
fn complete<T: Tables>(tables: &T, packet: &mut Packet) -> bool {
    let key = packet.fragment_key();
    if packet.part == Part::First {
        let fragment = Fragment {
            ports: [packet.source_port(), packet.destination_port()],
            detail: packet.detail,
            protocol: packet.protocol(),
            reserved: 0,
        };
        tables.remember_fragment(&key, &fragment);
        return true;
    }
    let Some(first) = tables.fragment(&key) else { return false };
    packet.complete(&first);
    true
}

#[cfg(test)]
mod tests;
