//! Whether one rule allows all that another allows.

use ipnet::IpNet;

use crate::policy::model::{Peer, PortMatch, Rule};

/// Whether `wide` allows everything that `narrow` allows, whatever workloads there are.
pub(super) fn covers(wide: &Rule, narrow: &Rule) -> bool {
    // The same AddressGroup, which may be long, needs no comparison of each prefix with each.
    covers_ports(wide.ports.as_deref(), narrow.ports.as_deref())
        && (wide.peers == narrow.peers || narrow.peers.iter().all(|peer| covers_peer(&wide.peers, *peer)))
}

/// Whether everyone whom `narrow` stands for is in `wide`, whatever workloads there are.
pub(super) fn covers_peer(wide: &[Peer], narrow: Peer) -> bool {
    let everyone = |length_of: fn(&IpNet) -> bool| {
        wide.iter().any(|peer| matches!(peer, Peer::Cidr(net) if net.prefix_len() == 0 && length_of(net)))
    };
    match narrow {
        Peer::Cidr(narrow) => {
            wide.iter().any(|peer| matches!(peer, Peer::Cidr(wide) if *wide == narrow || wide.contains(&narrow)))
        }
        // The world is known by address alone, which the host and members of groups need not be.
        Peer::World => {
            wide.contains(&narrow)
                || (everyone(|net| matches!(net, IpNet::V4(_))) && everyone(|net| matches!(net, IpNet::V6(_))))
        }
        Peer::Group(_) | Peer::Host => wide.contains(&narrow),
    }
}

/// Whether `wide` has all of `narrow`; `None` is every protocol and port.
pub(super) fn covers_ports(wide: Option<&[PortMatch]>, narrow: Option<&[PortMatch]>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => narrow.iter().all(|narrow| wide.iter().any(|wide| covers_port(*wide, *narrow))),
    }
}

fn covers_port(wide: PortMatch, narrow: PortMatch) -> bool {
    match (wide, narrow) {
        (PortMatch::Ports { protocol, first, last }, PortMatch::Ports { protocol: narrow, first: from, last: to }) => {
            protocol == narrow && first <= from && to <= last
        }
        (PortMatch::Icmp { protocol, kind, code }, PortMatch::Icmp { protocol: narrow, kind: of, code: at }) => {
            protocol == narrow && (kind.is_none() || (kind == of && (code.is_none() || code == at)))
        }
        (wide, narrow) => wide == narrow,
    }
}
