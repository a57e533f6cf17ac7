//! From the validated policy to rows: which slots each subject may talk to, in which direction and port class.
//!
//! Only what this host needs is compiled. Slots go to the peers that the rules of local subjects name, so the tables grow
//! with the rules that matter here, and not with the cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bulkhead_ebpf::abi::{
    CLASS_ANY, DENY_ENTRIES, Denied, Direction, Identity, MAX_RULES, ROWS, RULE_NONE, RULE_REFS, Row, RowKey, RuleKey,
    RuleRef, SLOT_HOST, SLOT_REMOTE_HOST, SLOT_WORLD, SLOTS,
};

use super::model::{DenyEntry, Established, GroupId, Mode, Part, Peer, PolicySet, PortMatch, SecurityGroup};
use super::port_class::{PortClasses, TooManyClasses};

/// The groups of one workload, by ID.
pub type GroupSet = BTreeSet<GroupId>;

/// Where a rule or a deny entry stands: the key under which its hits are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RulePlace {
    /// A rule.
    Rule {
        /// The group whose rule it is.
        group: GroupId,
        /// The direction.
        direction: Direction,
        /// Index within the direction, from 0.
        index: usize,
    },
    /// A deny entry.
    Deny {
        /// Name of its guardrail.
        guardrail: String,
        /// Index within the guardrail, from 0.
        index: usize,
    },
}

/// Numbers for rules that stay the same for as long as the rule does, so that counters keep their meaning over reloads.
/// A number that its rule gave up is given again, its counter set to zero before.
#[derive(Clone, Debug, Default)]
pub struct RuleNumbers {
    numbers: HashMap<RulePlace, u32>,
    free: Vec<u32>,
    next: u32,
    fresh: Vec<u32>,
}

impl RuleNumbers {
    /// Numbers exactly these rules; the others give theirs up.
    fn assign(&mut self, places: &BTreeSet<RulePlace>) {
        let (free, numbers) = (&mut self.free, &mut self.numbers);
        let mut given_up = Vec::new();
        numbers.retain(|place, number| {
            let stays = places.contains(place);
            if !stays {
                given_up.push(*number);
            }
            stays
        });
        for place in places {
            if numbers.contains_key(place) {
                continue;
            }
            let number = free.pop().unwrap_or_else(|| {
                self.next += 1;
                self.next - 1
            });
            numbers.insert(place.clone(), number);
            self.fresh.push(number);
        }
        // Only the next change may give these again: packets that are under way still count on them.
        free.extend(given_up);
    }

    fn of(&self, place: &RulePlace) -> u32 {
        self.numbers.get(place).copied().unwrap_or(RULE_NONE)
    }

    /// Numbers given since this was last asked: their counters have to start at zero.
    pub fn take_fresh(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.fresh)
    }

    /// One more than the highest number that was ever given.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.next
    }

    /// Every number in use, with its rule.
    pub fn iter(&self) -> impl Iterator<Item = (&RulePlace, u32)> {
        self.numbers.iter().map(|(place, number)| (place, *number))
    }
}

/// A policy as the kernel's tables hold it. Keys of rows have copy 0; the writer sets the copy that it fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledPolicy {
    /// Who may be the peer, by subject, direction and class.
    pub rows: HashMap<RowKey, Row>,
    /// The rule behind each peer of each row.
    pub rules: HashMap<RuleKey, RuleRef>,
    /// Classes of ports.
    pub ports: PortClasses,
    /// The slot of each peer that a rule names.
    pub slots: BTreeMap<Peer, u16>,
    /// Number and flags of each local set of groups.
    pub subjects: HashMap<GroupSet, (u32, u16)>,
    /// The deny entries that name each peer.
    pub denied: BTreeMap<Peer, Denied>,
    /// The deny entries that anyone is in, because a side is absent; `None` where there are no guardrails.
    pub denied_anyone: Option<Denied>,
}

/// A policy that does not fit: it is refused whole, and the one in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// More peers than slots.
    #[error("the rules name {0} distinct peers (groups, CIDRs and entities), and {SLOTS} fit; merge CIDRs or groups")]
    Slots(usize),
    /// More rows than half the map.
    #[error("the policy needs {0} rows (subjects, directions and port classes), and {max} fit; use fewer distinct ports", max = ROWS / 2)]
    Rows(usize),
    /// More references than half the map.
    #[error("the policy needs {0} rule references, and {max} fit; use fewer peers or ports a rule", max = RULE_REFS / 2)]
    References(usize),
    /// More deny entries than bits.
    #[error("the guardrails have {0} deny entries, and {DENY_ENTRIES} fit; list more peers and ports in an entry")]
    DenyEntries(usize),
    /// More rules than counters.
    #[error("the policy has {0} rules on this host, and {MAX_RULES} fit; merge rules")]
    Rules(usize),
    /// Too many port classes.
    #[error(transparent)]
    Classes(#[from] TooManyClasses),
}

