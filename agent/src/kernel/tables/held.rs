//! What the maps hold, for who computes what they shall hold.

use bulkhead_ebpf::abi::{Address, Backends, Frontend, Identity, IdentityKey, Party, Place};

use super::Tables;
use crate::desired::Held;
use crate::kernel::mirror::PrefixKey;

impl Held for Tables {
    fn address(&self, address: &Address) -> Option<Party> {
        self.addresses.content().get(address).copied()
    }

    fn addresses(&self) -> impl Iterator<Item = (Address, Party)> {
        self.addresses.content().iter().map(|(address, party)| (*address, *party))
    }

    fn prefix(&self, prefix: &PrefixKey) -> Option<Party> {
        self.lengths.covering(self.cidrs.content(), *prefix)
    }

    fn cgroup(&self, id: u64) -> Option<Place> {
        self.cgroups.content().get(&id).copied()
    }

    fn interface(&self, index: u32) -> Option<Place> {
        self.interfaces.content().get(&index).copied()
    }

    fn backends(&self, frontend: &Frontend) -> Option<Backends> {
        self.services.content().get(frontend).copied()
    }

    fn meaning(&self, identity: u32) -> Option<Identity> {
        self.identities.content().get(&IdentityKey { identity, copy: self.generation & 1 }).copied()
    }
}
