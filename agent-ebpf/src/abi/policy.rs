//! The compiled policy: port classes, rows of allowed peers, and which rule stands behind each of them.

use super::Direction;

/// Peers (groups, CIDRs, entities) that the rules of one host's subjects may name: every number that a slot can be but the
/// last. A policy that needs more is refused whole.
pub const SLOTS: usize = 65_535;
/// Bits of one [`Row`].
pub const ROW_BITS: usize = 512;
/// Slot of the entity `world`.
pub const SLOT_WORLD: u16 = 0;
/// Slot of the entity `host`.
pub const SLOT_HOST: u16 = 1;
/// Slot of the entity `remote-host`.
pub const SLOT_REMOTE_HOST: u16 = 2;
/// Entries of the map `ROWS`, both copies together. A policy that needs more than half is refused whole.
pub const ROWS: u32 = 262_144;
/// Entries of the map `RULE_REFS`, both copies together. A policy that needs more than half is refused whole.
pub const RULE_REFS: u32 = 1_048_576;
/// The class of every protocol and port that no rule names; rules without `ports` are in it alone.
pub const CLASS_ANY: u16 = 0;
/// Entries of one copy of `PORT_CLASSES`: four protocols' 16-bit ports or types, plus one for each protocol number.
pub const PORT_INDEXES: u32 = 5 * 65_536 + 256;

/// Entries of the map `FAILSAFE`, words of 64 bits: one bit for each direction, protocol and port.
pub const FAILSAFE: u32 = PORT_INDEXES.div_ceil(64) * 2;

/// An index into `PORT_CLASSES`: a protocol and its port, or ICMP type and code, as one number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortIndex(pub u32);

impl PortIndex {
    const TCP: u32 = 0;
    const UDP: u32 = 65_536;
    const SCTP: u32 = 2 * 65_536;
    const ICMP: u32 = 3 * 65_536;
    const ICMPV6: u32 = 4 * 65_536;
    const OTHER: u32 = 5 * 65_536;

    /// The index of `detail` within `protocol`'s range: a port for TCP (6), UDP (17) and SCTP (132), type and code
    /// (type in the high byte) for ICMP (1) and ICMPv6 (58); other protocols have none.
    #[inline(always)]
    #[must_use]
    pub const fn new(protocol: u8, detail: u16) -> Self {
        Self(match protocol {
            6 => Self::TCP + detail as u32,
            17 => Self::UDP + detail as u32,
            132 => Self::SCTP + detail as u32,
            1 => Self::ICMP + detail as u32,
            58 => Self::ICMPV6 + detail as u32,
            other => Self::OTHER + other as u32,
        })
    }

    /// The word of `FAILSAFE` and the bit therein that say whether a flow of this service is failsafe, where the local end is
    /// judged in `role`.
    #[inline(always)]
    #[must_use]
    pub const fn failsafe(self, role: Direction) -> (u32, u32) {
        (role as u32 * (FAILSAFE / 2) + self.0 / 64, self.0 % 64)
    }

    /// The protocol number and the port (or type and code) behind the index.
    #[must_use]
    pub const fn parts(self) -> (u8, u16) {
        let detail = (self.0 & 0xffff) as u16;
        match self.0 >> 16 {
            0 => (6, detail),
            1 => (17, detail),
            2 => (132, detail),
            3 => (1, detail),
            4 => (58, detail),
            _ => (detail as u8, 0),
        }
    }
}

/// Key of `ROWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowKey {
    /// [`super::Identity::subject`].
    pub subject: u32,
    /// Port class.
    pub class: u16,
    /// [`Direction`] as a number, or [`RowKey::DENY`].
    pub direction: u8,
    /// Which copy of the tables: 0 or 1.
    pub copy: u8,
}

const _: () = assert!(size_of::<RowKey>() == 8);

impl RowKey {
    /// The direction of the rows whose bits are deny entries: subject 0, a row for each class.
    pub const DENY: u8 = 2;

    /// Key of the row with the deny entries for one class.
    #[inline(always)]
    #[must_use]
    pub const fn deny(copy: u32, class: u16) -> Self {
        Self { subject: 0, class, direction: Self::DENY, copy: copy as u8 }
    }

    /// Key of one subject's row.
    #[inline(always)]
    #[must_use]
    pub const fn new(copy: u32, subject: u32, direction: Direction, class: u16) -> Self {
        Self { subject, class, direction: direction as u8, copy: copy as u8 }
    }
}

/// Value of `ROWS`: the slots that may be the peer. It grows with rules, not with rules times peers.
///
/// It is a filter: slots that are equal modulo [`ROW_BITS`] share a bit. A bit that is not set denies; one that is set is
/// confirmed by the entry of `RULE_REFS`, which the decision reads anyhow. A host whose rules name at most [`ROW_BITS`] peers
/// never asks in vain.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// One bit for all slots with the same remainder.
    pub bits: [u64; ROW_BITS / 64],
}

const _: () = assert!(size_of::<Row>() == ROW_BITS / 8 && ROW_BITS.is_power_of_two());

impl Row {
    /// A row that allows nobody.
    pub const EMPTY: Self = Self { bits: [0; ROW_BITS / 64] };

    /// Whether the peers of `slot` may be allowed; `RULE_REFS` knows.
    #[inline(always)]
    #[must_use]
    pub fn may_allow(&self, slot: u16) -> bool {
        let word = (slot as usize / 64) & (ROW_BITS / 64 - 1);
        self.bits[word] >> (slot % 64) & 1 == 1
    }

    /// Allows the peers of `slot`, together with an entry of `RULE_REFS`.
    pub fn allow(&mut self, slot: u16) {
        self.bits[usize::from(slot) % ROW_BITS / 64] |= 1 << (slot % 64);
    }
}

impl Default for Row {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Key of `RULE_REFS`: one peer in one row.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuleKey {
    /// The row.
    pub row: RowKey,
    /// The peer.
    pub slot: u16,
    /// Always 0.
    pub reserved: u16,
}

const _: () = assert!(size_of::<RuleKey>() == 12);

/// Value of `RULE_REFS`: the rule that allows the peer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleRef {
    /// Number of the rule, an index into `RULE_HITS`.
    pub rule: u32,
    /// Bits below.
    pub flags: u32,
}

const _: () = assert!(size_of::<RuleRef>() == 8);

impl RuleRef {
    /// The rule's group has `established: keep`: flows that it allowed outlive a change of policy.
    pub const KEEP: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_index_is_in_range_and_says_what_it_is() {
        for (protocol, detail) in [(6, 443), (17, 65_535), (132, 1), (1, 0x0800), (58, 0x8000), (47, 0), (255, 0)] {
            let index = PortIndex::new(protocol, detail);
            assert!(index.0 < PORT_INDEXES);
            assert!(index.failsafe(Direction::Ingress).0 < FAILSAFE && index.failsafe(Direction::Egress).0 < FAILSAFE);
            assert_eq!(index.parts(), (protocol, detail));
        }
    }

    #[test]
    fn a_row_is_exact_up_to_its_bits_and_never_denies_what_was_allowed() {
        let mut row = Row::EMPTY;
        for slot in [0, 63, 64, 511] {
            row.allow(slot);
        }
        let exact: Vec<u16> = (0..ROW_BITS as u16).filter(|slot| row.may_allow(*slot)).collect();
        assert_eq!(exact, [0, 63, 64, 511]);
        for slot in [512, 40_000, SLOTS as u16 - 1] {
            row.allow(slot);
            assert!(row.may_allow(slot));
        }
    }
}
