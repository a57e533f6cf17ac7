//! Named ports: what a workload calls a port of its own, as a label, and the numbers that such a name is known to have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Labels;
use super::registry::NAMESPACE;

/// Begins the key of a label that gives a port's number; protocol, dot and name follow.
const PREFIX: &str = "port.";
/// Protocols that have ports, as policies and keys of labels spell them. Numbers: IANA's registry of protocol numbers.
pub const PROTOCOLS: [(&str, u8); 3] = [("tcp", 6), ("udp", 17), ("sctp", 132)];
/// As many numbers of one name are used at most: each takes a place in every policy that uses the name.
pub const MAX_NUMBERS: usize = 64;
/// As many numbers that nobody has any more are remembered.
const MAX_IDLE: usize = 1_024;

/// The name of a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortName {
    /// IP protocol number: TCP (6), UDP (17) or SCTP (132).
    pub protocol: u8,
    /// The name itself.
    pub name: String,
}

impl PortName {
    /// The key of the label that gives its number.
    #[must_use]
    pub fn key(&self) -> String {
        let protocol = PROTOCOLS.iter().find(|(_, number)| *number == self.protocol).map_or("", |(name, _)| name);
        format!("{PREFIX}{protocol}.{}", self.name)
    }

    fn of_key(key: &str) -> Option<Self> {
        let (protocol, name) = key.strip_prefix(PREFIX)?.split_once('.')?;
        let (_, protocol) = *PROTOCOLS.iter().find(|(of, _)| *of == protocol)?;
        Some(Self { protocol, name: name.to_owned() })
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key())
    }
}

/// Whether a label of this key gives a port's number.
#[must_use]
pub fn is_port(key: &str) -> bool {
    PortName::of_key(key).is_some()
}

/// The ports that labels name. A value that is no port as it is usually written names none.
pub fn ports(labels: &Labels) -> impl Iterator<Item = (PortName, u16)> {
    let of_ports = labels.range(PREFIX.to_owned()..).take_while(|(key, _)| key.starts_with(PREFIX));
    of_ports.filter_map(|(key, value)| {
        let number: u16 = value.parse().ok().filter(|number| *number != 0)?;
        (number.to_string() == *value).then_some((PortName::of_key(key)?, number))
    })
}

/// The numbers that each name has, by namespace: whoever may name ports in one must not be able to fill up another's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortNumbers(BTreeMap<PortName, BTreeMap<String, BTreeSet<u16>>>);

impl PortNumbers {
    /// Adds what a workload's labels name.
    pub fn add(&mut self, labels: &Labels) {
        let namespace = labels.get(NAMESPACE).map_or("", String::as_str);
        for (name, number) in ports(labels) {
            self.0.entry(name).or_default().entry(namespace.to_owned()).or_default().insert(number);
        }
    }

    /// The numbers of a name in these namespaces, or in all, lowest first: [`MAX_NUMBERS`] at most, and whether there are more.
    #[must_use]
    pub fn of(&self, name: &PortName, namespaces: Option<&[String]>) -> (Vec<u16>, bool) {
        let by_namespace = self.0.get(name).into_iter().flatten();
        let meant = by_namespace.filter(|(namespace, _)| namespaces.is_none_or(|those| those.contains(namespace)));
        let all: BTreeSet<u16> = meant.flat_map(|(_, numbers)| numbers).copied().collect();
        (all.iter().take(MAX_NUMBERS).copied().collect(), all.len() > MAX_NUMBERS)
    }

    /// Whether a name has other numbers here than there.
    #[must_use]
    pub fn differ_in(&self, other: &Self, name: &PortName) -> bool {
        self.0.get(name) != other.0.get(name)
    }
}

/// How many workloads have each number of each name. A number that the last one gave up stays for a while, so that a pod which
/// is replaced does not have every policy judged anew, twice.
#[derive(Debug, Default)]
pub(super) struct CountedPorts {
    counts: BTreeMap<PortName, BTreeMap<String, BTreeMap<u16, usize>>>,
    idle: usize,
    has_changed: bool,
}

impl CountedPorts {
    /// Counts what one workload's labels name.
    pub(super) fn count(&mut self, namespace: &str, labels: &Labels) {
        for (name, number) in ports(labels) {
            let numbers = self.counts.entry(name).or_default().entry(namespace.to_owned()).or_default();
            match numbers.get_mut(&number) {
                Some(count) => {
                    self.idle -= usize::from(*count == 0);
                    *count += 1;
                }
                None => {
                    numbers.insert(number, 1);
                    self.has_changed = true;
                }
            }
        }
    }

