//! Sets of objects in a few hundred bytes: two of them tell how the sets differ, as long as that is not much.
//!
//! A hash of the whole set would say that two nodes differ, not in what: one object that changes would change what is known of all
//! others. This is an invertible Bloom lookup table (Goodrich and Mitzenmacher, 2011; Eppstein et al., "What's the Difference?",
//! 2011). Every member is added to one cell of each row. Subtracted from another set's table only the members remain that one
//! of the two lacks; a cell with a single one names it, which is taken out of its other cells, and so on.

use std::collections::BTreeSet;

use k8s_openapi::ByteString;
use serde_json::Value;

use crate::policy::objects::ObjectName;

/// Each member has a cell in each.
const ROWS: usize = 4;
/// Cells of a row. With these, 16 differences are told in 99 of 100 cases and more, 24 in 97 (a test has it).
const COLUMNS: usize = 12;
/// Bytes of a cell.
const CELL: usize = 9;
/// Bits of a mark that follow from the others.
const CHECK: u64 = 0xff_ffff;

/// An object at one generation, in 40 bits and 24 that check them. Of 10,000 objects two have the same mark with a chance of
/// 1 in 20,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u64);

impl Mark {
    /// The mark of an object.
    #[must_use]
    pub(super) fn of(name: &ObjectName, uid: &str, generation: i64) -> Self {
        Self::new(hash(&name.to_string(), &format!("{uid}/{generation}")))
    }

    fn new(hash: u64) -> Self {
        Self((hash & !CHECK) | (mixed(hash & !CHECK) & CHECK))
    }

    fn is_one(self) -> bool {
        self == Self::new(self.0)
    }

    /// Its cell in each row.
    fn cells(self) -> [usize; ROWS] {
        std::array::from_fn(|row| {
            let column = mixed(self.0.rotate_left(16 * u32::try_from(row).expect("few rows"))) % COLUMNS as u64;
            row * COLUMNS + usize::try_from(column).expect("few columns")
        })
    }
}

/// What is added up of the members of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// Their number, modulo 256.
    count: u8,
    /// Their marks, by exclusive or.
    marks: u64,
}

/// A set of marks, as far as it takes to compare it with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sketch([Cell; ROWS * COLUMNS]);

/// In what two sets differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// Members of the one alone.
    pub(super) missing: BTreeSet<Mark>,
    /// Members of the other alone.
    pub(super) added: BTreeSet<Mark>,
}

impl Sketch {
    pub(super) fn of<'a>(marks: impl IntoIterator<Item = &'a Mark>) -> Self {
        let mut sketch = Self([Cell::default(); ROWS * COLUMNS]);
        marks.into_iter().for_each(|mark| sketch.add(*mark, 1));
        sketch
    }

    fn add(&mut self, mark: Mark, count: u8) {
        for at in mark.cells() {
            let cell = &mut self.0[at];
            cell.count = cell.count.wrapping_add(count);
            cell.marks ^= mark.0;
        }
    }

    /// What `other` lacks of this one's members, and has beside them; `None` where that is too much to be told.
    pub(super) fn differences(&self, other: &Self) -> Option<Differences> {
        let mut left = self.clone();
        for (cell, subtracted) in left.0.iter_mut().zip(&other.0) {
            cell.count = cell.count.wrapping_sub(subtracted.count);
            cell.marks ^= subtracted.marks;
        }
        let mut differences = Differences::default();
        // Each turn takes one out; more than cells are never told apart.
        for _ in 0..=left.0.len() {
            let single = left.0.iter().find(|cell| matches!(cell.count, 1 | u8::MAX) && Mark(cell.marks).is_one());
            let Some(Cell { count, marks }) = single.copied() else {
                let is_done = left.0.iter().all(|cell| *cell == Cell::default());
                return is_done.then_some(differences);
            };
            let side = if count == 1 { &mut differences.missing } else { &mut differences.added };
            side.insert(Mark(marks));
            left.add(Mark(marks), count.wrapping_neg());
        }
        None
    }

    /// As text: base64, always equally long.
    pub(super) fn text(&self) -> String {
        let bytes = self.0.iter().flat_map(|cell| std::iter::once(cell.count).chain(cell.marks.to_be_bytes()));
        match serde_json::to_value(ByteString(bytes.collect())) {
            Ok(Value::String(text)) => text,
            other => unreachable!("bytes are a text in JSON: {other:?}"),
        }
    }

    /// From [`Self::text`].
    pub(super) fn read(text: &str) -> Option<Self> {
        let ByteString(bytes) = serde_json::from_value(text.into()).ok()?;
        let (cells, rest) = bytes.as_chunks::<CELL>();
        let cells = cells.iter().map(|[count, marks @ ..]| Cell { count: *count, marks: u64::from_be_bytes(*marks) });
        let cells: [Cell; ROWS * COLUMNS] = cells.collect::<Vec<_>>().try_into().ok()?;
        rest.is_empty().then_some(Self(cells))
    }
}

/// The same on every host: 64-bit FNV-1a (RFC 9923), mixed, as FNV's upper bits say little of the last bytes.
pub(super) fn hash(one: &str, other: &str) -> u64 {
    let bytes = one.bytes().chain([0]).chain(other.bytes());
    mixed(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finalizer of MurmurHash3: every bit of the outcome depends on every bit.
fn mixed(hash: u64) -> u64 {
    let mixed = (hash ^ hash >> 33_u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33_u64).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33_u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(seed: &str, count: usize) -> BTreeSet<Mark> {
        (0..count).map(|number| Mark::new(hash(seed, &number.to_string()))).collect()
    }

    #[test]
    fn two_sketches_tell_what_each_set_has_alone() {
        let common = marks("common", 10_000);
        for differing in 0..=8 {
            let (missing, added) = (marks("missing", differing), marks("added", differing));
            let [one, other] = [&missing, &added].map(|alone| Sketch::of(common.iter().chain(alone)));
            let read = Sketch::read(&other.text()).expect("what was written");
            assert_eq!(read, other);
            assert_eq!(one.differences(&read), Some(Differences { missing, added }));
        }
    }

    #[test]
    fn some_differences_are_told_almost_always_and_too_many_never_wrongly() {
        let empty = Sketch::of([]);
        for (count, most) in [(16, 100), (24, 300)] {
            let untold = (0..10_000).filter(|round| {
                let missing = marks(&format!("{count} {round}"), count);
                let told = Sketch::of(&missing).differences(&empty);
                assert!(told.is_none() || told == Some(Differences { missing, ..Differences::default() }));
                told.is_none()
            });
            let untold = untold.count();
            assert!(untold <= most, "{untold} of 10,000 with {count}");
        }
        assert_eq!(Sketch::of(&marks("many", 1_000)).differences(&empty), None);
    }

    #[test]
    fn a_text_is_short_and_other_texts_are_none() {
        let text = Sketch::of(&marks("some", 5)).text();
        assert_eq!(text.len(), 576);
        for other in ["", "*", &text[4..], &format!("{text}AAAA")] {
            assert_eq!(Sketch::read(other), None, "{other}");
        }
    }
}
