//! The longest prefix over an address, in tables that are hashes.

use std::collections::{BTreeSet, HashMap};

use bulkhead_ebpf::abi::{Address, Party};

use crate::kernel::mirror::PrefixKey;

/// Prefix lengths in use, the longest first. A look-up tries each once, so it does not grow with the number of prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lengths(Vec<u32>);

impl Lengths {
    /// The lengths of these prefixes.
    #[must_use]
    pub fn of(cidrs: &HashMap<PrefixKey, Party>) -> Self {
        let lengths: BTreeSet<u32> = cidrs.keys().map(|key| key.bits).collect();
        Self(lengths.into_iter().rev().collect())
    }

    /// Who is behind the longest of the prefixes that these lengths are of, and that covers `prefix`, itself included.
    #[must_use]
    pub fn covering(&self, cidrs: &HashMap<PrefixKey, Party>, prefix: PrefixKey) -> Option<Party> {
        let lengths = self.0.iter().filter(|length| **length <= prefix.bits);
        let mut keys = lengths.map(|length| PrefixKey { bits: *length, network: network(&prefix.network, *length) });
        keys.find_map(|key| cidrs.get(&key)).copied()
    }

    /// The same without `prefix` itself.
    #[must_use]
    pub fn above(&self, cidrs: &HashMap<PrefixKey, Party>, prefix: PrefixKey) -> Option<Party> {
        let bits = prefix.bits.checked_sub(1)?;
        self.covering(cidrs, PrefixKey { bits, ..prefix })
    }
}

/// The first `bits` of an address.
fn network(address: &Address, bits: u32) -> Address {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Address::v6((u128::from_be_bytes(address.octets()) & mask).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_above_it_the_next() {
        let key = |bits: u32, octets| PrefixKey { bits: 96 + bits, network: Address::v4(octets) };
        let party = |identity| Party { identity, ..Party::WORLD };
        let cidrs = HashMap::from([(key(8, [10, 0, 0, 0]), party(1)), (key(24, [10, 1, 2, 0]), party(2))]);
        let lengths = Lengths::of(&cidrs);
        let covering = |bits, octets| lengths.covering(&cidrs, key(bits, octets)).map(|party| party.identity);
        assert_eq!(covering(32, [10, 1, 2, 3]), Some(2));
        assert_eq!(covering(32, [10, 1, 3, 3]), Some(1));
        assert_eq!(covering(32, [11, 1, 3, 3]), None);
        assert_eq!(covering(24, [10, 1, 2, 0]), Some(2));
        let above = |bits, octets| lengths.above(&cidrs, key(bits, octets)).map(|party| party.identity);
        assert_eq!(above(24, [10, 1, 2, 0]), Some(1));
        assert_eq!(above(8, [10, 0, 0, 0]), None);
    }

    #[test]
    fn a_network_is_the_first_bits() {
        let address = Address::v4([10, 1, 2, 3]);
        assert_eq!(network(&address, 128), address);
        assert_eq!(network(&address, 96 + 8), Address::v4([10, 0, 0, 0]));
        assert_eq!(network(&address, 96), Address::v4([0; 4]));
        assert_eq!(network(&address, 0), Address::v6([0; 16]));
    }
}
