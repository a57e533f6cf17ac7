//! Failsafe ports: the host's own traffic that no policy cuts.

use super::{Local, Seen};
use crate::abi::{Address, Direction, Party, PortIndex};
use crate::tables::Tables;

/// Whether a flow that the policy denies passes all the same: what a failsafe port names is addressed, and the local end is at
/// one of the host's addresses. What comes or goes through a workload's link is never the host's.
///
/// It is asked of denials alone, as what the flow is: an answer passes as part of the flow that it answers, never for the port
/// that it comes from.
#[inline(always)]
pub(super) fn is_failsafe<T: Tables>(
    tables: &T,
    local: &Local,
    own: &Address,
    role: Direction,
    service: PortIndex,
) -> bool {
    !matches!(local.seen, Seen::Interface(_)) && tables.is_failsafe(own, role, service)
}

/// Whether a failsafe port names this service, and the address is one of the host's.
#[inline(always)]
pub fn failsafe<T: Tables>(tables: &T, own: &Address, role: Direction, service: PortIndex) -> bool {
    names(tables, role, service) && tables.party(own).flags & Party::HOST != 0
}

/// Whether a failsafe port names this service.
#[inline(always)]
pub(super) fn names<T: Tables>(tables: &T, role: Direction, service: PortIndex) -> bool {
    let (word, bit) = service.failsafe(role);
    tables.failsafe(word) >> bit & 1 == 1
}
