//! Flows: a key that is the same in both directions, and a state for each end.

use super::{Address, Direction, PortIndex};

/// Entries of the map `FLOWS`, which holds established flows. When it is full, the flow that was idle longest gives way (an
/// LRU map); its next packet is judged afresh.
pub const FLOWS: u32 = 262_144;
/// Entries of the map `EMBRYOS`, which holds flows that have not proved to be more than one end's word: a flood of them
/// evicts its own kind alone. Keys and values are those of `FLOWS`; it has half the entries of that.
pub const EMBRYOS: u32 = FLOWS / 2;

/// Which end of a canonical [`FlowKey`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The end that sorts first.
    Low = 0,
    /// The other end.
    High = 1,
}

impl End {
    /// The opposite end.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// Key of `FLOWS` and `EMBRYOS`: protocol, addresses and ports with the ends in canonical order, so that one look-up serves either
/// direction.
///
/// Its words are written whole, as the kernel reads them: a processor waits for a word that was written in parts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    addresses: [Address; 2],
    /// [`End::Low`]'s and the other's, each in network order; an ICMP echo's identifier stands at the end that asks, 0 at the
    /// other; other ICMP messages have their type and code at both.
    ports: u32,
    /// IP protocol number.
    protocol: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl Default for FlowKey {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl FlowKey {
    /// Nobody's.
    pub const EMPTY: Self = Self { addresses: [Address::from_words([0; 4]); 2], ports: 0, protocol: 0 };

    /// The canonical key of a packet, and the end that sent it. Ports are in network order.
    #[inline(always)]
    #[must_use]
    pub fn new(protocol: u8, source: (&Address, u16), destination: (&Address, u16)) -> (Self, End) {
        Self::of_ports(protocol, source.0, destination.0, pair(source.1, destination.1))
    }

    /// The same with both ports in one word, as they lie in a packet.
    #[inline(always)]
    #[must_use]
    pub fn of_ports(protocol: u8, source: &Address, destination: &Address, ports: u32) -> (Self, End) {
        let source_first =
            if source == destination { first(ports) <= second(ports) } else { source.before(destination) };
        let protocol = protocol as u32;
        // Two whole keys rather than a choice of ends: the compiler then writes each word once, where it belongs.
        if source_first {
            (Self { addresses: [*source, *destination], ports, protocol }, End::Low)
        } else {
            (Self { addresses: [*destination, *source], ports: ports.rotate_left(16), protocol }, End::High)
        }
    }

    /// IP protocol number.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.protocol as u8
    }

    /// Gives the packet that `sender` sent its protocol and ports, and says which end that is now: between two sockets of one
    /// address the ports are what is sorted.
    #[inline(always)]
    #[must_use]
    pub fn complete(&mut self, sender: End, protocol: u8, source: u16, destination: u16) -> End {
        self.protocol = protocol as u32;
        let is_low =
            if self.addresses[0] == self.addresses[1] { source <= destination } else { matches!(sender, End::Low) };
        if is_low {
            self.ports = pair(source, destination);
            End::Low
        } else {
            self.ports = pair(destination, source);
            End::High
        }
    }

    /// The address of an end.
    #[inline(always)]
    #[must_use]
    pub const fn address(&self, end: End) -> &Address {
        match end {
            End::Low => &self.addresses[0],
            End::High => &self.addresses[1],
        }
    }

    /// The port of an end, in network order.
    #[inline(always)]
    #[must_use]
    pub const fn port(&self, end: End) -> u16 {
        match end {
            End::Low => first(self.ports),
            End::High => second(self.ports),
        }
    }
}

/// Two ports in one word, in this order.
#[inline(always)]
const fn pair(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[inline(always)]
const fn first(ports: u32) -> u16 {
    let [a, b, _, _] = ports.to_ne_bytes();
    u16::from_ne_bytes([a, b])
}

#[inline(always)]
const fn second(ports: u32) -> u16 {
    let [_, _, c, d] = ports.to_ne_bytes();
    u16::from_ne_bytes([c, d])
}

/// Value of `FLOWS` and `EMBRYOS`, as user space sees it. The packet path works on [`crate::track::FlowCell`], the same memory as
/// shared 64-bit words.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What each end's host decided.
    pub sides: [Side; 2],
    /// Jiffies of the last packet, written at most once a second.
    pub seen: u64,
    /// Who opened it, for what, and how far it has come.
    pub course: Course,
}

const _: () = assert!(size_of::<Flow>() == 64);

impl Default for Flow {
    fn default() -> Self {
        Self { sides: [Side::NONE; 2], seen: 0, course: Course(0) }
    }
}

/// How far a flow has come.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Packets one way only.
    Embryonic = 0,
    /// Packets both ways.
    Established = 1,
    /// TCP saw FIN, or its opening was refused.
    Closing = 2,
    /// TCP saw RST, which is perhaps not the word of the end that it seems to come from.
    Reset = 3,
}

