//! Sets of labels, each held once: of a hundred thousand pods most have the same as many others.

use std::collections::HashSet;
use std::sync::Arc;

use super::Labels;

/// As many sets as this are kept without a look at who still has them.
const FEW: usize = 1_024;

/// The sets that there are, and some that nobody has any more.
#[derive(Debug)]
pub struct Interned {
    sets: HashSet<Arc<Labels>>,
    /// How many there may be before those that nobody has any more are let go.
    enough: usize,
    most: usize,
}

impl Default for Interned {
    /// Whoever has the same labels has the same set, for as long as somebody has them.
    fn default() -> Self {
        Self::of_recent(usize::MAX)
    }
}

impl Interned {
    /// Of more than this many sets all are forgotten, whoever has them: for who hands them on and does not ask again.
    #[must_use]
    pub fn of_recent(most: usize) -> Self {
        Self { sets: HashSet::new(), enough: 0, most }
    }

    /// The one set that all have who have these labels.
    pub fn intern(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(known) = self.sets.get(&labels) {
            return known.clone();
        }
        if self.sets.len() >= self.enough {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            if self.sets.len() >= self.most {
                self.sets.clear();
            }
            self.enough = (2 * self.sets.len()).max(FEW).min(self.most);
        }
        let set = Arc::new(labels);
        self.sets.insert(set.clone());
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(number: usize) -> Labels {
        [("number".to_owned(), number.to_string())].into()
    }

    #[test]
    fn equal_labels_are_one_set_and_those_that_nobody_has_are_let_go() {
        let mut interned = Interned::default();
        let kept = interned.intern(numbered(0));
        assert!(Arc::ptr_eq(&kept, &interned.intern(numbered(0))));
        (1..10 * FEW).for_each(|number| drop(interned.intern(numbered(number))));
        assert!(interned.sets.len() <= FEW, "{} are kept", interned.sets.len());
        assert!(Arc::ptr_eq(&kept, &interned.intern(numbered(0))), "somebody has it");
    }

    #[test]
    fn of_recent_ones_only_so_many_are_kept() {
        let mut interned = Interned::of_recent(100);
        let all: Vec<_> = (0..1_000).map(|number| interned.intern(numbered(number))).collect();
        assert!(interned.sets.len() <= 100, "{} are kept", interned.sets.len());
        let last = all.last().expect("there are some");
        assert!(Arc::ptr_eq(last, &interned.intern(numbered(999))), "a neighbour has it too");
    }
}
