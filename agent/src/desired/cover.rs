//! Which of the policy's CIDRs cover an address, and what follows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use bulkhead_ebpf::abi::{Address, Denied};
use ipnet::{IpNet, Ipv4Net};

use crate::kernel::mirror::PrefixKey;
use crate::policy::compile::CompiledPolicy;
use crate::policy::model::Peer;

/// What being in a CIDR means.
#[derive(Clone, Copy, Debug, Default)]
struct Means {
    /// Its slot, where a rule names it.
    slot: Option<u16>,
    /// The deny entries that name it.
    denied: Denied,
}

/// The CIDRs that rules and guardrails name, by network. A look-up tries each prefix length in use once, so it does not grow with their
/// number.
#[derive(Debug)]
pub(super) struct Cover {
    nets: HashMap<IpNet, Means>,
    /// Prefix lengths in use, longest first, by IP version.
    lengths: [Vec<u8>; 2],
}

impl Cover {
    pub(super) fn new(policy: &CompiledPolicy) -> Self {
        let mut nets: HashMap<IpNet, Means> = HashMap::new();
        for (net, slot) in of_nets(&policy.slots) {
            nets.entry(net).or_default().slot = Some(*slot);
        }
        for (net, denied) in of_nets(&policy.denied) {
            nets.entry(net).or_default().denied.add(denied);
        }
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for net in nets.keys() {
            lengths[version(net.network())].insert(net.prefix_len());
        }
        Self { nets, lengths: lengths.map(|set| set.into_iter().rev().collect()) }
    }

    /// Slots of the CIDRs that cover `address`, the longest prefix first, and the deny entries that name them.
    pub(super) fn of(&self, address: IpAddr) -> (Vec<u16>, Denied) {
        self.up_to(address, u8::MAX)
    }

    /// The same for the CIDRs that cover all of `net`, itself included.
    pub(super) fn of_net(&self, net: IpNet) -> (Vec<u16>, Denied) {
        self.up_to(net.network(), net.prefix_len())
    }

    fn up_to(&self, address: IpAddr, longest: u8) -> (Vec<u16>, Denied) {
        let lengths = self.lengths[version(address)].iter().filter(|length| **length <= longest);
        let nets = lengths.filter_map(|length| IpNet::new(address, *length).ok());
        let (mut slots, mut denied) = (Vec::new(), Denied::NOTHING);
        for means in nets.filter_map(|net| self.nets.get(&net.trunc())) {
            slots.extend(means.slot);
            denied.add(&means.denied);
        }
        (slots, denied)
    }

    /// The prefixes that the kernel's trie needs: the CIDRs themselves, and all of IPv4 where an IPv6 prefix would
    /// otherwise cover its mapped form.
    pub(super) fn nets(&self) -> BTreeSet<IpNet> {
        let mut nets: BTreeSet<IpNet> = self.nets.keys().copied().collect();
        let mapped = IpAddr::V6(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped());
        if nets.iter().any(|net| net.contains(&mapped)) {
            nets.insert(IpNet::V4(Ipv4Net::default()));
        }
        nets
    }
}

fn of_nets<T>(peers: &BTreeMap<Peer, T>) -> impl Iterator<Item = (IpNet, &T)> {
    peers.iter().filter_map(|(peer, value)| match peer {
        Peer::Cidr(net) => Some((net.trunc(), value)),
        Peer::Group(_) | Peer::World | Peer::Host | Peer::RemoteHost => None,
    })
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
