//! Numbers that outlive a single computation: of workloads, rules and identities.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bulkhead_ebpf::abi::{Address, MAX_WORKLOAD, Party};

use super::Held;
use super::tombstones::Tombstones;
use crate::policy::compile::{CompiledPolicy, GroupSet, RuleNumbers, TooLarge, compile};
use crate::policy::model::PolicySet;
use crate::workload::Workload;
use crate::workload::identity::Identities;

/// Numbers that outlive a single computation.
#[derive(Debug, Default)]
pub struct Numbers {
    workloads: HashMap<Arc<str>, u32>,
    last_workload: u32,
    /// Numbers of rules.
    pub rules: RuleNumbers,
    pub(super) identities: Identities,
    /// Addresses that have left their workload.
    pub tombstones: Tombstones,
    compiled: Option<Compiled>,
    /// The tables may hold numbers that an earlier agent gave.
    may_adopt: bool,
}

/// Rows, and what they were compiled from.
#[derive(Debug)]
struct Compiled {
    policy: Arc<PolicySet>,
    sets: BTreeSet<GroupSet>,
    rows: Arc<CompiledPolicy>,
}

impl Numbers {
    /// Numbers of workloads above those that an earlier agent left in the kernel, and other ones of identities: nothing there
    /// may be taken for something else.
    #[must_use]
    pub fn above(last_workload: u32, identities: impl IntoIterator<Item = u32>, tombstones: Tombstones) -> Self {
        let identities = Identities::beside(identities);
        Self { last_workload, identities, tombstones, may_adopt: true, ..Self::default() }
    }

    /// Once, the first time: workloads keep the numbers that an earlier agent gave them, so that to the packet path nothing
    /// has moved. A workload is known again by its name where it was: one number and another's place prove nothing.
    pub(super) fn adopt(&mut self, workloads: &[Workload], held: &impl Held) {
        if !std::mem::take(&mut self.may_adopt) {
            return;
        }
        let mut taken = HashSet::new();
        for workload in workloads {
            let cgroup = workload.cgroup.as_ref().and_then(|cgroup| held.cgroup(cgroup.id));
            let interface = workload.interface.as_ref().and_then(|interface| held.interface(interface.index));
            let places = [cgroup, interface].into_iter().flatten().map(|place| (place.workload, place.flags));
            let parties = workload.addresses.iter().filter_map(|address| held.address(&Address::from(*address)));
            let mark = mark(&workload.name);
            let number = places
                .chain(parties.map(|party| (party.workload, party.flags)))
                .find(|(number, flags)| *number != 0 && flags & Party::NAME == mark && !taken.contains(number));
            if let Some((number, _)) = number {
                taken.insert(number);
                self.workloads.insert(workload.name.clone(), number);
            }
        }
    }

    /// The number of a workload; never 0, never another's, not even a former one's.
    pub fn workload(&mut self, name: &Arc<str>) -> u32 {
        if let Some(number) = self.workloads.get(name) {
            return *number;
        }
        self.last_workload = if self.last_workload < MAX_WORKLOAD { self.last_workload + 1 } else { 1 };
        self.workloads.insert(name.clone(), self.last_workload);
        self.last_workload
    }

    /// The rows for these local sets of groups, whether they are new, and what deserves attention. The same rows keep the
    /// same allocation, so that "nothing changed" is a comparison of pointers from here on.
    pub(super) fn compile(
        &mut self,
        policy: &Arc<PolicySet>,
        policy_is_new: bool,
        sets: BTreeSet<GroupSet>,
    ) -> Result<(Arc<CompiledPolicy>, bool, Vec<String>), TooLarge> {
        if let Some(before) = &self.compiled
            && Arc::ptr_eq(&before.policy, policy)
            && before.sets == sets
        {
            return Ok((before.rows.clone(), false, Vec::new()));
        }
        let rules = self.rules.clone();
        match (compile(policy, &sets, &mut self.rules), &self.compiled) {
            (Ok(rows), before) => {
                let same = before.as_ref().filter(|before| *before.rows == rows).map(|before| before.rows.clone());
                let flips = same.is_none();
                let rows = same.unwrap_or_else(|| Arc::new(rows));
                self.compiled = Some(Compiled { policy: policy.clone(), sets, rows: rows.clone() });
                Ok((rows, flips, Vec::new()))
            }
            (Err(problem), Some(before)) if !policy_is_new => {
                self.rules = rules;
                let warning =
                    format!("workloads in a set of groups that is new on this host are denied altogether: {problem}");
                Ok((before.rows.clone(), false, vec![warning]))
            }
            (Err(problem), _) => {
                self.rules = rules;
                Err(problem)
            }
        }
    }

    /// Forgets the number of a workload that is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.workloads.remove(name);
    }

    /// Forgets the numbers of workloads that are gone.
    pub(super) fn retain(&mut self, workloads: &[Workload]) {
        if self.workloads.len() > workloads.len() {
            let names: HashSet<&str> = workloads.iter().map(|workload| &*workload.name).collect();
            self.workloads.retain(|name, _| names.contains(&**name));
        }
    }
}

/// What the tables say of a workload's name ([`Party::NAME`]): a hash of 24 bits that every build computes alike (FNV-1a,
/// draft-eastlake-fnv).
pub(super) fn mark(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash & Party::NAME
}
