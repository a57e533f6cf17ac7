//! What the numbers in the kernel's records stand for, as of the policy and the workloads in force.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Controller;
use crate::desired::State;
use crate::flow::{Named, Names};
use crate::policy::compile::{GroupSet, RulePlace};
use crate::view::FlowRule;
use crate::workload::registry::Touched;

/// Workloads that are gone keep their names until there are so many of them, and more than others.
const FORMER: usize = 8_192;

impl Controller {
    /// The names of everything that has a number.
    pub(super) fn names(&self, state: &State) -> Names {
        let groups: BTreeMap<_, _> = self.policy.groups.iter().map(|group| (group.id, group)).collect();
        let guardrails: BTreeMap<_, _> = self.policy.guardrails.iter().map(|rail| (&rail.name, rail)).collect();
        let mut meanings = HashMap::new();
        let rules = self.numbers.rules.iter().filter_map(|(place, number)| {
            let (name, direction, index, description, meaning) = match place {
                RulePlace::Rule { group, direction, index } => {
                    let group = groups.get(group)?;
                    let (_, rule) = group.rules(*direction).nth(*index)?;
                    let meaning = hash(&(&rule.peers, &rule.ports, &rule.named));
                    (&group.name, direction.as_str(), *index, &rule.description, meaning)
                }
                RulePlace::Deny { guardrail, index } => {
                    let entry = guardrails.get(guardrail)?.entries.get(*index)?;
                    let meaning = hash(&(&entry.from, &entry.to, &entry.ports));
                    (guardrail, FlowRule::DENY, *index, &entry.description, meaning)
                }
            };
            let (group, direction) = (name.clone(), direction.to_owned());
            meanings.insert(number, meaning);
            Some((number, FlowRule { group, direction, index, description: description.clone() }))
        });
        let rules = rules.collect();
        let names_of =
            |ids: &GroupSet| ids.iter().filter_map(|id| groups.get(id)).map(|group| group.name.clone()).collect();
        let workloads = state.workloads.values().map(|(workload, member)| {
            let (name, labels) = (workload.name.clone(), workload.labels.clone());
            (member.number, Named { name, labels, groups: names_of(&member.groups) })
        });
        Names { workloads: workloads.collect(), rules, meanings }
    }

    /// The names of what was touched. A workload that is gone keeps its name for a while: events of its last packets may still
    /// come.
    pub(super) fn rename(&self, state: &State, touched: &Touched, names: &mut Names) {
        for (workload, member) in touched.workloads.iter().filter_map(|name| state.workloads.get(name.as_str())) {
            let groups = self.policy.groups.iter().filter(|group| member.groups.contains(&group.id));
            let groups = groups.map(|group| group.name.clone()).collect();
            let (name, labels) = (workload.name.clone(), workload.labels.clone());
            names.workloads.insert(member.number, Named { name, labels, groups });
        }
        if names.workloads.len() > FORMER + 2 * state.workloads.len() {
            names.workloads.retain(|number, _| state.is_somebody(*number));
        }
    }
}

/// Another agent of the same build finds the same; of another build perhaps not, and then watches from anew.
fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
