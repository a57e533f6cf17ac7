//! A flow's life: states, time-outs, and the memory that several CPUs share.
//!
//! Sequence numbers are not followed: on a host whose cards segment and merge they would cost every packet a write, and what
//! can be had by them here is little. A flow never lets pass more for being in another state, so that what a forged segment can
//! change is how long an idle flow is remembered and which table it is in. Of forged segments a RST does most harm, as blind
//! ones are common. One that is not at the very sequence number that the receiver expects is answered with a challenge ACK
//! (RFC 5961 section 3), and with nothing where it is outside of the window: the connection goes on. So does the flow here: what
//! the end that is said to have been reset sends next takes the RST back, for an end that was reset sends nothing.

mod word;

use crate::abi::{Course, End, Flow, PortIndex, Settings, Side, Stamp, State};
use crate::packet::{protocol, tcp};
use word::Word;

/// A flow in the table, as the packet path sees it: [`Flow`] as shared words, for packets of one flow run on several CPUs.
///
/// Every access is relaxed. What must be read together (workload, generation and decision; service, state and initiator) is
/// one word each; the rest is harmless when late.
#[repr(C)]
#[derive(Debug)]
pub struct FlowCell {
    sides: [SideCell; 2],
    seen: Word,
    course: Word,
}

#[repr(C)]
#[derive(Debug)]
struct SideCell {
    stamp: Word,
    owner: Word,
    interface_and_peer: Word,
}

const _: () = assert!(size_of::<FlowCell>() == size_of::<Flow>() && align_of::<FlowCell>() == align_of::<Flow>());

impl Flow {
    /// A flow that `initiator` opens; no side is judged yet.
    #[inline(always)]
    #[must_use]
    pub const fn new(initiator: End, service: PortIndex, now: u64) -> Self {
        Self { sides: [Side::NONE; 2], seen: now, course: Course::new(initiator, service, State::Embryonic) }
    }

    /// Idle jiffies after which a flow in `state` is dead.
    #[inline(always)]
    #[must_use]
    pub const fn time_out(settings: &Settings, protocol_number: u8, state: State) -> u32 {
        match (protocol_number, state) {
            (protocol::TCP, State::Embryonic) => settings.tcp_embryonic,
            (protocol::TCP, State::Established) => settings.tcp_established,
            (protocol::TCP, State::Closing | State::Reset) => settings.tcp_closing,
            (protocol::UDP, State::Embryonic) => settings.udp_one_way,
            (protocol::UDP, _) => settings.udp_stream,
            (protocol::ICMP | protocol::ICMPV6, _) => settings.icmp,
            _ => settings.other,
        }
    }
}

impl FlowCell {
    /// A cell with a flow's content.
    #[must_use]
    pub fn new(flow: Flow) -> Self {
        let side = |side: Side| SideCell {
            stamp: Word::new(side.stamp.0),
            owner: Word::new(side.owner),
            interface_and_peer: Word::new(side.interface_and_peer),
        };
        Self {
            sides: [side(flow.sides[0]), side(flow.sides[1])],
            seen: Word::new(flow.seen),
            course: Word::new(flow.course.0),
        }
    }

    /// The course of a flow whose first packet is `initiator`'s.
    #[inline(always)]
    #[must_use]
    pub fn first(initiator: End, service: PortIndex, tcp_flags: u8) -> Course {
        after(Course::new(initiator, service, State::Embryonic), tcp_flags, initiator)
    }

    #[inline(always)]
    fn side(&self, end: End) -> &SideCell {
        match end {
            End::Low => &self.sides[0],
            End::High => &self.sides[1],
        }
    }

    /// What the host of `end` decided.
    #[inline(always)]
    pub fn stamp(&self, end: End) -> Stamp {
        Stamp(self.side(end).stamp.load())
    }

    /// The cgroup that the decision for `end` was made for.
    #[inline(always)]
    pub fn owner(&self, end: End) -> u64 {
        self.side(end).owner.load()
    }

    /// The interface at which the wall saw `end`.
    #[inline(always)]
    pub fn interface(&self, end: End) -> u32 {
        self.side(end).interface_and_peer.load() as u32
    }

    /// The workload that held the peer's address when `end` was judged, 0 for none.
    #[inline(always)]
    pub fn peer(&self, end: End) -> u32 {
        (self.side(end).interface_and_peer.load() >> 32) as u32
    }

    /// Who opened the flow, for what, and how far it has come.
    #[inline(always)]
    pub fn course(&self) -> Course {
        Course(self.course.load())
    }

    /// Writes one side's decision; true where the side was not allowed for this workload before. Of several CPUs that settle
    /// one side at once, one is told so.
    ///
    /// The stamp comes last, so that no reader sees a new owner with an old decision; an old decision for somebody else goes
    /// first.
    #[inline(always)]
    pub fn settle(&self, end: End, side: &Side) -> bool {
        let cell = self.side(end);
        let workload = side.stamp.workload();
        let is_own = Stamp(cell.stamp.load()).was_allowed_for(workload);
        if !is_own {
            cell.stamp.store(Stamp::NONE.0);
        }
        cell.owner.store(side.owner);
        cell.interface_and_peer.store(side.interface_and_peer);
        let previous = Stamp(cell.stamp.swap(side.stamp.0));
        !is_own && !previous.was_allowed_for(workload)
    }