    /// Counts one workload less.
    pub(super) fn discount(&mut self, namespace: &str, labels: &Labels) {
        for (name, number) in ports(labels) {
            let numbers = self.counts.get_mut(&name).and_then(|of| of.get_mut(namespace));
            if let Some(count) = numbers.and_then(|numbers| numbers.get_mut(&number)) {
                *count -= 1;
                self.idle += usize::from(*count == 0);
            }
        }
        if self.idle > MAX_IDLE {
            self.forget_idle();
        }
    }

    /// Every number, but of names that have too many those alone that somebody has.
    pub(super) fn numbers(&self) -> PortNumbers {
        let used = |numbers: &BTreeMap<u16, usize>| {
            let all = numbers.len() <= MAX_NUMBERS;
            numbers.iter().filter(|(_, count)| all || **count > 0).map(|(number, _)| *number).collect()
        };
        let of_name = |by_namespace: &BTreeMap<String, BTreeMap<u16, usize>>| {
            by_namespace.iter().map(|(namespace, numbers)| (namespace.clone(), used(numbers))).collect()
        };
        PortNumbers(self.counts.iter().map(|(name, by_namespace)| (name.clone(), of_name(by_namespace))).collect())
    }

    /// Whether numbers came or went since this was last asked.
    pub(super) const fn take_change(&mut self) -> bool {
        std::mem::replace(&mut self.has_changed, false)
    }

    fn forget_idle(&mut self) {
        self.counts.retain(|_, by_namespace| {
            by_namespace.retain(|_, numbers| {
                numbers.retain(|_, count| *count > 0);
                !numbers.is_empty()
            });
            !by_namespace.is_empty()
        });
        self.idle = 0;
        self.has_changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn tcp(name: &str) -> PortName {
        PortName { protocol: 6, name: name.to_owned() }
    }

    #[test]
    fn labels_name_ports_where_key_and_value_are_of_that_form() {
        let all = labels(&[
            ("port.tcp.http", "8080"),
            ("port.sctp.a.b", "1"),
            ("port.udp.zero", "0"),
            ("port.udp.padded", "080"),
            ("port.udp.large", "65536"),
            ("port.icmp.http", "80"),
            ("port.tcp", "80"),
            ("ports", "80"),
        ]);
        let found: Vec<_> = ports(&all).collect();
        assert_eq!(found, [(PortName { protocol: 132, name: "a.b".to_owned() }, 1), (tcp("http"), 8080)]);
        assert_eq!(tcp("http").key(), "port.tcp.http");
    }

    #[test]
    fn a_name_has_numbers_of_its_own_in_each_namespace_and_no_more_than_are_used() {
        let mut numbers = PortNumbers::default();
        for number in 1..=100 {
            numbers.add(&labels(&[("namespace", "crowd"), ("port.tcp.http", &number.to_string())]));
        }
        numbers.add(&labels(&[("namespace", "shop"), ("port.tcp.http", "8080"), ("port.udp.http", "53")]));
        let of = |namespaces: &[&str]| {
            let namespaces: Vec<String> = namespaces.iter().map(|name| (*name).to_owned()).collect();
            numbers.of(&tcp("http"), Some(&namespaces))
        };
        assert_eq!(of(&["shop"]), (vec![8080], false));
        assert_eq!(of(&["other"]), (vec![], false));
        assert_eq!(of(&["crowd", "shop"]), ((1..=64).collect(), true));
        assert_eq!(numbers.of(&tcp("http"), None), ((1..=64).collect(), true));
    }

    #[test]
    fn a_number_that_nobody_has_any_more_stays_until_there_are_too_many() {
        let mut counted = CountedPorts::default();
        let one = labels(&[("port.tcp.http", "80")]);
        counted.count("shop", &one);
        assert!(counted.take_change());
        counted.count("shop", &one);
        counted.discount("shop", &one);
        counted.discount("shop", &one);
        counted.count("shop", &one);
        assert!(!counted.take_change(), "it was there all the time");
        for number in 1_000..=3_000 {
            let other = labels(&[("port.tcp.other", &number.to_string())]);
            counted.count("shop", &other);
            counted.discount("shop", &other);
        }
        assert!(counted.idle <= MAX_IDLE && counted.take_change());
        let numbers = counted.numbers();
        assert_eq!(numbers.of(&tcp("http"), None), (vec![80], false));
        assert_eq!(numbers.of(&tcp("other"), None), (vec![], false), "those that are too many are in use, or not told");
    }
}
