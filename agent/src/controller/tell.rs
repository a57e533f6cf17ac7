//! What the controller has written to the audit trail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Controller;
use crate::desired::{Member, State};
use crate::policy::model::{Origin, PolicySet};
use crate::trail::{Happening, Members, Membership, Said, hash_of_policy};
use crate::workload::Workload;
use crate::workload::registry::Touched;

/// So many files are named as the cause of a change.
const NAMED: usize = 20;

/// Names of workloads' groups, and who told of them.
pub(super) type Groups = BTreeMap<Arc<str>, (Vec<String>, &'static str)>;

impl Controller {
    /// Has something written.
    pub fn trail_said(&self, kind: &'static str, what: &'static str, cause: String) {
        let Some(trail) = &self.audience.trail else { return };
        let generation = Some(self.kernel.tables.generation());
        trail.tell(Happening::Said(Said { kind, what, cause, generation, ..Said::default() }));
    }

    /// A policy took force, in place of `before`.
    pub(super) fn trail_policy(&self, before: Option<&PolicySet>) {
        let Some(trail) = &self.audience.trail else { return };
        let cause = match before {
            None => format!("the agent started; {}", named(&changed(&PolicySet::default(), &self.policy))),
            Some(before) => format!("changed: {}", named(&changed(before, &self.policy))),
        };
        trail.tell(Happening::Said(Said {
            kind: "policy",
            what: "in_force",
            cause,
            old: before.map(hash_of_policy),
            new: Some(hash_of_policy(&self.policy)),
            generation: Some(self.kernel.tables.generation()),
        }));
    }

    /// A policy was refused.
    pub(super) fn trail_refused(&self, problems: &[String]) {
        let Some(trail) = &self.audience.trail else { return };
        let first = problems.first().map_or("", String::as_str);
        trail.tell(Happening::Said(Said {
            kind: "policy",
            what: "refused",
            cause: format!("{} problems, the first: {first}", problems.len()),
            old: Some(hash_of_policy(&self.policy)),
            new: None,
            generation: Some(self.kernel.tables.generation()),
        }));
    }

    /// The groups of what is touched, before it changes.
    pub(super) fn groups_before(&self, touched: &Touched) -> Groups {
        let Some(state) = self.state.as_ref().filter(|_| self.audience.trail.is_some()) else { return Groups::new() };
        let names = touched.workloads.iter();
        names
            .filter_map(|name| state.workloads.get_key_value(name.as_str()))
            .map(|(name, of)| groups_of(state, name, of))
            .collect()
    }

    /// What became of those that were touched.
    pub(super) fn trail_members(&self, before: Groups, state: &State, touched: &Touched) {
        if self.audience.trail.is_none() {
            return;
        }
        let names = touched.workloads.iter().filter_map(|name| state.workloads.get_key_value(name.as_str()));
        let after: Groups = names.map(|(name, of)| groups_of(state, name, of)).collect();
        self.tell_members(before, after, "workloads");
    }

    /// What became of all of them since `before`; `touched` is what held for those that are not as they were there any more.
    pub(super) fn trail_all_members(&self, before: &State, touched: &Groups, cause: &'static str) {
        let Some(state) = self.state.as_ref().filter(|_| self.audience.trail.is_some()) else { return };
        // A hundred thousand pods are compared by number; names are for those that differ.
        let is_same = |name: &Arc<str>, (_, member): &(Workload, Member)| {
            let earlier = before.workloads.get(name).filter(|_| !touched.contains_key(name));
            earlier.is_some_and(|(_, earlier)| earlier.groups == member.groups)
        };
        let after: Groups = state
            .workloads
            .iter()
            .filter(|(name, of)| !is_same(name, of))
            .map(|(name, of)| groups_of(state, name, of))
            .collect();
        let gone = before
            .workloads
            .iter()
            .filter(|(name, _)| after.contains_key(*name) || !state.workloads.contains_key(*name));
        let mut earlier: Groups = gone.map(|(name, of)| groups_of(before, name, of)).collect();
        earlier.extend(touched.iter().map(|(name, of)| (name.clone(), of.clone())));
        self.tell_members(earlier, after, cause);
    }

    fn tell_members(&self, mut before: Groups, after: Groups, cause: &'static str) {
        let Some(trail) = &self.audience.trail else { return };
        let mut changes = BTreeMap::new();
        for (name, (groups, source)) in after {
            let was = before.remove(&name).map(|(groups, _)| groups);
            if was.as_ref() != Some(&groups) {
                changes.insert(name, Membership { before: was, after: Some(groups), source });
            }
        }
        let gone = before
            .into_iter()
            .map(|(name, (groups, source))| (name, Membership { before: Some(groups), after: None, source }));
        changes.extend(gone);
        if !changes.is_empty() {
            let generation = self.kernel.tables.generation();
            trail.tell(Happening::Members(Members { changes, cause, generation }));
        }
    }
}

fn groups_of(
    state: &State,
    name: &Arc<str>,
    (workload, member): &(Workload, Member),
) -> (Arc<str>, (Vec<String>, &'static str)) {
    let groups = state.policy.groups.iter().filter(|group| member.groups.contains(&group.id));
    (name.clone(), (groups.map(|group| group.name.clone()).collect(), workload.source.as_str()))
}

/// Where the documents stand that differ: files, or objects of the Kubernetes API.
fn changed(before: &PolicySet, after: &PolicySet) -> BTreeSet<String> {
    fn differ<'a, T: PartialEq>(
        before: &'a [T],
        after: &'a [T],
        origin: impl Fn(&'a T) -> &'a Origin,
    ) -> impl Iterator<Item = String> {
        let new = after.iter().filter(move |one| !before.contains(one));
        let old = before.iter().filter(move |one| !after.contains(one));
        new.chain(old).map(origin).map(|origin| origin.file.display().to_string()).collect::<BTreeSet<_>>().into_iter()
    }
    // Large sets are seldom changed by hand: who has a thousand documents is told their number.
    const MANY: usize = 2_000;
    if before.groups.len().max(after.groups.len()) > MANY || before.workloads.len().max(after.workloads.len()) > MANY {
        return [format!("{} groups, {} workloads", after.groups.len(), after.workloads.len())].into();
    }
    differ(&before.groups, &after.groups, |group| &group.origin)
        .chain(differ(&before.guardrails, &after.guardrails, |rail| &rail.origin))
        .chain(differ(&before.workloads, &after.workloads, |workload| &workload.origin))
        .collect()
}

fn named(files: &BTreeSet<String>) -> String {
    if files.is_empty() {
        return "no document".to_owned();
    }
    let mut text: Vec<&str> = files.iter().take(NAMED).map(String::as_str).collect();
    let more = format!("{} more", files.len().saturating_sub(NAMED));
    if files.len() > NAMED {
        text.push(&more);
    }
    text.join(", ")
}