/// Compiles the rules of every group that one of `sets`, the group sets of local workloads, contains.
///
/// # Errors
/// [`TooLarge`], with the figures.
pub fn compile(
    policy: &PolicySet,
    sets: &BTreeSet<GroupSet>,
    numbers: &mut RuleNumbers,
) -> Result<CompiledPolicy, TooLarge> {
    let groups: HashMap<GroupId, &SecurityGroup> = policy.groups.iter().map(|group| (group.id, group)).collect();
    let active: BTreeSet<GroupId> = sets.iter().flatten().copied().filter(|id| groups.contains_key(id)).collect();
    let rules = || active.iter().flat_map(|id| rules_of(groups[id]));

    let denials = || policy.guardrails.iter().flat_map(|guardrail| &guardrail.entries);
    if denials().count() > DENY_ENTRIES {
        return Err(TooLarge::DenyEntries(denials().count()));
    }
    let places: BTreeSet<RulePlace> =
        rules().map(|(place, _)| place).chain(entries_of(policy).map(|(place, _)| place)).collect();
    if places.len() > MAX_RULES as usize {
        return Err(TooLarge::Rules(places.len()));
    }
    numbers.assign(&places);

    let of_some = |part: &Part<'_>| part.subjects.is_none_or(|group| active.contains(&group));
    let parts = || rules().flat_map(|(_, rule)| rule.parts()).filter(of_some);
    let slots = slots(parts().flat_map(|part| part.peers).copied())?;
    let of_rules = parts().filter_map(|part| part.ports);
    let of_denials = denials().filter_map(|entry| entry.ports.as_deref());
    let ports = PortClasses::new(of_rules.chain(of_denials).flatten().copied())?;

    let mut compiled = CompiledPolicy {
        rows: HashMap::new(),
        rules: HashMap::new(),
        ports,
        slots,
        subjects: HashMap::new(),
        denied: BTreeMap::new(),
        denied_anyone: None,
    };
    for (number, (place, entry)) in (0u16..).zip(entries_of(policy)) {
        add_entry(&mut compiled, number, entry, numbers.of(&place));
    }
    for set in sets.iter().filter(|set| !set.is_empty()) {
        let number = u32::try_from(compiled.subjects.len() + 1).unwrap_or(u32::MAX);
        let members: Vec<&SecurityGroup> = set.iter().filter_map(|id| groups.get(id).copied()).collect();
        compiled.subjects.insert(set.clone(), (number, flags(&members)));
        for group in members {
            add_group(&mut compiled, (number, set), group, numbers);
        }
    }
    spread_keep(&mut compiled.rules);
    if compiled.rows.len() > ROWS as usize / 2 {
        return Err(TooLarge::Rows(compiled.rows.len()));
    }
    if compiled.rules.len() > RULE_REFS as usize / 2 {
        return Err(TooLarge::References(compiled.rules.len()));
    }
    Ok(compiled)
}

fn add_group(
    compiled: &mut CompiledPolicy,
    (subject, set): (u32, &GroupSet),
    group: &SecurityGroup,
    numbers: &RuleNumbers,
) {
    let keep = if group.established == Established::Keep { RuleRef::KEEP } else { 0 };
    for (direction, place, rule) in rules_of_both(group) {
        let reference = RuleRef { rule: numbers.of(&place), flags: keep };
        for part in rule.parts().filter(|part| part.subjects.is_none_or(|group| set.contains(&group))) {
            for class in classes(&compiled.ports, part.ports) {
                let key = RowKey::new(0, subject, direction, class);
                let row = compiled.rows.entry(key).or_insert(Row::EMPTY);
                for peer in part.peers {
                    let slot = compiled.slots[peer];
                    row.allow(slot);
                    // Where several rules allow the same, the first one is named.
                    let named = compiled.rules.entry(RuleKey { row: key, slot, reserved: 0 }).or_insert(reference);
                    named.flags |= keep;
                }
            }
        }
    }
}

