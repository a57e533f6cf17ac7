//! What the policy says of one subject, one peer and one service, flows aside.

use super::Local;
use crate::abi::{
    CLASS_ANY, Direction, Identity, IdentityKey, MAX_IDENTITY_SLOTS, Party, PortIndex, RULE_NONE, Reason, RowKey,
    RuleKey, RuleRef,
};
use crate::tables::Tables;

/// The part of the local workload's identity that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    number: u32,
    flags: u16,
}

impl Subject {
    const UNGOVERNED: Self = Self { number: 0, flags: 0 };
    const FULL: Self = Self { number: 0, flags: Identity::GOVERNED | Identity::FULL };

    /// The subject that a local workload is. A workload whose identity is missing is denied: the table was full.
    #[inline(always)]
    pub fn of<T: Tables>(tables: &T, local: &Local) -> Self {
        if local.workload == 0 {
            return Self::UNGOVERNED;
        }
        let key = IdentityKey { identity: local.identity, copy: tables.control().copy() };
        tables.identity(&key).map_or(Self::FULL, |identity| Self { number: identity.subject, flags: identity.flags })
    }

    /// Whether any group governs it.
    #[inline(always)]
    #[must_use]
    pub const fn is_governed(self) -> bool {
        self.flags & Identity::GOVERNED != 0
    }

    /// Whether denials of `role` are only audited.
    #[inline(always)]
    #[must_use]
    pub const fn audits(self, role: Direction) -> bool {
        let flag = match role {
            Direction::Ingress => Identity::AUDIT_INGRESS,
            Direction::Egress => Identity::AUDIT_EGRESS,
        };
        self.flags & flag != 0
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

    /// Why, either way.
    #[inline(always)]
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self.allowed_by {
            Ok(reason) | Err(reason) => reason,
        }
    }
}

/// What is asked of the rules.
struct Question {
    copy: u32,
    subject: Subject,
    peer: u32,
    role: Direction,
    service: PortIndex,
}

/// Evaluates the rules.
#[inline(always)]
pub fn evaluate<T: Tables>(
    tables: &T,
    copy: u32,
    subject: Subject,
    peer: &Party,
    role: Direction,
    service: PortIndex,
) -> Evaluation {
    answer(tables, &Question { copy, subject, peer: peer.identity, role, service })
}

/// A function of its own, because a packet may need several answers and the programs' stack has 512 bytes.
#[inline(never)]
fn answer<T: Tables>(tables: &T, question: &Question) -> Evaluation {
    let Question { copy, subject, peer, role, service } = *question;
    if subject.flags & Identity::FULL != 0 {
        return Evaluation::denied(Reason::TableFull);
    }
    if !subject.is_governed() {
        return Evaluation::allowed(Reason::Ungoverned);
    }
    if role == Direction::Egress && subject.flags & Identity::RESTRICTED_EGRESS == 0 {
        return Evaluation::allowed(Reason::OpenEgress);
    }
    let Some(peer) = tables.identity(&IdentityKey { identity: peer, copy }) else {
        return Evaluation::denied(Reason::NoRule);
    };
    let row = |class| RowKey::new(copy, subject.number, role, class);
    let class = tables.port_class(copy, service);
    let (specific, general) = (tables.row(&row(class)), tables.row(&row(CLASS_ANY)));
    // Where groups keep flows, one that does is enough, whichever rule is found first.
    let may_keep = subject.flags & Identity::KEEPS != 0;
    let count = usize::from(peer.count);
    let mut first = Evaluation::denied(Reason::NoRule);
    let mut index = 0;
    while index < MAX_IDENTITY_SLOTS && index < count {
        let slot = peer.slots[index];
        index += 1;
        let class = if specific.is_some_and(|row| row.allows(slot)) {
            class
        } else if general.is_some_and(|row| row.allows(slot)) {
            CLASS_ANY
        } else {
            continue;
        };
        let rule = tables.rule(&RuleKey { row: row(class), slot, reserved: 0 });
        // The bit is what decides; without its reference the rule has no name.
        let (rule, keeps) = rule.map_or((RULE_NONE, false), |rule| (rule.rule, rule.flags & RuleRef::KEEP != 0));
        if keeps || !may_keep {
            return Evaluation { allowed_by: Ok(Reason::Rule), rule, keeps };
        }
        if first.allowed_by.is_err() {
            first = Evaluation { allowed_by: Ok(Reason::Rule), rule, keeps };
        }
    }
    first
}
