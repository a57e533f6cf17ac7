//! What the policy says of one subject, one peer and one service, flows aside.

use super::Local;
use crate::abi::{
    CLASS_ANY, Direction, Identity, IdentityKey, MAX_IDENTITY_SLOTS, PortIndex, RULE_NONE, Reason, RowKey, RuleKey,
    RuleRef, Verdict,
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
        let copy = local.generation & 1;
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

    /// Whether there are guardrails to ask.
    #[inline(always)]
    #[must_use]
    pub const fn is_guarded(self) -> bool {
        self.has(Identity::GUARDED)
    }

    /// The copy of the tables that everything about this packet is asked of.
    #[inline(always)]
    #[must_use]
    pub const fn copy(self) -> u32 {
        (self.0 >> 63) as u32
    }

    /// Whether any group governs it.
    #[inline(always)]
    #[must_use]
    pub const fn is_governed(self) -> bool {
        self.has(Identity::GOVERNED)
    }

    /// What an evaluation comes to in `role`. Nothing softens a guardrail.
    #[inline(always)]
    #[must_use]
    pub const fn verdict(self, evaluation: Evaluation, role: Direction) -> Verdict {
        if evaluation.is_allowed() {
            Verdict::Allow
        } else if self.audits(role) && !evaluation.is_guarded() {
            Verdict::Audit
        } else {
            Verdict::Deny
        }
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

/// The outcome, as one number: the rule that allows or the deny entry that denies, the reason, and two bits. A program's stack
/// is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evaluation(u64);

impl Evaluation {
    const ALLOWED: u64 = 1;
    const KEEPS: u64 = 2;

    #[inline(always)]
    const fn new(reason: Reason, rule: u32, bits: u64) -> Self {
        Self((rule as u64) << 32 | (reason as u64) << 8 | bits)
    }

    #[inline(always)]
    pub(super) const fn allowed(reason: Reason) -> Self {
        Self::new(reason, RULE_NONE, Self::ALLOWED)
    }

    #[inline(always)]
    pub(super) const fn denied(reason: Reason) -> Self {
        Self::new(reason, RULE_NONE, 0)
    }

    /// As a number that is not 0, for a function of its own.
    #[inline(always)]
    #[must_use]
    pub const fn pack(self) -> u64 {
        self.0
    }

    /// From that number.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(number: u64) -> Self {
        Self(number)
    }

    /// Whether it is allowed.
    #[inline(always)]
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        self.0 & Self::ALLOWED != 0
    }

    /// Whether a guardrail denies it.
    #[inline(always)]
    #[must_use]
    pub const fn is_guarded(self) -> bool {
        (self.0 >> 8) as u8 == Reason::Guardrail as u8
    }

    /// The rule that allows it, the deny entry that denies it, or [`RULE_NONE`].
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether that rule's flows outlive a change of policy.
    #[inline(always)]
    #[must_use]
    pub const fn keeps(self) -> bool {
        self.0 & Self::KEEPS != 0
    }

    /// Why, either way.
    #[inline(always)]
    #[must_use]
    pub const fn reason(self) -> Reason {
        // The reasons that are given here.
        match (self.0 >> 8) as u8 {
            number if number == Reason::Rule as u8 => Reason::Rule,
            number if number == Reason::OpenEgress as u8 => Reason::OpenEgress,
            number if number == Reason::OpenIngress as u8 => Reason::OpenIngress,
            number if number == Reason::Ungoverned as u8 => Reason::Ungoverned,
            number if number == Reason::TableFull as u8 => Reason::TableFull,
            number if number == Reason::Guardrail as u8 => Reason::Guardrail,
            number if number == Reason::Failsafe as u8 => Reason::Failsafe,
            number if number == Reason::Unidentified as u8 => Reason::Unidentified,
            _ => Reason::NoRule,
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
    if role == Direction::Ingress && subject.has(Identity::OPEN_INGRESS) {
        return Evaluation::allowed(Reason::OpenIngress);
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

/// The denial by a guardrail: by the first entry that has the sender, the receiver and the service. The local workload is
/// whom its own identity or the one behind its address says.
#[inline(always)]
pub fn guardrail<T: Tables>(
    tables: &T,
    copy: u32,
    [own, here]: [u32; 2],
    peer: u32,
    role: Direction,
    service: PortIndex,
) -> Option<Evaluation> {
    let side = |identity, role| {
        let denied = tables.identity(&IdentityKey { identity, copy }).map(|identity| &identity.denied);
        denied.map(|denied| if role == Direction::Egress { denied.from } else { denied.to })
    };
    let full = Some(Evaluation::denied(Reason::TableFull));
    let Some([mut low, mut high]) = side(own, role) else { return full };
    if here != own {
        let Some(more) = side(here, role) else { return full };
        low |= more[0];
        high |= more[1];
    }
    let Some(theirs) = side(peer, role.other()) else { return full };
    low &= theirs[0];
    high &= theirs[1];
    if low | high == 0 {
        return None;
    }
    let mut key = RuleKey { row: RowKey::deny(copy, tables.port_class(copy, service)), slot: 0, reserved: 0 };
    let [mut low_denying, mut high_denying] = [0, 0];
    if let Some(row) = tables.row(&key.row) {
        low_denying |= row.bits[0] & low;
        high_denying |= row.bits[1] & high;
    }
    key.row.class = CLASS_ANY;
    if let Some(row) = tables.row(&key.row) {
        low_denying |= row.bits[0] & low;
        high_denying |= row.bits[1] & high;
    }
    if low_denying | high_denying == 0 {
        return None;
    }
    key.slot =
        if low_denying == 0 { 64 + high_denying.trailing_zeros() as u16 } else { low_denying.trailing_zeros() as u16 };
    let rule = tables.rule(&key).map_or(RULE_NONE, |entry| entry.rule);
    Some(Evaluation::new(Reason::Guardrail, rule, 0))
}

/// The first rule with `flags` for one of the peer's slots, as one number; 0 for none. It looks in the row for the port, then in
/// the row for every port.
#[inline(always)]
fn first<T: Tables>(tables: &T, peer: &Identity, key: &mut RuleKey, class: u16, flags: u32) -> u64 {
    key.row.class = class;
    let found = first_in_row(tables, peer, key, flags);
    if found != 0 || class == CLASS_ANY {
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
            let bits = if keeps { Evaluation::ALLOWED | Evaluation::KEEPS } else { Evaluation::ALLOWED };
            return Evaluation::new(Reason::Rule, rule.rule, bits).pack();
        }
    }
    0
}
