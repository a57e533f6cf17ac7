//! IDs of groups that give none.

use std::collections::BTreeSet;

use crate::policy::model::GroupId;

/// The largest ID that a document may give; derived ones are above, so the two never meet.
pub(super) const MAX_GIVEN: i64 = 0x7fff_ffff;

/// The ID of a group that gives none: the same name has the same ID on every host and for ever.
///
/// The 64-bit FNV-1a hash of the name's bytes (RFC 9923), folded to 31 bits by exclusive or of the bits above the 31st into
/// the lower ones (the RFC's way to other sizes), plus 2^31.
pub(super) fn derived(name: &str) -> GroupId {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = name.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let folded = (hash >> 31 ^ hash) & 0x7fff_ffff;
    GroupId(u32::try_from(folded).expect("31 bits") | 0x8000_0000)
}

/// The ID of a group that nobody names by it: derived from its name, or where that is taken from the name and a number after it.
pub(in crate::policy) fn free(name: &str, taken: &mut BTreeSet<GroupId>) -> GroupId {
    let names = (2..).map(|number: u64| derived(&format!("{name} {number}")));
    let mut ids = [derived(name)].into_iter().chain(names);
    ids.find(|id| taken.insert(*id)).expect("fewer groups than numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_stay_what_they_are() {
        // FNV-1a 64 of "a" is 0xaf63dc4c8601ec8c and of "foobar" 0x85944171f73967e8, as RFC 9923's test vectors have it.
        let fold = |hash: u64| GroupId(((hash >> 31 ^ hash) & 0x7fff_ffff) as u32 | 0x8000_0000);
        assert_eq!(derived("a"), fold(0xaf63_dc4c_8601_ec8c));
        assert_eq!(derived("foobar"), fold(0x8594_4171_f739_67e8));
    }

    #[test]
    fn a_derived_id_that_is_taken_makes_way_for_another() {
        let mut taken = BTreeSet::from([derived("pods:a")]);
        let ids: BTreeSet<GroupId> = (0..3).map(|_| free("pods:a", &mut taken)).collect();
        assert_eq!((ids.len(), taken.len()), (3, 4));
        assert!(ids.iter().all(|id| i64::from(id.0) > MAX_GIVEN));
        assert_eq!(free("pods:b", &mut taken), derived("pods:b"));
    }

    #[test]
    fn derived_ids_are_above_given_ones() {
        for name in ["", "web", "api", "a-very-long-name-that-goes-on"] {
            assert!(i64::from(derived(name).0) > MAX_GIVEN, "{name}");
        }
    }
}