/// Service, state and initiator in one word.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course(pub u64);

impl Course {
    /// A flow that `initiator` opened.
    #[inline(always)]
    #[must_use]
    pub const fn new(initiator: End, service: PortIndex, state: State) -> Self {
        Self(service.0 as u64 | (state as u64) << 32 | (initiator as u64) << 40)
    }

    /// The port (or type and code) that the initiator addressed.
    #[inline(always)]
    #[must_use]
    pub const fn service(self) -> PortIndex {
        PortIndex(self.0 as u32)
    }

    /// How far it has come.
    #[inline(always)]
    #[must_use]
    pub const fn state(self) -> State {
        match (self.0 >> 32) as u8 {
            0 => State::Embryonic,
            1 => State::Established,
            3 => State::Reset,
            _ => State::Closing,
        }
    }

    /// The end that opened it.
    #[inline(always)]
    #[must_use]
    pub const fn initiator(self) -> End {
        if self.0 >> 40 & 1 == 0 { End::Low } else { End::High }
    }

    /// The same flow, reset by one end.
    #[inline(always)]
    #[must_use]
    pub const fn reset_by(self, end: End) -> Self {
        Self(self.with_state(State::Reset).0 | (end as u64) << 41)
    }

    /// The end that reset it last.
    #[inline(always)]
    #[must_use]
    pub const fn resetter(self) -> End {
        if self.0 >> 41 & 1 == 0 { End::Low } else { End::High }
    }

    /// The same flow in another state.
    #[inline(always)]
    #[must_use]
    pub const fn with_state(self, state: State) -> Self {
        Self::new(self.initiator(), self.service(), state)
    }
}

/// What the host of one end decided of a flow.
///
/// Each end is judged for itself: an entry that the sender's side made says nothing about the receiver's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// The decision and what it was made for; [`Stamp::NONE`] where this end was not judged.
    pub stamp: Stamp,
    /// The cgroup that the decision was made for: the fast path's check that the packet belongs to the workload that was
    /// judged. 0 for none yet.
    pub owner: u64,
    /// Low half: the interface at which the wall behind the cgroup hooks saw the same workload; 0 for none yet. High half: the
    /// peer's workload, 0 for none, for a flow is kept with that peer alone.
    pub interface_and_peer: u64,
}

const _: () = assert!(size_of::<Side>() == 24);

impl Side {
    /// Not judged.
    pub const NONE: Self = Self { stamp: Stamp::NONE, owner: 0, interface_and_peer: 0 };
}

