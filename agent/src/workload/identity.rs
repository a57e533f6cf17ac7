//! Identities: host-local numbers for distinct sets of groups, numbered so that a policy change can be atomic.
//!
//! A packet finds an identity through an address, a cgroup or an interface, and reads what it means from the copy of the
//! tables that is in force. So a number must not change hands when the policy flips: parties that shared a number and now
//! differ are split beforehand, the new numbers meaning the old set in the old copy.

use std::collections::HashMap;
use std::hash::Hash;

use bulkhead_ebpf::abi::{IDENTITY_WORLD, Identity};

/// The numbers in use.
#[derive(Debug)]
pub struct Identities<K> {
    numbers: HashMap<K, u32>,
    meanings: HashMap<u32, Identity>,
    next: u32,
}

impl<K> Default for Identities<K> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), meanings: HashMap::new(), next: IDENTITY_WORLD + 1 }
    }
}

impl<K: Clone + Eq + Hash> Identities<K> {
    /// Numbers from above `last`.
    #[must_use]
    pub fn above(last: u32) -> Self {
        Self { next: last.checked_add(1).unwrap_or(IDENTITY_WORLD + 1), ..Self::default() }
    }

    /// Numbers every party anew, and returns what each number now means.
    ///
    /// With `flips`, a party never moves to a number that already means something else in the copy in force.
    pub fn assign(&mut self, parties: &[(K, Identity)], flips: bool) -> HashMap<u32, Identity> {
        let mut meanings: HashMap<u32, Identity> = HashMap::new();
        let mut by_meaning: HashMap<Identity, u32> = HashMap::new();
        let mut numbers: HashMap<K, u32> = HashMap::with_capacity(parties.len());

        // Whoever means what it meant before keeps its number.
        for (party, meaning) in parties {
            if let Some(number) = self.numbers.get(party)
                && self.meanings.get(number) == Some(meaning)
            {
                meanings.insert(*number, *meaning);
                by_meaning.insert(*meaning, *number);
                numbers.insert(party.clone(), *number);
            }
        }
        // A flip gives the others their old number where all of its holders agree on the new meaning; the first one claims
        // it, and those who differ are split off, one new number for each old number and new meaning.
        let mut splits: HashMap<(u32, Identity), u32> = HashMap::new();
        for (party, meaning) in parties {
            if numbers.contains_key(party) {
                continue;
            }
            let old = self.numbers.get(party).copied().filter(|_| flips);
            let number = match old {
                Some(old) if !meanings.contains_key(&old) => old,
                Some(old) if meanings[&old] == *meaning => old,
                Some(old) => *splits.entry((old, *meaning)).or_insert_with(|| fresh(&mut self.next)),
                None => *by_meaning.entry(*meaning).or_insert_with(|| fresh(&mut self.next)),
            };
            meanings.insert(number, *meaning);
            numbers.insert(party.clone(), number);
        }
        self.numbers = numbers;
        self.meanings.clone_from(&meanings);
        meanings
    }

    /// A party's number; the world's where it has none.
    pub fn of(&self, party: &K) -> u32 {
        self.numbers.get(party).copied().unwrap_or(IDENTITY_WORLD)
    }
}

fn fresh(next: &mut u32) -> u32 {
    let number = *next;
    *next = next.checked_add(1).unwrap_or(IDENTITY_WORLD + 1);
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(slot: u16) -> Identity {
        let mut identity = Identity { count: 1, ..Identity::NOBODY };
        identity.slots[0] = slot;
        identity
    }

    fn parties(list: &[(&'static str, u16)]) -> Vec<(&'static str, Identity)> {
        list.iter().map(|(name, slot)| (*name, meaning(*slot))).collect()
    }

    #[test]
    fn parties_that_mean_the_same_share_a_number() {
        let mut identities = Identities::default();
        let meanings = identities.assign(&parties(&[("a", 2), ("b", 2), ("c", 3)]), false);
        assert_eq!(identities.of(&"a"), identities.of(&"b"));
        assert_ne!(identities.of(&"a"), identities.of(&"c"));
        assert_eq!(meanings.len(), 2);
    }

    #[test]
    fn a_relabelled_workload_moves_and_nobody_else_does() {
        let mut identities = Identities::default();
        identities.assign(&parties(&[("a", 2), ("b", 2), ("c", 3)]), false);
        let (b, c) = (identities.of(&"b"), identities.of(&"c"));
        identities.assign(&parties(&[("a", 3), ("b", 2), ("c", 3)]), false);
        assert_eq!((identities.of(&"a"), identities.of(&"b"), identities.of(&"c")), (c, b, c));
    }

    #[test]
    fn a_flip_renames_nobody_who_stays_together_and_splits_those_who_part() {
        let mut identities = Identities::default();
        identities.assign(&parties(&[("a", 2), ("b", 2), ("c", 3), ("d", 3)]), false);
        let (shared, c) = (identities.of(&"a"), identities.of(&"c"));
        // Slots are numbered anew: a stays with nobody, b joins what c and d become.
        let meanings = identities.assign(&parties(&[("a", 8), ("b", 9), ("c", 9), ("d", 9)]), true);
        assert_eq!((identities.of(&"c"), identities.of(&"d")), (c, c));
        assert_eq!(identities.of(&"a"), shared);
        assert!(![shared, c].contains(&identities.of(&"b")), "b must not take a number that means c in the old copy");
        assert_eq!(meanings[&identities.of(&"b")], meanings[&c]);
    }
}