    /// Notes the interface at which the wall saw a side that is already allowed.
    #[inline(always)]
    pub fn notice_interface(&self, end: End, interface: u32) {
        let word = &self.side(end).interface_and_peer;
        word.store(word.load() >> 32 << 32 | u64::from(interface));
    }

    /// Notes the cgroup of a side that is already allowed.
    #[inline(always)]
    pub fn notice_owner(&self, end: End, owner: u64) {
        self.side(end).owner.store(owner);
    }

    /// Carries a side's decision over to another generation.
    #[inline(always)]
    pub fn renew(&self, end: End, stamp: Stamp) {
        self.side(end).stamp.store(stamp.0);
    }

    /// Takes one side's decision back. That it was made stays known, and for which role.
    #[inline(always)]
    pub fn revoke(&self, end: End) {
        self.renew(end, self.stamp(end).revoked());
    }

    /// Starts the entry over as a flow that `initiator` opens: neither side is judged any more.
    #[inline(always)]
    pub fn restart(&self, initiator: End, service: PortIndex, now: u64) {
        self.renew(End::Low, Stamp::NONE);
        self.renew(End::High, Stamp::NONE);
        self.turn(initiator, service, now);
    }

    /// Takes the entry for a flow that `initiator` opens; what the sides decided stands.
    #[inline(always)]
    pub fn turn(&self, initiator: End, service: PortIndex, now: u64) {
        self.course.store(Course::new(initiator, service, State::Embryonic).0);
        self.seen.store(now);
    }

    /// Whether the flow was not idle for longer than its time-out.
    #[inline(always)]
    pub fn is_alive(&self, settings: &Settings, protocol_number: u8, now: u64) -> bool {
        // Another CPU may have stamped a packet a moment later than `now` was read.
        let idle = now.saturating_sub(self.seen.load());
        idle <= u64::from(Flow::time_out(settings, protocol_number, self.course().state()))
    }

    /// Follows one allowed packet from `sender`. The time is written at most once a second, which spares other CPUs a cache
    /// line.
    #[inline(always)]
    pub fn follow(&self, tcp_flags: u8, sender: End, settings: &Settings, now: u64) {
        if now.saturating_sub(self.seen.load()) >= u64::from(settings.hz) {
            self.seen.store(now);
        }
        let course = self.course();
        let next = after(course, tcp_flags, sender);
        if next != course {
            self.course.store(next.0);
        }
    }

    /// Whether this packet of `sender`, which was followed, proves that both ends want the flow. An answer does, but for
    /// TCP: a server answers any SYN, whoever sent it in whoever's name. There the opener has to go on after the answer.
    #[inline(always)]
    pub fn is_proven(&self, protocol_number: u8, tcp_flags: u8, sender: End) -> bool {
        let course = self.course();
        let goes_on = sender == course.initiator() && tcp_flags & (tcp::SYN | tcp::FIN | tcp::RST) == 0;
        course.state() == State::Established && (protocol_number != protocol::TCP || goes_on)
    }

    /// Whether this packet of `sender` would change neither the state of a flow that is not established yet nor the table that
    /// it is in.
    #[inline(always)]
    pub fn is_left_as_it_is(&self, protocol_number: u8, tcp_flags: u8, sender: End) -> bool {
        let course = self.course();
        after(course, tcp_flags, sender) == course && !self.is_proven(protocol_number, tcp_flags, sender)
    }

    /// The content as it is now.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let side = |end| {
            let cell = self.side(end);
            Side {
                stamp: self.stamp(end),
                owner: cell.owner.load(),
                interface_and_peer: cell.interface_and_peer.load(),
            }
        };
        Flow { sides: [side(End::Low), side(End::High)], seen: self.seen.load(), course: self.course() }
    }
}

