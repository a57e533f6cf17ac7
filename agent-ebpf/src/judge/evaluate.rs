//! What the policy says of one subject, one peer and one service, flows aside.

use super::Local;
use crate::abi::{
    CLASS_ANY, Direction, Identity, IdentityKey, MAX_IDENTITY_SLOTS, PortIndex, RULE_NONE, Reason, RowKey, RuleKey,
    RuleRef,
};
use crate::tables::Tables;

/// The part of the local workload's identity that decides, as one number because a program's stack is small: flags, number,
/// and in the highest bit the copy of the tables that the number is of. Its rows stand there, whatever holds by the time they
/// are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject(u64);

impl Subject {
    const UNGOVERNED: Self = Self::new(0, 0);
    const FULL: Self = Self::new(0, Identity::GOVERNED | Identity::FULL);

    #[inline(always)]
    const fn new(number: u32, flags: u16) -> Self {
        Self((number as u64) << 16 | flags as u64)
    }

    /// The subject that a local workload is. A workload whose identity is missing is denied: the table was full.
    #[inline(always)]
    pub fn of<T: Tables>(tables: &T, local: &Local) -> Self {
        let copy = tables.control().copy();
        let rules = if local.workload == 0 {
            Self::UNGOVERNED
        } else {
            let identity = tables.identity(&IdentityKey { identity: local.identity, copy });
            identity.map_or(Self::FULL, |identity| Self::new(identity.subject, identity.flags))
        };
        Self(rules.0 | (copy as u64) << 63)
    }

    /// As one number, for a function of its own.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.0
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        Self(number)
    }

    #[inline(always)]
    const fn has(self, flag: u16) -> bool {
        self.0 & flag as u64 != 0
    }

    #[inline(always)]
    const fn number(self) -> u32 {
        (self.0 >> 16) as u32
    }

    #[inline(always)]
    const fn copy(self) -> u32 {
        (self.0 >> 63) as u32
    }

    /// The generation to remember a verdict under: the one that was asked, even if the next one holds by now.
    #[inline(always)]
    pub(super) const fn generation(self, in_force: u32) -> u32 {
        in_force.wrapping_sub((in_force & 1) ^ self.copy())
    }

    /// Whether any group governs it.
    #[inline(always)]
    #[must_use]
    pub const fn is_governed(self) -> bool {
        self.has(Identity::GOVERNED)
    }

    /// Whether denials of `role` are only audited.
    #[inline(always)]
    #[must_use]
    pub const fn audits(self, role: Direction) -> bool {
        let flag = match role {
            Direction::Ingress => Identity::AUDIT_INGRESS,
            Direction::Egress => Identity::AUDIT_EGRESS,
        };
        self.has(flag)
    }
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// Why it is allowed, or why not.
    pub allowed_by: Result<Reason, Reason>,
    /// The rule that allows it, or [`RULE_NONE`].
    pub rule: u32,
    /// Whether that rule's flows outlive a change of policy.
    pub keeps: bool,
}

impl Evaluation {
    #[inline(always)]
    const fn allowed(reason: Reason) -> Self {
        Self { allowed_by: Ok(reason), rule: RULE_NONE, keeps: false }
    }

    #[inline(always)]
    const fn denied(reason: Reason) -> Self {
        Self { allowed_by: Err(reason), rule: RULE_NONE, keeps: false }
    }

    /// As one number: the rule, the reason, and two bits.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        let allowed = self.allowed_by.is_ok() as u64;
        (self.rule as u64) << 32 | (self.reason() as u64) << 8 | (self.keeps as u64) << 1 | allowed
    }

    /// From one number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        // The reasons that `evaluate` gives.
        let reason = match (number >> 8 & 0xff) as u8 {
            number if number == Reason::Rule as u8 => Reason::Rule,
            number if number == Reason::OpenEgress as u8 => Reason::OpenEgress,
            number if number == Reason::Ungoverned as u8 => Reason::Ungoverned,
            number if number == Reason::TableFull as u8 => Reason::TableFull,
            _ => Reason::NoRule,
        };
        let allowed_by = if number & 1 == 1 { Ok(reason) } else { Err(reason) };
        Self { allowed_by, rule: (number >> 32) as u32, keeps: number & 2 != 0 }
    }

    /// Why, either way.
    #[inline(always)]
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self.allowed_by {
            Ok(reason) | Err(reason) => reason,
        }
    }
}

/// Evaluates the rules for a peer's identity.
#[inline(always)]
pub fn evaluate<T: Tables>(tables: &T, subject: Subject, peer: u32, role: Direction, service: PortIndex) -> Evaluation {
    if subject.has(Identity::FULL) {
        return Evaluation::denied(Reason::TableFull);
    }
    if !subject.is_governed() {
        return Evaluation::allowed(Reason::Ungoverned);
    }
    if role == Direction::Egress && !subject.has(Identity::RESTRICTED_EGRESS) {
        return Evaluation::allowed(Reason::OpenEgress);
    }
    let copy = subject.copy();
    let Some(peer) = tables.identity(&IdentityKey { identity: peer, copy }) else {
        return Evaluation::denied(Reason::NoRule);
    };
    let class = tables.port_class(copy, service);
    let mut key = RuleKey { row: RowKey::new(copy, subject.number(), role, class), slot: 0, reserved: 0 };
    // Where groups keep flows, one that does is enough, whichever rule is found first.
    let mut found = 0;
    if subject.has(Identity::KEEPS) {
        found = first(tables, peer, &mut key, class, RuleRef::KEEP);
    }
    if found == 0 {
        found = first(tables, peer, &mut key, class, 0);
    }
    if found == 0 { Evaluation::denied(Reason::NoRule) } else { Evaluation::unpack(found) }
}

/// The first rule with `flags` for one of the peer's slots, as one number; 0 for none. It looks in the row for the port, then in
/// the row for every port.
#[inline(always)]
fn first<T: Tables>(tables: &T, peer: &Identity, key: &mut RuleKey, class: u16, flags: u32) -> u64 {
    key.row.class = class;
    let found = first_in_row(tables, peer, key, flags);
    if found != 0 {
        return found;
    }
    key.row.class = CLASS_ANY;
    first_in_row(tables, peer, key, flags)
}

#[inline(always)]
fn first_in_row<T: Tables>(tables: &T, peer: &Identity, key: &mut RuleKey, flags: u32) -> u64 {
    let Some(row) = tables.row(&key.row) else { return 0 };
    let count = usize::from(peer.count);
    let mut index = 0;
    while index < MAX_IDENTITY_SLOTS && index < count {
        key.slot = peer.slots[index];
        index += 1;
        if !row.may_allow(key.slot) {
            continue;
        }
        // A row's bit may stand for several peers: the reference decides.
        if let Some(rule) = tables.rule(key)
            && rule.flags & flags == flags
        {
            let keeps = rule.flags & RuleRef::KEEP != 0;
            return Evaluation { allowed_by: Ok(Reason::Rule), rule: rule.rule, keeps }.pack();
        }
    }
    0
}