/// Workload, generation and decision in one word, so that they are written and read together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Not judged, or denied from the start.
    pub const NONE: Self = Self(0);

    const ALLOWED: u64 = 1;
    const KEEP: u64 = 2;
    const AUDIT: u64 = 4;
    const UNGOVERNED: u64 = 8;
    const UNIDENTIFIED: u64 = 16;
    const REVOKED: u64 = 32;
    const INGRESS: u64 = 64;
    const PEER_HERE: u64 = 128;
    const OWNER: u64 = !0xffff_ffff;
    const GENERATION: u64 = 0xffff_ff00;

    /// A flow that may go on for as long as `generation` holds.
    #[inline(always)]
    #[must_use]
    pub const fn allowed(workload: u32, generation: u32, keep: bool, audit: bool, ungoverned: bool) -> Self {
        let mut word = (workload as u64) << 32 | (generation as u64) << 8 & Self::GENERATION | Self::ALLOWED;
        if keep {
            word |= Self::KEEP;
        }
        if audit {
            word |= Self::AUDIT;
        }
        if ungoverned {
            word |= Self::UNGOVERNED;
        }
        Self(word)
    }

    /// Whether the flow was allowed under this very generation.
    #[inline(always)]
    #[must_use]
    pub const fn holds(self, generation: u32) -> bool {
        self.0 & Self::ALLOWED != 0 && self.0 & Self::GENERATION == (generation as u64) << 8 & Self::GENERATION
    }

    /// Whether the flow was ever allowed for this workload.
    #[inline(always)]
    #[must_use]
    pub const fn was_allowed_for(self, workload: u32) -> bool {
        self.0 & Self::ALLOWED != 0 && self.0 & Self::OWNER == (workload as u64) << 32
    }

    /// Whether the flow outlives a change of policy (`established: keep`).
    #[inline(always)]
    #[must_use]
    pub const fn keeps(self) -> bool {
        self.0 & Self::KEEP != 0
    }

    /// Whether it passes only because its groups are in audit.
    #[inline(always)]
    #[must_use]
    pub const fn audits(self) -> bool {
        self.0 & Self::AUDIT != 0
    }

    /// Whether it passes because no group governs the workload.
    #[inline(always)]
    #[must_use]
    pub const fn ungoverned(self) -> bool {
        self.0 & Self::UNGOVERNED != 0
    }

    /// The same decision, made while the workload was not known yet.
    #[inline(always)]
    #[must_use]
    pub const fn of_unidentified(self) -> Self {
        Self(self.0 | Self::UNIDENTIFIED)
    }

    /// Whether it passes because its scope allows what is not known yet.
    #[inline(always)]
    #[must_use]
    pub const fn unidentified(self) -> bool {
        self.0 & Self::UNIDENTIFIED != 0
    }

    /// The same decision, made for the flow's answering end (ingress) or its opening end (egress).
    #[inline(always)]
    #[must_use]
    pub const fn as_role(self, role: Direction) -> Self {
        match role {
            Direction::Ingress => Self(self.0 | Self::INGRESS),
            Direction::Egress => Self(self.0 & !Self::INGRESS),
        }
    }

    /// The same decision, about a peer that is on this host: nothing of the flow may come from outside.
    #[inline(always)]
    #[must_use]
    pub const fn with_peer_here(self) -> Self {
        Self(self.0 | Self::PEER_HERE)
    }

    /// Whether the peer is on this host.
    #[inline(always)]
    #[must_use]
    pub const fn peer_is_here(self) -> bool {
        self.0 & Self::PEER_HERE != 0
    }

    /// Whose rules decided: the answering end's ingress or the opening end's egress.
    #[inline(always)]
    #[must_use]
    pub const fn role(self) -> Direction {
        if self.0 & Self::INGRESS != 0 { Direction::Ingress } else { Direction::Egress }
    }

    /// Whether this side allowed the flow at some time.
    #[inline(always)]
    #[must_use]
    pub const fn is_judged(self) -> bool {
        self.0 & (Self::ALLOWED | Self::REVOKED) != 0
    }

    /// The decision taken back; one that was never made stays so.
    #[inline(always)]
    #[must_use]
    pub const fn revoked(self) -> Self {
        if !self.is_judged() {
            return Self::NONE;
        }
        Self(self.0 & (Self::OWNER | Self::INGRESS) | Self::REVOKED)
    }

    /// The workload that was judged.
    #[inline(always)]
    #[must_use]
    pub const fn workload(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The same decision, carried over to another generation.
    #[inline(always)]
    #[must_use]
    pub const fn renewed(self, generation: u32) -> Self {
        Self(self.0 & !Self::GENERATION | (generation as u64) << 8 & Self::GENERATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key_and_opposite_ends() {
        let (a, b) = (Address::v4([10, 0, 0, 1]), Address::v4([10, 0, 0, 2]));
        for (x, y) in [((&a, 1), (&b, 2)), ((&a, 2), (&b, 1)), ((&a, 1), (&a, 2)), ((&b, 9), (&a, 9))] {
            let (there, from) = FlowKey::new(6, x, y);
            let (back, to) = FlowKey::new(6, y, x);
            assert_eq!(there, back);
            assert_eq!(from, to.other());
        }
    }

    #[test]
    fn ports_that_come_later_make_the_same_key() {
        let (a, b) = (Address::v4([10, 0, 0, 1]), Address::v4([10, 0, 0, 2]));
        for (x, y) in [(a, b), (b, a), (a, a)] {
            for (source, destination) in [(1, 2), (2, 1), (3, 3)] {
                let (mut key, sender) = FlowKey::new(0, (&x, 0), (&y, 0));
                let sender = key.complete(sender, 17, source, destination);
                assert_eq!((key, sender), FlowKey::new(17, (&x, source), (&y, destination)));
            }
        }
    }

    #[test]
    fn a_stamp_holds_for_its_generation_alone() {
        let stamp = Stamp::allowed(7, 3, false, true, false);
        assert!(stamp.holds(3) && !stamp.holds(4) && stamp.audits() && !stamp.keeps());
        assert!(stamp.was_allowed_for(7) && !stamp.was_allowed_for(8));
        assert!(stamp.renewed(4).holds(4) && stamp.renewed(4).workload() == 7);
        assert!(!Stamp::NONE.holds(0));
    }
}
