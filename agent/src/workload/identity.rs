//! Identities: host-local numbers for distinct sets of groups, numbered so that a policy change can be atomic.
//!
//! A packet finds an identity through an address, a cgroup or an interface, and reads what it means from the copy of the
//! tables that is in force. So a number must not change hands when the policy flips: holders that shared a number and now
//! differ are split beforehand, the new numbers meaning the old set in the old copy.
//!
//! Numbers are small, as they are the indices of an array, and so they are given again: as late as there are others, and never
//! while somebody has them or the copy in force knows them.
//!
//! Holders are many (a million addresses) and what they hold is little, so nothing is kept of a holder: what counts is the
//! number that it holds in the kernel today, and what it shall mean.

use std::collections::{BTreeSet, HashMap, HashSet};

use bulkhead_ebpf::abi::{IDENTITY_NONE, IDENTITY_WORLD, Identity, MAX_IDENTITY};

/// The number that a holder has in the kernel today, if any, and what it shall mean.
pub type Holding = (Option<u32>, Identity);

/// The numbers in use.
#[derive(Debug)]
pub struct Identities {
    by_meaning: HashMap<Identity, u32>,
    /// Those that must not be given, whatever they mean.
    used: HashSet<u32>,
    next: u32,
}

impl Default for Identities {
    fn default() -> Self {
        Self::beside([])
    }
}

/// The number of each distinct holding.
#[derive(Debug, Default)]
pub struct Assignment {
    numbers: HashMap<Holding, u32>,
    /// What each number means.
    pub meanings: HashMap<u32, Identity>,
    /// Holdings for which no number was left: theirs is [`IDENTITY_NONE`], by which they are denied altogether.
    pub unnumbered: usize,
}

impl Assignment {
    /// The number for a holding that was assigned.
    #[must_use]
    pub fn number(&self, holding: &Holding) -> u32 {
        *self.numbers.get(holding).expect("every holding was assigned before it is asked for")
    }
}

impl Identities {
    /// Other numbers than those that an earlier agent gave.
    #[must_use]
    pub fn beside(given: impl IntoIterator<Item = u32>) -> Self {
        let used: HashSet<u32> = given.into_iter().collect();
        let last = used.iter().copied().filter(|number| *number <= MAX_IDENTITY).max();
        Self { by_meaning: HashMap::new(), used, next: after(last.unwrap_or(IDENTITY_WORLD)) }
    }

    /// Numbers all distinct holdings anew. `means_today` says what a number means in the copy in force.
    ///
    /// With `flips`, a holder never moves to a number that means something else in the copy in force.
    pub fn assign(
        &mut self,
        holdings: &BTreeSet<Holding>,
        means_today: impl Fn(u32) -> Option<Identity>,
        flips: bool,
    ) -> Assignment {
        let mut assignment = Assignment::default();
        self.by_meaning.clear();
        self.used.extend(holdings.iter().filter_map(|(old, _)| *old));
        // Whoever means what it meant before keeps its number.
        for holding @ (old, meaning) in holdings {
            if let Some(old) = old
                && *old != IDENTITY_WORLD
                && means_today(*old).as_ref() == Some(meaning)
            {
                self.by_meaning.insert(*meaning, *old);
                assignment.meanings.insert(*old, *meaning);
                assignment.numbers.insert(*holding, *old);
            }
        }
        // A flip gives the others their old number where all of its holders agree on the new meaning; the first one claims
        // it, and those who differ are split off, one new number for each old number and new meaning.
        for holding @ (old, meaning) in holdings {
            if assignment.numbers.contains_key(holding) {
                continue;
            }
            let may_stay = |old: u32| {
                old != IDENTITY_WORLD
                    && means_today(old).is_some()
                    && assignment.meanings.get(&old).is_none_or(|known| known == meaning)
            };
            let number = match old {
                Some(old) if flips && may_stay(*old) => *old,
                Some(_) if flips => self.fresh(&means_today),
                _ => match self.by_meaning.get(meaning) {
                    Some(number) => *number,
                    None => {
                        let number = self.fresh(&means_today);
                        self.by_meaning.insert(*meaning, number);
                        number
                    }
                },
            };
            if number == IDENTITY_NONE {
                assignment.unnumbered += 1;
            } else {
                assignment.meanings.insert(number, *meaning);
            }
            assignment.numbers.insert(*holding, number);
        }
        self.by_meaning.retain(|_, number| *number != IDENTITY_NONE);
        for (number, meaning) in &assignment.meanings {
            self.by_meaning.entry(*meaning).or_insert(*number);
        }
        self.used = assignment.meanings.keys().copied().collect();
        assignment
    }

    /// A number that nobody has and that means nothing today; [`IDENTITY_NONE`] where none is left.
    fn fresh(&mut self, means_today: impl Fn(u32) -> Option<Identity>) -> u32 {
        for _ in IDENTITY_WORLD..MAX_IDENTITY {
            let number = self.next;
            self.next = after(number);
            if !self.used.contains(&number) && means_today(number).is_none() {
                self.used.insert(number);
                return number;
            }
        }
        IDENTITY_NONE
    }

