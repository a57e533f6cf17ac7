//! Which of the policy's CIDRs cover an address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use bulkhead_ebpf::abi::Address;
use ipnet::{IpNet, Ipv4Net};

use crate::kernel::mirror::PrefixKey;
use crate::policy::model::Peer;

/// The CIDRs that rules name, by network. A look-up tries each prefix length in use once, so it does not grow with their
/// number.
#[derive(Debug)]
pub(super) struct Cover {
    slots: HashMap<IpNet, u16>,
    /// Prefix lengths in use, longest first, by IP version.
    lengths: [Vec<u8>; 2],
}

impl Cover {
    pub(super) fn new(peers: &BTreeMap<Peer, u16>) -> Self {
        let slots: HashMap<IpNet, u16> = peers
            .iter()
            .filter_map(|(peer, slot)| match peer {
                Peer::Cidr(net) => Some((net.trunc(), *slot)),
                Peer::Group(_) | Peer::World | Peer::Host => None,
            })
            .collect();
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for net in slots.keys() {
            lengths[version(net.network())].insert(net.prefix_len());
        }
        Self { slots, lengths: lengths.map(|set| set.into_iter().rev().collect()) }
    }

    /// Slots of the CIDRs that cover `address`, the longest prefix first.
    pub(super) fn slots(&self, address: IpAddr) -> Vec<u16> {
        self.slots_up_to(address, u8::MAX)
    }

    /// Slots of the CIDRs that cover all of `net`, itself included.
    pub(super) fn slots_of_net(&self, net: IpNet) -> Vec<u16> {
        self.slots_up_to(net.network(), net.prefix_len())
    }

    fn slots_up_to(&self, address: IpAddr, longest: u8) -> Vec<u16> {
        self.lengths[version(address)]
            .iter()
            .filter(|length| **length <= longest)
            .filter_map(|length| IpNet::new(address, *length).ok())
            .filter_map(|net| self.slots.get(&net.trunc()).copied())
            .collect()
    }

    /// The prefixes that the kernel's trie needs: the CIDRs themselves, and all of IPv4 where an IPv6 prefix would
    /// otherwise cover its mapped form.
    pub(super) fn nets(&self) -> BTreeSet<IpNet> {
        let mut nets: BTreeSet<IpNet> = self.slots.keys().copied().collect();
        let mapped = IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
        if nets.iter().any(|net| net.contains(&mapped)) {
            nets.insert(IpNet::V4(Ipv4Net::default()));
        }
        nets
    }
}

/// Prefix length and network as the trie's key: IPv4 in its mapped form.
pub(super) fn key(net: IpNet) -> PrefixKey {
    let bits = match net {
        IpNet::V4(net) => 96 + u32::from(net.prefix_len()),
        IpNet::V6(net) => u32::from(net.prefix_len()),
    };
    PrefixKey { bits, network: Address::from(net.network()) }
}

const fn version(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => 1,
    }
}