/// Sets the entry's bit for whoever is on its sides, and in the row of each of its classes.
fn add_entry(compiled: &mut CompiledPolicy, number: u16, entry: &DenyEntry, rule: u32) {
    let (word, bit) = (usize::from(number) / 64, 1 << (number % 64));
    let mut from = Denied::NOTHING;
    from.from[word] = bit;
    let mut to = Denied::NOTHING;
    to.to[word] = bit;
    let anyone = compiled.denied_anyone.get_or_insert(Denied::NOTHING);
    for (side, set) in [(&entry.from, from), (&entry.to, to)] {
        match side {
            None => anyone.add(&set),
            Some(peers) => {
                for peer in peers {
                    compiled.denied.entry(*peer).or_default().add(&set);
                }
            }
        }
    }
    for class in classes(&compiled.ports, entry.ports.as_deref()) {
        compiled.rows.entry(RowKey::deny(0, class)).or_insert(Row::EMPTY).allow(number);
    }
    let key = RuleKey { row: RowKey::deny(0, CLASS_ANY), slot: number, reserved: 0 };
    compiled.rules.insert(key, RuleRef { rule, flags: 0 });
}

/// The classes of `ports`, none of them twice.
fn classes(of: &PortClasses, ports: Option<&[PortMatch]>) -> BTreeSet<u16> {
    match ports {
        None => BTreeSet::from([CLASS_ANY]),
        Some(ports) => ports.iter().flat_map(|port| of.of(port)).copied().collect(),
    }
}

/// Where a rule for some ports and one for every port allow the same peer, the packet path looks at the former's reference
/// alone; one group that keeps is enough.
fn spread_keep(rules: &mut HashMap<RuleKey, RuleRef>) {
    let general = |key: &RuleKey| RuleKey { row: RowKey { class: CLASS_ANY, ..key.row }, ..*key };
    let keeping: Vec<RuleKey> = rules
        .keys()
        .filter(|key| rules.get(&general(key)).is_some_and(|reference| reference.flags & RuleRef::KEEP != 0))
        .copied()
        .collect();
    for key in keeping {
        if let Some(reference) = rules.get_mut(&key) {
            reference.flags |= RuleRef::KEEP;
        }
    }
}

/// Every rule of a group, with its place.
fn rules_of(group: &SecurityGroup) -> impl Iterator<Item = (RulePlace, &super::model::Rule)> {
    rules_of_both(group).map(|(_, place, rule)| (place, rule))
}

fn rules_of_both(group: &SecurityGroup) -> impl Iterator<Item = (Direction, RulePlace, &super::model::Rule)> {
    Direction::ALL.iter().flat_map(move |direction| {
        group.rules(*direction).map(move |(index, rule)| {
            (*direction, RulePlace::Rule { group: group.id, direction: *direction, index }, rule)
        })
    })
}

/// Every deny entry, with its place, in the order of their numbers.
fn entries_of(policy: &PolicySet) -> impl Iterator<Item = (RulePlace, &DenyEntry)> {
    policy.guardrails.iter().flat_map(|guardrail| {
        let place = |index| RulePlace::Deny { guardrail: guardrail.name.clone(), index };
        guardrail.entries.iter().enumerate().map(move |(index, entry)| (place(index), entry))
    })
}

/// Slots in a fixed order, the entities' own first, so that the same rules give the same table.
fn slots(peers: impl Iterator<Item = Peer>) -> Result<BTreeMap<Peer, u16>, TooLarge> {
    let mut peers: BTreeSet<Peer> = peers.collect();
    let mut slots: BTreeMap<Peer, u16> =
        [(Peer::World, SLOT_WORLD), (Peer::Host, SLOT_HOST), (Peer::RemoteHost, SLOT_REMOTE_HOST)]
            .into_iter()
            .filter(|(entity, _)| peers.remove(entity))
            .collect();
    let free = SLOT_REMOTE_HOST + 1..SLOTS as u16;
    if peers.len() > free.len() {
        return Err(TooLarge::Slots(peers.len() + usize::from(SLOT_REMOTE_HOST) + 1));
    }
    slots.extend(peers.into_iter().zip(free));
    Ok(slots)
}

/// What the groups of one workload together say of each direction: a denial is only audited where every group that governs
/// the direction is in audit.
fn flags(groups: &[&SecurityGroup]) -> u16 {
    if !groups.iter().any(|group| group.governs()) {
        return 0;
    }
    let mut flags = Identity::GOVERNED;
    let mut ingress = groups.iter().filter(|group| group.ingress.is_some()).peekable();
    if ingress.peek().is_none() {
        flags |= Identity::OPEN_INGRESS;
    } else if ingress.all(|group| group.mode == Mode::Audit) {
        flags |= Identity::AUDIT_INGRESS;
    }
    if groups.iter().any(|group| group.established == Established::Keep) {
        flags |= Identity::KEEPS;
    }
    let mut egress = groups.iter().filter(|group| group.egress.is_some()).peekable();
    if egress.peek().is_some() {
        flags |= Identity::RESTRICTED_EGRESS;
        if egress.all(|group| group.mode == Mode::Audit) {
            flags |= Identity::AUDIT_EGRESS;
        }
    }
    flags
}

#[cfg(test)]
mod tests;
