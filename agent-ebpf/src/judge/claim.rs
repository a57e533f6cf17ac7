//! Who a packet claims to be from and for, held against who is known to be where.

use super::{Local, Seen};
use crate::abi::{Direction, Party, Place};
use crate::packet::Packet;
use crate::tables::Tables;

/// Whether a packet that comes from outside claims to be sent by a workload of this host, or by the host itself.
#[inline(always)]
pub(super) fn is_foreign(local: &Local, peer: &Party) -> bool {
    local.seen == Seen::Address && peer.flags & (Party::LOCAL | Party::HOST) != 0
}

/// Whether the local side may say something about a packet's flow: not where it is known by address alone, nor where a packet
/// comes in that is addressed to another workload, or to none of its own addresses where they are known. A bridge floods, say:
/// that must not make this workload the owner of another's end, who could then answer for it.
#[inline(never)]
pub(super) fn vouches<T: Tables>(tables: &T, packet: &Packet, local: &Local, direction: Direction) -> bool {
    if local.seen == Seen::Address || direction == Direction::Egress {
        return local.seen != Seen::Address;
    }
    let addressee = tables.party(packet.destination());
    addressee.workload == local.workload || addressee.workload == 0 && local.flags & Place::STRICT_SOURCE == 0
}

/// What a local sender claims to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// An address of its own, or one that nobody is known to hold.
    Own,
    /// An address that nobody is known to hold, although the sender's own ones are known.
    Unknown,
    /// Another workload's address or, from behind a link, the host's.
    Others,
}

/// What the local sender claims to be by its source address.
#[inline(always)]
pub(super) fn claim<T: Tables>(tables: &T, packet: &Packet, local: &Local, direction: Direction) -> Claim {
    if direction == Direction::Ingress || local.workload == 0 {
        return Claim::Own;
    }
    let own = tables.party(packet.source());
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
