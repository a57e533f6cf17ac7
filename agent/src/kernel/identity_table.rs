//! `IDENTITIES`, an array: what is not in use is an entry without [`Identity::KNOWN`].

use std::io;

use aya::maps::MapData;
use bulkhead_ebpf::abi::{Identity, IdentityKey};

use super::batch::{BatchMap, Walk};
use super::mirror::Store;

/// The map.
#[derive(Debug)]
pub(super) struct IdentityTable(BatchMap<u32, Identity>);

impl Store<IdentityKey, Identity> for IdentityTable {
    const IS_ARRAY: bool = true;

    fn new(data: MapData) -> io::Result<Self> {
        BatchMap::new(data).map(Self)
    }

    fn some(&self, walk: &mut Walk) -> io::Result<Vec<(IdentityKey, Identity)>> {
        let entries = self.0.some(walk)?.into_iter();
        let known = entries.filter(|(_, identity)| identity.has(Identity::KNOWN));
        Ok(known.map(|(index, identity)| (IdentityKey::at(index), without_mark(identity))).collect())
    }

    fn get(&self, key: &IdentityKey) -> io::Result<Option<Identity>> {
        let identity = self.0.get(&key.index())?.filter(|identity| identity.has(Identity::KNOWN));
        Ok(identity.map(without_mark))
    }

    fn update(&self, entries: &[(IdentityKey, Identity)]) -> io::Result<()> {
        let entries: Vec<_> = entries.iter().map(|(key, identity)| (key.index(), with_mark(*identity))).collect();
        self.0.update(&entries)
    }

    fn delete(&self, keys: &[IdentityKey]) -> io::Result<()> {
        let entries: Vec<_> = keys.iter().map(|key| (key.index(), Identity::NOBODY)).collect();
        self.0.update(&entries)
    }
}

const fn with_mark(identity: Identity) -> Identity {
    Identity { flags: identity.flags | Identity::KNOWN, ..identity }
}

const fn without_mark(identity: Identity) -> Identity {
    Identity { flags: identity.flags & !Identity::KNOWN, ..identity }
}
