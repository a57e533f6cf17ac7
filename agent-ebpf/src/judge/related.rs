//! ICMP errors that belong to a flow.

use super::failsafe::is_failsafe;
use super::flow::course_role;
use super::{Local, Subject, local_end};
use crate::abi::{Direction, PortIndex};
use crate::packet::{Bytes, Packet, parse_quote};
use crate::tables::Tables;

/// Whether an ICMP error quotes a flow that the local side allows, and goes to the sender of the packet that it quotes: to
/// anybody else it would be a way to carry data past the rules.
#[inline(never)]
pub(super) fn is_related<T: Tables, B: Bytes + ?Sized>(
    tables: &T,
    bytes: &B,
    packet: &Packet,
    local: &Local,
    direction: Direction,
) -> bool {
    let Some((key, sender)) = parse_quote(bytes, packet) else { return false };
    if key.address(sender) != packet.destination() {
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
    let Some(flow) = tables.find(&key) else { return false };
    let (stamp, control) = (flow.stamp(end), tables.control());
    if !flow.is_alive(&control.settings, key.protocol(), tables.now()) {
        return false;
    }
    let is_denied = local.is_denied_by_scope();
    if !is_denied && stamp.was_allowed_for(local.workload) && stamp.holds(local.generation) {
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
        PortIndex::new(key.protocol(), u16::from_be(key.port(opener.other())))
    };
    let peer = tables.party(key.address(end.other()));
    let is_kept = stamp.was_allowed_for(local.workload) && stamp.keeps() && flow.peer(end) == peer.workload;
    let subject = Subject::of(tables, local);
    let here = if subject.is_guarded() { tables.party(key.address(end)).identity } else { 0 };
    if !stamp.is_judged() || stamp.workload() != local.workload {
        return false;
    }
    let evaluation = tables.evaluate(subject, [local.identity, here], peer.identity, role, service);
    let passes = evaluation.is_allowed() || !evaluation.is_guarded() && (subject.audits(role) || is_kept);
    passes && !is_denied || is_failsafe(tables, local, key.address(end), role, service)
}
