//! Entries on their way into the maps.

use std::collections::HashMap;
use std::hash::Hash;

use crate::kernel::error::KernelError;

/// Entries under their new numbers and otherwise as they were, with the old number.
pub(super) fn renumbered<K: Copy + Eq + Hash, V>(
    old: &HashMap<K, V>,
    new: &HashMap<K, V>,
    number: impl Fn(&V) -> u32,
    with: impl Fn(&V, u32) -> V,
) -> Vec<(K, V, u32)> {
    let both = new.iter().filter_map(|(key, entry)| Some((*key, entry, old.get(key)?)));
    both.map(|(key, entry, old)| (key, with(old, number(entry)), number(old))).collect()
}

pub(super) fn first_error<const N: usize>(results: [Result<bool, KernelError>; N]) -> Result<(), KernelError> {
    results.into_iter().try_for_each(|result| result.map(drop))
}

pub(super) fn written<'a, K: Copy + 'a, V: Copy + 'a>(
    entries: impl IntoIterator<Item = (&'a K, &'a Option<V>)>,
) -> impl Iterator<Item = (K, V)> {
    entries.into_iter().filter_map(|(key, value)| Some((*key, (*value)?)))
}

pub(super) fn removed<'a, K: Copy + 'a, V: 'a>(
    entries: impl IntoIterator<Item = (&'a K, &'a Option<V>)>,
) -> impl Iterator<Item = K> {
    entries.into_iter().filter(|(_, value)| value.is_none()).map(|(key, _)| *key)
}

pub(super) fn copied<K: Copy, V: Copy>(entries: &HashMap<K, V>) -> impl Iterator<Item = (K, V)> {
    entries.iter().map(|(key, value)| (*key, *value))
}