    /// The number for a meaning while no policy changes, and whether it is a new one. `means_today` as for [`Self::assign`].
    pub fn intern(&mut self, meaning: &Identity, means_today: impl Fn(u32) -> Option<Identity>) -> (u32, bool) {
        if let Some(number) = self.by_meaning.get(meaning) {
            return (*number, false);
        }
        let number = self.fresh(means_today);
        if number == IDENTITY_NONE {
            return (number, false);
        }
        self.by_meaning.insert(*meaning, number);
        (number, true)
    }

    /// How many meanings are numbered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_meaning.len()
    }
}

/// The number to try after this one.
const fn after(number: u32) -> u32 {
    if number < MAX_IDENTITY { number + 1 } else { IDENTITY_WORLD + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(slot: u16) -> Identity {
        let mut identity = Identity { count: 1, ..Identity::NOBODY };
        identity.slots[0] = slot;
        identity
    }

    /// Numbers for holders, given what they held before and what they shall mean.
    struct World {
        identities: Identities,
        meanings: HashMap<u32, Identity>,
        held: HashMap<&'static str, u32>,
    }

    impl World {
        fn new() -> Self {
            Self { identities: Identities::default(), meanings: HashMap::new(), held: HashMap::new() }
        }

        fn assign(&mut self, list: &[(&'static str, u16)], flips: bool) {
            let holdings: Vec<(&'static str, Holding)> =
                list.iter().map(|(name, slot)| (*name, (self.held.get(name).copied(), meaning(*slot)))).collect();
            let distinct = holdings.iter().map(|(_, holding)| *holding).collect();
            let assignment = self.identities.assign(&distinct, |number| self.meanings.get(&number).copied(), flips);
            self.held = holdings.iter().map(|(name, holding)| (*name, assignment.number(holding))).collect();
            self.meanings = assignment.meanings;
        }
    }

    #[test]
    fn holders_that_mean_the_same_share_a_number() {
        let mut world = World::new();
        world.assign(&[("a", 2), ("b", 2), ("c", 3)], false);
        assert_eq!(world.held["a"], world.held["b"]);
        assert_ne!(world.held["a"], world.held["c"]);
        assert_eq!(world.meanings.len(), 2);
    }

    #[test]
    fn a_number_is_given_again_once_all_others_were_and_to_nobody_who_would_share_it() {
        let mut identities = Identities::beside([MAX_IDENTITY - 1]);
        let mut meanings = HashMap::new();
        let holdings = BTreeSet::from([(None, meaning(1))]);
        assert_eq!(identities.assign(&holdings, |_| None, false).number(&(None, meaning(1))), MAX_IDENTITY);
        meanings.insert(MAX_IDENTITY, meaning(1));
        meanings.insert(1, meaning(2));
        let today = |number: u32| meanings.get(&number).copied();
        assert_eq!(identities.intern(&meaning(3), today), (2, true), "1 means something in the copy in force");
        assert_eq!(identities.intern(&meaning(1), today), (MAX_IDENTITY, false));
    }

    #[test]
    fn who_comes_when_every_number_is_taken_gets_none() {
        let mut identities = Identities::beside(1..=MAX_IDENTITY);
        let today = |_| None;
        assert_eq!(identities.intern(&meaning(1), today), (IDENTITY_NONE, false));
        let mut identities = Identities::beside(1..=MAX_IDENTITY);
        let holdings = BTreeSet::from([(None, meaning(1)), (Some(7), meaning(2))]);
        let assignment = identities.assign(&holdings, today, true);
        assert_eq!((assignment.unnumbered, assignment.meanings.len()), (2, 0));
        assert_eq!(identities.intern(&meaning(1), today), (1, true), "and a number as soon as there is one");
    }

    #[test]
    fn a_relabelled_workload_moves_and_nobody_else_does() {
        let mut world = World::new();
        world.assign(&[("a", 2), ("b", 2), ("c", 3)], false);
        let (b, c) = (world.held["b"], world.held["c"]);
        world.assign(&[("a", 3), ("b", 2), ("c", 3)], false);
        assert_eq!((world.held["a"], world.held["b"], world.held["c"]), (c, b, c));
    }

    #[test]
    fn a_flip_renames_nobody_who_stays_together_and_splits_those_who_part() {
        let mut world = World::new();
        world.assign(&[("a", 2), ("b", 2), ("c", 3), ("d", 3)], false);
        let (shared, c) = (world.held["a"], world.held["c"]);
        // Slots are numbered anew: a stays with nobody, b joins what c and d become.
        world.assign(&[("a", 8), ("b", 9), ("c", 9), ("d", 9)], true);
        assert_eq!((world.held["c"], world.held["d"]), (c, c));
        let (a, b) = (world.held["a"], world.held["b"]);
        assert!((a == shared) != (b == shared), "one of them keeps the number that both had");
        assert_ne!(b, c, "b must not take a number that means c in the old copy");
        assert_eq!(world.meanings[&b], world.meanings[&c]);
    }
}
