//! A map in the kernel together with what the agent knows to be in it, so that a change writes only what changed.

mod audit;

use std::collections::HashMap;
use std::hash::Hash;
use std::io;

use aya::Pod;
use aya::maps::{MapData, MapError, MapType};
use bulkhead_ebpf::abi::Address;

use super::batch::{BatchMap, Walk};
use super::error::KernelError;
use super::pin::Pins;
use audit::Progress;

/// Entries that are compared before they are written.
const CHUNK: usize = 16_384;

/// Key of a longest-prefix map (`struct bpf_lpm_trie_key_u8` in include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PrefixKey {
    /// Bits that count, of the mapped form.
    pub bits: u32,
    /// The network.
    pub network: Address,
}

impl PrefixKey {
    /// The prefix of one address alone.
    #[must_use]
    pub const fn exact(address: Address) -> Self {
        Self { bits: 128, network: address }
    }
}

// SAFETY: repr(C) of two types without padding that may hold any bits.
unsafe impl Pod for PrefixKey {}

/// A map, as what its entries are and not as how the kernel keeps them.
pub(super) trait Store<K, V>: Sized {
    /// Whether a walk sees every entry that there could be, used or not.
    const IS_ARRAY: bool = false;

    /// Takes the map.
    ///
    /// # Errors
    /// InvalidData: its sizes are others, so another build of the programs made it.
    fn new(data: MapData) -> io::Result<Self>;

    /// The next few entries of a walk. One that is over begins again.
    ///
    /// # Errors
    /// As `BPF_MAP_LOOKUP_BATCH`.
    fn some(&self, walk: &mut Walk) -> io::Result<Vec<(K, V)>>;

    /// The value at a key; of a trie's, that of the longest prefix.
    ///
    /// # Errors
    /// As `BPF_MAP_LOOKUP_ELEM`; that it is not there is none.
    fn get(&self, key: &K) -> io::Result<Option<V>>;

    /// Writes entries. What stands before the first that fails is written.
    ///
    /// # Errors
    /// As `BPF_MAP_UPDATE_ELEM`: E2BIG or ENOSPC where the map is full.
    fn update(&self, entries: &[(K, V)]) -> io::Result<()>;

    /// Deletes entries; one that is not there is as good as deleted.
    ///
    /// # Errors
    /// As `BPF_MAP_DELETE_ELEM`.
    fn delete(&self, keys: &[K]) -> io::Result<()>;

    /// Every entry.
    ///
    /// # Errors
    /// As [`Self::some`].
    fn entries(&self) -> io::Result<Vec<(K, V)>> {
        let (mut entries, mut walk) = (Vec::new(), Walk::default());
        loop {
            entries.extend(self.some(&mut walk)?);
            if walk.is_over() {
                return Ok(entries);
            }
        }
    }
}

/// A map and its content.
#[derive(Debug)]
pub(super) struct Mirror<K, V, S = BatchMap<K, V>> {
    name: &'static str,
    map: S,
    is_trie: bool,
    content: HashMap<K, V>,
    progress: Progress,
    writes: u64,
}

impl<K: Pod + Eq + Hash, V: Pod + PartialEq, S: Store<K, V>> Mirror<K, V, S> {
    /// Opens a pinned map and reads what it holds, from an earlier agent perhaps.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn open(pins: &Pins, name: &'static str) -> Result<Self, KernelError> {
        let fail = |operation, source| KernelError::Map { map: name, operation, source };
        let data = MapData::from_pin(pins.map(name)).map_err(|source| fail("opening", source))?;
        let is_trie =
            data.info().and_then(|info| info.map_type()).map_err(|source| fail("opening", source))? == MapType::LpmTrie;
        let map = S::new(data).map_err(|source| fail("opening", MapError::IoError(source)))?;
        // An array is as long when it is empty, and a start must not wait for nothing.
        let entries = if pins.are_new() { Ok(Vec::new()) } else { map.entries() };
        let entries = entries.map_err(|source| fail("reading", MapError::IoError(source)))?;
        let content = entries.into_iter().collect();
        Ok(Self { name, map, is_trie, content, progress: Progress::default(), writes: 0 })
    }

    /// What the map holds.
    pub const fn content(&self) -> &HashMap<K, V> {
        &self.content
    }

    /// How many entries were ever written or removed: whether any was, two looks at it say.
    pub const fn writes(&self) -> u64 {
        self.writes
    }

    /// Writes those entries that are not there already. True where any was not.
    ///
    /// # Errors
    /// [`KernelError::Full`]: the map is full, or [`KernelError::Map`]. What there is room for is written, and what is there already has its room.
    pub fn set_all(&mut self, entries: impl IntoIterator<Item = (K, V)>) -> Result<bool, KernelError> {
        let mut entries = entries.into_iter();
        let (mut any, mut refusal) = (false, None);
        // Of a million entries only a few are held a third time.
        let mut changed: Vec<(K, V)> = Vec::new();
        loop {
            let news = entries.by_ref().filter(|(key, value)| self.content.get(key) != Some(value));
            changed.extend(news.take(CHUNK));
            if changed.is_empty() {
                return refusal.map_or(Ok(any), |source| Err(self.failed("writing", source)));
            }
            let written = if refusal.is_none() { self.map.update(&changed) } else { Ok(()) };
            if refusal.is_some() || written.is_err() {
                refusal = refusal.or(written.err());
                self.squeeze(&mut changed);
            }
            any |= !changed.is_empty();
            self.writes += changed.len() as u64;
            // A table that is filled for the first time grows once.
            let all = changed.len() + entries.size_hint().0;
            self.content.reserve(all.saturating_sub(self.content.len()));
            self.content.extend(changed.drain(..));
        }
    }

    /// Writes entries one by one, and leaves in `entries` what was written. After the first that does not fit, no other new one
    /// is tried: each would cost a system call.
    fn squeeze(&self, entries: &mut Vec<(K, V)>) {
        let mut has_room = true;
        entries.retain(|entry| {
            let is_new = !self.content.contains_key(&entry.0);
            let written = (has_room || !is_new) && self.map.update(std::slice::from_ref(entry)).is_ok();
            has_room &= written || !is_new;
            written
        });
    }

    /// Removes entries, where they are there. True where any was.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn unset_all(&mut self, keys: impl IntoIterator<Item = K>) -> Result<bool, KernelError> {
        let stale: Vec<K> = keys.into_iter().filter(|key| self.content.contains_key(key)).collect();
        self.map.delete(&stale).map_err(|source| self.failed("deleting", source))?;
        self.writes += stale.len() as u64;
        for key in &stale {
            self.content.remove(key);
        }
        Ok(!stale.is_empty())
    }

    /// Removes every entry that `keep` does not want. True where there was any.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) -> Result<bool, KernelError> {
        let stale: Vec<K> = self.content.keys().filter(|key| !keep(key)).copied().collect();
        self.unset_all(stale)
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> KernelError {
        match source.raw_os_error() {
            // A hash's and a trie's.
            Some(libc::E2BIG | libc::ENOSPC) => KernelError::Full(self.name),
            _ => KernelError::Map { map: self.name, operation, source: MapError::IoError(source) },
        }
    }
}
