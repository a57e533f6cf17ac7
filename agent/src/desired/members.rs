//! Which groups select a workload, without asking each of ten thousand.

use std::collections::HashMap;

use crate::policy::compile::GroupSet;
use crate::policy::model::{GroupId, PolicySet};
use crate::workload::{Requirement, Selector, Workload};

/// The groups of a policy, by a label that their members must have.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// By the key and a value of the first requirement that names values.
    by_label: HashMap<String, HashMap<String, Vec<(GroupId, Selector)>>>,
    /// Groups whose selector names no value.
    others: Vec<(GroupId, Selector)>,
}

impl Members {
    pub(super) fn new(policy: &PolicySet) -> Self {
        let mut members = Self::default();
        for group in &policy.groups {
            let selection = (group.id, group.selector.clone());
            let named = group.selector.requirements.iter().find_map(|requirement| match requirement {
                Requirement::In(key, values) => Some((key, values)),
                Requirement::NotIn(..) | Requirement::Exists(_) | Requirement::DoesNotExist(_) => None,
            });
            let Some((key, values)) = named else {
                members.others.push(selection);
                continue;
            };
            let by_value = members.by_label.entry(key.clone()).or_default();
            for value in values {
                by_value.entry(value.clone()).or_default().push(selection.clone());
            }
        }
        members
    }

    /// The groups that select a workload.
    pub(super) fn groups_of(&self, workload: &Workload) -> GroupSet {
        let by_label = workload.labels.iter().filter_map(|(key, value)| self.by_label.get(key)?.get(value)).flatten();
        by_label
            .chain(&self.others)
            .filter(|(_, selector)| selector.matches(&workload.labels))
            .map(|(id, _)| *id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{group, workload};
    use super::*;

    #[test]
    fn every_group_that_selects_a_workload_is_found_and_no_other() {
        let with = |id, requirements| {
            let mut group = group(id, "web", &[]);
            group.selector = Selector { requirements };
            group
        };
        let app = |values: &[&str]| {
            Requirement::In("app".to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
        };
        let groups = vec![
            with(1, vec![app(&["web", "api"])]),
            with(2, vec![app(&["db"])]),
            with(3, vec![]),
            with(4, vec![Requirement::Exists("app".to_owned())]),
            with(5, vec![Requirement::DoesNotExist("app".to_owned())]),
            with(6, vec![Requirement::Exists("tier".to_owned()), app(&["web"])]),
            with(7, vec![app(&["web"]), app(&["web", "db"])]),
        ];
        let members = Members::new(&PolicySet { groups, ..PolicySet::default() });
        let groups_of = |app| members.groups_of(&workload("w", app, "10.0.0.9", None));
        let set = |ids: &[u32]| ids.iter().copied().map(GroupId).collect::<GroupSet>();
        assert_eq!(groups_of("web"), set(&[1, 3, 4, 7]));
        assert_eq!(groups_of("db"), set(&[2, 3, 4]));
        assert_eq!(groups_of("other"), set(&[3, 4]));
    }
}
