//! A map in the kernel together with what the agent knows to be in it, so that a change writes only what changed.

use std::collections::HashMap;
use std::hash::Hash;

use aya::maps::lpm_trie::Key;
use aya::maps::{MapData, MapError};
use bulkhead_ebpf::abi::{Address, Party};

use super::error::KernelError;

/// The kernel's side of a mirrored map.
pub trait Backing<K, V> {
    /// Inserts or replaces an entry.
    ///
    /// # Errors
    /// As the kernel's `BPF_MAP_UPDATE_ELEM`: E2BIG or ENOSPC where the map is full.
    fn write(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    /// Removes an entry.
    ///
    /// # Errors
    /// As the kernel's `BPF_MAP_DELETE_ELEM`.
    fn erase(&mut self, key: &K) -> Result<(), MapError>;
    /// Every entry.
    ///
    /// # Errors
    /// As the kernel's `BPF_MAP_GET_NEXT_KEY`.
    fn entries(&self) -> Result<Vec<(K, V)>, MapError>;
}

impl<K: aya::Pod, V: aya::Pod> Backing<K, V> for aya::maps::HashMap<MapData, K, V> {
    fn write(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn erase(&mut self, key: &K) -> Result<(), MapError> {
        self.remove(key)
    }

    fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        self.iter().collect()
    }
}

impl Backing<(u32, Address), Party> for aya::maps::LpmTrie<MapData, Address, Party> {
    fn write(&mut self, key: &(u32, Address), value: &Party) -> Result<(), MapError> {
        self.insert(&Key::new(key.0, key.1), value, 0)
    }

    fn erase(&mut self, key: &(u32, Address)) -> Result<(), MapError> {
        self.remove(&Key::new(key.0, key.1))
    }

    fn entries(&self) -> Result<Vec<((u32, Address), Party)>, MapError> {
        self.iter().map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value))).collect()
    }
}

/// A map and its content.
#[derive(Debug)]
pub struct Mirror<K, V, B> {
    name: &'static str,
    backing: B,
    content: HashMap<K, V>,
}

impl<K: Clone + Eq + Hash, V: Copy + PartialEq, B: Backing<K, V>> Mirror<K, V, B> {
    /// Reads what the map holds, from an earlier agent perhaps.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn read(name: &'static str, backing: B) -> Result<Self, KernelError> {
        let entries =
            backing.entries().map_err(|source| KernelError::Map { map: name, operation: "reading", source })?;
        Ok(Self { name, backing, content: entries.into_iter().collect() })
    }

    /// What the map holds.
    pub const fn content(&self) -> &HashMap<K, V> {
        &self.content
    }

    /// Writes one entry, unless it is there already.
    ///
    /// # Errors
    /// [`KernelError::Map`]: the map is full.
    pub fn set(&mut self, key: &K, value: V) -> Result<bool, KernelError> {
        if self.content.get(key) == Some(&value) {
            return Ok(false);
        }
        self.backing.write(key, &value).map_err(|source| KernelError::Map {
            map: self.name,
            operation: "writing an entry",
            source,
        })?;
        self.content.insert(key.clone(), value);
        Ok(true)
    }

    /// Removes one entry, if it is there.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn unset(&mut self, key: &K) -> Result<bool, KernelError> {
        if !self.content.contains_key(key) {
            return Ok(false);
        }
        match self.backing.erase(key) {
            // Somebody else removed it, or an LRU map gave it up.
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(source) => {
                return Err(KernelError::Map { map: self.name, operation: "removing an entry", source });
            }
        }
        self.content.remove(key);
        Ok(true)
    }

    /// Removes every entry that `keep` does not want.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) -> Result<bool, KernelError> {
        let stale: Vec<K> = self.content.keys().filter(|key| !keep(key)).cloned().collect();
        for key in &stale {
            self.unset(key)?;
        }
        Ok(!stale.is_empty())
    }
}
