//! Port ranges to equivalence classes: ports that no rule tells apart share a class, so no range is ever expanded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use bulkhead_ebpf::abi::{CLASS_ANY, PORT_INDEXES, PortIndex};

use super::model::PortMatch;

/// The classes of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortClasses {
    /// The class of each [`PortIndex`], as runs: the first index of a run, and its class. Indexes before the first run are
    /// in [`CLASS_ANY`].
    runs: Vec<(u32, u16)>,
    classes: HashMap<PortMatch, Vec<u16>>,
    count: usize,
}

/// A policy with more classes than a class number can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rules' ports fall into {0} classes, and at most 65535 fit; use fewer distinct ports and ranges")]
pub struct TooManyClasses(usize);

impl PortClasses {
    /// Cuts all ports into classes by a sweep over the ranges' bounds.
    ///
    /// # Errors
    /// [`TooManyClasses`].
    pub fn new(matches: impl IntoIterator<Item = PortMatch>) -> Result<Self, TooManyClasses> {
        let matches: BTreeSet<PortMatch> = matches.into_iter().collect();
        let matches: Vec<PortMatch> = matches.into_iter().collect();
        // At each bound: which ranges begin (true) or have ended (false).
        let mut bounds: BTreeMap<u32, Vec<(usize, bool)>> = BTreeMap::new();
        for (number, port) in matches.iter().enumerate() {
            let range = indexes(*port);
            bounds.entry(*range.start()).or_default().push((number, true));
            bounds.entry(range.end() + 1).or_default().push((number, false));
        }
        let mut open = BTreeSet::new();
        let mut numbers: HashMap<Vec<usize>, u16> = HashMap::new();
        let mut classes = vec![Vec::new(); matches.len()];
        let mut runs = Vec::new();
        for (bound, changes) in bounds {
            for (number, begins) in changes {
                if begins {
                    open.insert(number);
                } else {
                    open.remove(&number);
                }
            }
            if bound >= PORT_INDEXES {
                continue;
            }
            let set: Vec<usize> = open.iter().copied().collect();
            let class = if set.is_empty() {
                CLASS_ANY
            } else if let Some(class) = numbers.get(&set) {
                *class
            } else {
                let class = u16::try_from(numbers.len() + 1).map_err(|_| TooManyClasses(numbers.len() + 1))?;
                for number in &set {
                    classes[*number].push(class);
                }
                numbers.insert(set, class);
                class
            };
            runs.push((bound, class));
        }
        let count = numbers.len();
        Ok(Self { runs, classes: matches.into_iter().zip(classes).collect(), count })
    }

    /// The classes that a rule's port entry covers.
    #[must_use]
    pub fn of(&self, port: &PortMatch) -> &[u16] {
        self.classes.get(port).map_or(&[], Vec::as_slice)
    }

    /// The class of one index.
    #[must_use]
    pub fn class(&self, index: PortIndex) -> u16 {
        match self.runs.partition_point(|(start, _)| *start <= index.0) {
            0 => CLASS_ANY,
            after => self.runs[after - 1].1,
        }
    }

    /// Classes in use, [`CLASS_ANY`] aside.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The whole table, as the kernel's map holds it.
    #[must_use]
    pub fn table(&self) -> Vec<u16> {
        let mut table = vec![CLASS_ANY; PORT_INDEXES as usize];
        let ends = self.runs.iter().skip(1).map(|(start, _)| *start).chain([PORT_INDEXES]);
        for ((start, class), end) in self.runs.iter().zip(ends) {
            table[*start as usize..end as usize].fill(*class);
        }
        table
    }
}

/// The indexes that an entry covers; always one range.
fn indexes(port: PortMatch) -> RangeInclusive<u32> {
    match port {
        PortMatch::Ports { protocol, first, last } => {
            PortIndex::new(protocol, first).0..=PortIndex::new(protocol, last).0
        }
        PortMatch::Icmp { protocol, kind: None, .. } => {
            PortIndex::new(protocol, 0).0..=PortIndex::new(protocol, u16::MAX).0
        }
        PortMatch::Icmp { protocol, kind: Some(kind), code: None } => {
            let first = u16::from(kind) << 8;
            PortIndex::new(protocol, first).0..=PortIndex::new(protocol, first | 0xff).0
        }
        PortMatch::Icmp { protocol, kind: Some(kind), code: Some(code) } => {
            let index = PortIndex::new(protocol, u16::from(kind) << 8 | u16::from(code)).0;
            index..=index
        }
        // A protocol with ports, named by its number, is all of its ports.
        PortMatch::Protocol(protocol) => PortIndex::new(protocol, 0).0..=PortIndex::new(protocol, u16::MAX).0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tcp(first: u16, last: u16) -> PortMatch {
        PortMatch::Ports { protocol: 6, first, last }
    }

    #[test]
    fn every_port_is_in_exactly_the_classes_of_the_entries_that_cover_it() {
        let echo = PortMatch::Icmp { protocol: 1, kind: Some(8), code: None };
        let entries = [
            tcp(80, 80),
            tcp(0, 1023),
            tcp(443, 8443),
            tcp(65_535, 65_535),
            PortMatch::Ports { protocol: 17, first: 53, last: 53 },
            echo,
            PortMatch::Icmp { protocol: 58, kind: None, code: None },
            PortMatch::Protocol(47),
            PortMatch::Protocol(255),
        ];
        let classes = PortClasses::new(entries).expect("few classes");
        let table = classes.table();
        for index in 0..PORT_INDEXES {
            let class = table[index as usize];
            assert_eq!(class, classes.class(PortIndex(index)));
            for entry in entries {
                let covers = indexes(entry).contains(&index);
                assert_eq!(classes.of(&entry).contains(&class), covers, "{entry:?} at {index}");
            }
        }
    }

    #[test]
    fn classes_grow_with_entries_and_not_with_ports() {
        let classes = PortClasses::new([tcp(1024, 65_535), tcp(1024, 65_535), tcp(5432, 5432)]).expect("few classes");
        assert_eq!(classes.count(), 2);
        assert_eq!(PortClasses::new([]).expect("none").table(), vec![CLASS_ANY; PORT_INDEXES as usize]);
    }
}
