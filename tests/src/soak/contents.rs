//! What the kernel's maps hold, entry by entry, in words that do not depend on the numbers that an agent happened to give.
//!
//! Read from the pins, without the agent's own code: two agents that were told the same must leave the same, whatever happened
//! to the one of them before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData};
use bulkhead_ebpf::abi::{
    Address, Control, IDENTITY_WORLD, Identity, IdentityKey, LAYOUT, Party, Place, Row, RowKey, RuleKey, RuleRef,
};

use crate::lab::Site;

/// Every entry that decides about packets, a line each.
///
/// Workloads go by the hash of their name that the entries carry, identities by what they mean. Of the two copies of the policy it
/// is the one in force that counts.
///
/// # Errors
/// A map can't be read.
pub fn contents(site: &Site) -> Result<BTreeSet<String>> {
    let pins = Pins(site.bpffs().join("bulkhead").join(format!("v{LAYOUT}")).join("maps"));
    let control: Array<_, Control> = Array::try_from(Map::Array(pins.open("CONTROL")?))?;
    let copy = control.get(&0, 0)?.copy();
    let identities: Array<_, Identity> = Array::try_from(Map::Array(pins.open("IDENTITIES")?))?;
    let meaning = |identity: u32| -> Result<String> {
        let meaning = identities.get(&IdentityKey { identity, copy }.index(), 0)?;
        Ok(format!("{:#x} with {} peers", meaning.flags, meaning.count))
    };
    let mut lines = BTreeSet::new();
    let who =
        |workload: u32, flags: u32| if workload == 0 { format!("{flags:#x}") } else { format!("{flags:#x}, named") };
    for (address, party) in pins.hash::<Address, Party>("ADDRESSES")? {
        // It says only that somebody had the address until lately.
        if party.flags & Party::TOMBSTONE == 0 {
            let address = IpAddr::from(address);
            lines.insert(format!(
                "address {address}: {}, {}",
                who(party.workload, party.flags),
                meaning(party.identity)?
            ));
        }
    }
    let cidrs: LpmTrie<_, Address, Party> = LpmTrie::try_from(Map::LpmTrie(pins.open("CIDRS")?))?;
    for entry in cidrs.iter() {
        let (key, party): (Key<Address>, Party) = entry?;
        let line = format!("cidr {}/{}: {}", IpAddr::from(key.data()), key.prefix_len(), meaning(party.identity)?);
        lines.insert(line);
    }
    for (cgroup, place) in pins.hash::<u64, Place>("CGROUPS")? {
        lines.insert(format!("cgroup {cgroup}: {}, {}", who(place.workload, place.flags), meaning(place.identity)?));
    }
    for (interface, place) in pins.hash::<u32, Place>("INTERFACES")? {
        lines.insert(format!(
            "interface {interface}: {}, {}",
            who(place.workload, place.flags),
            meaning(place.identity)?
        ));
    }
    let mut rows: BTreeMap<(u8, u32), u32> = BTreeMap::new();
    for (key, row) in pins.hash::<RowKey, Row>("ROWS")? {
        if u32::from(key.copy) == copy {
            let peers = row.bits.iter().map(|word| word.count_ones()).sum();
            *rows.entry((key.direction, peers)).or_default() += 1;
        }
    }
    lines.extend(
        rows.into_iter().map(|((direction, peers), count)| format!("rows: {count} of {direction} with {peers} bits")),
    );
    let mut rules: BTreeMap<u32, u32> = BTreeMap::new();
    for (key, rule) in pins.hash::<RuleKey, RuleRef>("RULE_REFS")? {
        if u32::from(key.row.copy) == copy {
            *rules.entry(rule.rule).or_default() += 1;
        }
    }
    lines.insert(format!("rules: {:?}", rules.into_values().collect::<Vec<_>>()));
    let world = meaning(IDENTITY_WORLD)?;
    lines.insert(format!("world: {world}"));
    Ok(lines)
}

/// What differs between two readings, each line with a sign.
#[must_use]
pub fn differences(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    let lost = before.difference(after).map(|line| format!("- {line}"));
    lost.chain(after.difference(before).map(|line| format!("+ {line}"))).collect()
}

/// The directory of the maps' pins.
struct Pins(PathBuf);

impl Pins {
    fn open(&self, map: &str) -> Result<MapData> {
        let path: &Path = &self.0.join(map);
        MapData::from_pin(path).with_context(|| format!("cannot open {}", path.display()))
    }

    fn hash<K: Pod, V: Pod>(&self, map: &str) -> Result<Vec<(K, V)>> {
        let map: HashMap<_, K, V> = HashMap::try_from(Map::HashMap(self.open(map)?))?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }
}
