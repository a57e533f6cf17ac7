//! Holding a map against what the agent knows to be in it, and mending what differs.
//!
//! Nobody but the agent writes these maps. Somebody who does all the same (`bpftool map delete`, a second tool with a wrong path)
//! must not change for long what is enforced.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;

use aya::Pod;

use super::{Mirror, Store};
use crate::kernel::batch::{BATCH, Walk};
use crate::kernel::error::KernelError;

/// A map with so few entries is compared as a whole each time. Larger ones are compared in parts, that the agent's other work
/// does not wait: a million entries take two minutes.
const WHOLE: usize = 8_192;
/// Entries of such a part.
const PART: usize = 16_384;

/// Entries to write, and to remove.
type Differences<K, V> = (Vec<(K, V)>, Vec<K>);

/// How far the comparison of a large map has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    walk: Walk,
    looked_up: usize,
}

impl<K: Pod + Eq + Hash, V: Pod + PartialEq, S: Store<K, V>> Mirror<K, V, S> {
    /// Compares the map, or the next part of it, and mends what differs. Returns how many entries did.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn audit(&mut self) -> Result<u64, KernelError> {
        // Of a trie a look-up tells the longest prefix, so that whether an entry is there takes all of them.
        let is_small = self.content.len() <= WHOLE && !S::IS_ARRAY;
        let differences = if self.is_trie || is_small { self.compare_all() } else { self.compare_some() };
        let (wrong, foreign) = differences.map_err(|source| self.failed("reading", source))?;
        self.map.update(&wrong).map_err(|source| self.failed("writing", source))?;
        self.map.delete(&foreign).map_err(|source| self.failed("deleting", source))?;
        Ok((wrong.len() + foreign.len()) as u64)
    }

    fn compare_all(&self) -> io::Result<Differences<K, V>> {
        let entries: HashMap<K, V> = self.map.entries()?.into_iter().collect();
        let wrong = self.content.iter().filter(|(key, value)| entries.get(key) != Some(value));
        let foreign = entries.keys().filter(|key| !self.content.contains_key(key));
        Ok((wrong.map(|(key, value)| (*key, *value)).collect(), foreign.copied().collect()))
    }

    /// What is there and should not be is found by a walk over the map, what is not there by looking up what should be.
    fn compare_some(&mut self) -> io::Result<Differences<K, V>> {
        let (mut wrong, mut foreign) = (Vec::new(), Vec::new());
        let Progress { walk, looked_up } = &mut self.progress;
        let mut walked = 0;
        while walked < PART {
            let entries = self.map.some(walk)?;
            // Of an array most entries may be unused.
            walked += entries.len().max(BATCH);
            foreign.extend(entries.iter().map(|(key, _)| *key).filter(|key| !self.content.contains_key(key)));
            if walk.is_over() {
                break;
            }
        }
        if *looked_up >= self.content.len() {
            *looked_up = 0;
        }
        for (key, value) in self.content.iter().skip(*looked_up).take(PART) {
            if self.map.get(key)?.as_ref() != Some(value) {
                wrong.push((*key, *value));
            }
        }
        *looked_up += PART;
        Ok((wrong, foreign))
    }
}