/// What becomes of a flow by an allowed packet from `sender`.
#[inline(always)]
fn after(course: Course, tcp_flags: u8, sender: End) -> Course {
    let is_answer = sender != course.initiator();
    // A SYN of the other end's own is no answer: both open at the same time.
    let is_syn = tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN;
    if tcp_flags & tcp::FIN != 0 {
        return course.with_state(State::Closing);
    }
    match (course.state(), tcp_flags & tcp::RST != 0) {
        (State::Closing, _) => course,
        // The answer is that nobody listens.
        (State::Embryonic, true) if is_answer => course.with_state(State::Closing),
        (_, true) => course.reset_by(sender),
        (State::Embryonic, false) if is_answer && !is_syn => course.with_state(State::Established),
        (State::Reset, false) if sender != course.resetter() && !is_syn => course.with_state(State::Established),
        (_, false) => course,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings::defaults(100);

    #[test]
    fn each_kind_of_flow_dies_after_its_own_time() {
        use State::{Closing, Embryonic, Established};
        for (protocol_number, state, seconds) in [
            (6, Embryonic, 120),
            (6, Established, 350),
            (6, Closing, 120),
            (17, Embryonic, 30),
            (17, Established, 180),
            (1, Embryonic, 30),
            (47, Established, 600),
        ] {
            let flow =
                Flow { course: Course::new(End::Low, PortIndex(0), state), ..Flow::new(End::Low, PortIndex(0), 7) };
            let cell = FlowCell::new(flow);
            let end = 7 + seconds * 100;
            assert!(cell.is_alive(&SETTINGS, protocol_number, end), "{protocol_number} {state:?}");
            assert!(!cell.is_alive(&SETTINGS, protocol_number, end + 1), "{protocol_number} {state:?}");
        }
    }

    #[test]
    fn an_answer_proves_a_flow_and_for_tcp_what_the_opener_sends_after_it() {
        let steps = |protocol_number, packets: &[(End, u8)]| {
            let cell = FlowCell::new(Flow::new(End::Low, PortIndex(0), 0));
            let proven = packets.iter().map(|(sender, flags)| {
                cell.follow(*flags, *sender, &SETTINGS, 0);
                cell.is_proven(protocol_number, *flags, *sender)
            });
            proven.collect::<Vec<_>>()
        };
        let (low, high) = (End::Low, End::High);
        assert_eq!(steps(17, &[(low, 0), (low, 0), (high, 0)]), [false, false, true]);
        let handshake = [(low, tcp::SYN), (high, tcp::SYN | tcp::ACK), (low, tcp::SYN), (low, tcp::ACK)];
        assert_eq!(steps(6, &handshake), [false, false, false, true]);
        let refused = [(low, tcp::SYN), (high, tcp::RST | tcp::ACK), (low, tcp::ACK)];
        assert_eq!(steps(6, &refused), [false, false, false]);
    }

    #[test]
    fn what_nobody_answers_is_left_as_it_is_until_somebody_does() {
        let (low, high) = (End::Low, End::High);
        let cell = FlowCell::new(Flow::new(low, PortIndex(0), 0));
        assert!(cell.is_left_as_it_is(17, 0, low) && !cell.is_left_as_it_is(17, 0, high));
        assert!(cell.is_left_as_it_is(6, tcp::SYN, low) && !cell.is_left_as_it_is(6, tcp::SYN | tcp::ACK, high));
        cell.follow(tcp::SYN | tcp::ACK, high, &SETTINGS, 0);
        assert!(!cell.is_left_as_it_is(6, tcp::ACK, low), "it proves the connection");
    }

    #[test]
    fn a_blind_reset_does_not_shorten_a_flows_life_and_a_close_does() {
        use State::{Closing, Established, Reset};
        let (low, high) = (End::Low, End::High);
        let handshake = [(low, tcp::SYN), (high, tcp::SYN | tcp::ACK), (low, tcp::ACK)];
        let ends_as = |packets: &[(End, u8)]| {
            let cell = FlowCell::new(Flow::new(low, PortIndex(0), 0));
            for (sender, flags) in handshake.iter().chain(packets) {
                cell.follow(*flags, *sender, &SETTINGS, 0);
            }
            cell.course().state()
        };
        assert_eq!(ends_as(&[(low, tcp::RST)]), Reset);
        assert_eq!(ends_as(&[(low, tcp::RST), (low, tcp::ACK)]), Reset, "its own word says nothing");
        assert_eq!(ends_as(&[(low, tcp::RST), (high, tcp::ACK)]), Established, "a challenge ACK");
        assert_eq!(ends_as(&[(low, tcp::RST), (high, tcp::RST), (low, tcp::ACK)]), Established, "blind both ways");
        assert_eq!(ends_as(&[(low, tcp::FIN | tcp::ACK), (high, tcp::ACK)]), Closing);
        assert_eq!(ends_as(&[(low, tcp::FIN | tcp::ACK), (high, tcp::FIN | tcp::ACK), (low, tcp::ACK)]), Closing);
        assert_eq!(ends_as(&[(low, tcp::FIN | tcp::ACK), (high, tcp::RST), (low, tcp::ACK)]), Closing);
    }

    #[test]
    fn starting_over_forgets_both_sides() {
        let cell = FlowCell::new(Flow::new(End::Low, PortIndex(1), 0));
        let side = Side { stamp: Stamp::allowed(1, 1, false, false, false), owner: 5, interface_and_peer: 0 };
        assert!(cell.settle(End::Low, &side) && !cell.settle(End::Low, &side));
        assert!(cell.settle(End::High, &side));
        cell.restart(End::High, PortIndex(2), 9);
        assert_eq!((cell.stamp(End::Low), cell.stamp(End::High)), (Stamp::NONE, Stamp::NONE));
        assert_eq!(cell.course(), Course::new(End::High, PortIndex(2), State::Embryonic));
    }
}
