//! Which labels tell workloads apart by what they do: the selectors of a proposal.

use std::collections::{BTreeMap, BTreeSet};

use crate::workload::Labels;

/// Labels that say what a workload is, the best first: Kubernetes' recommended ones, what people write, and what Bulkhead finds.
const WHAT: [&str; 10] =
    ["app.kubernetes.io/name", "app", "k8s-app", "service", "role", "name", "unit", "component", "tier", "slice"];
/// Labels that tell apart what is called the same: they join the selector wherever they are there.
const WHERE: [&str; 7] =
    ["namespace", "app.kubernetes.io/instance", "app.kubernetes.io/component", "env", "environment", "stage", "team"];
/// Labels that change with every release or are one workload's own.
const FLEETING: [&str; 8] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "version",
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "pod-template-generation",
];

/// What a group selects: labels with their values, and labels that are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role {
    /// Labels that members have.
    pub labels: Labels,
    /// Labels that they don't have, as another group's members do.
    pub without: BTreeSet<String>,
}

impl Role {
    /// Whether a workload is selected.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && !self.without.iter().any(|key| labels.contains_key(key))
    }
}

/// The labels by which a workload is known. `None` where it has none that last.
fn telling(labels: &Labels) -> Option<Labels> {
    let what = WHAT.iter().find(|key| labels.contains_key(**key));
    let chosen: Labels = match what {
        Some(what) => {
            let keys = [*what].into_iter().chain(WHERE);
            keys.filter_map(|key| Some((key.to_owned(), labels.get(key)?.clone()))).collect()
        }
        None => {
            let lasts = |key: &&String| {
                !FLEETING.contains(&key.as_str()) && !key.starts_with("port.") && !key.starts_with("namespace.")
            };
            labels.keys().filter(lasts).map(|key| (key.clone(), labels[key].clone())).collect()
        }
    };
    (!chosen.is_empty()).then_some(chosen)
}

/// A role for each workload: by name, of those that have labels.
#[must_use]
pub fn roles<'a>(workloads: &BTreeMap<&'a str, &'a Labels>) -> BTreeMap<&'a str, Role> {
    let told: BTreeMap<&str, Labels> =
        workloads.iter().filter_map(|(name, labels)| Some((*name, telling(labels)?))).collect();
    let all: BTreeSet<&Labels> = told.values().collect();
    let role = |labels: &Labels| {
        // Another role has these labels and more: its members would be selected as well.
        let wider = all
            .iter()
            .filter(|other| **other != labels && labels.iter().all(|(key, value)| other.get(key) == Some(value)));
        let without = wider.filter_map(|other| other.keys().find(|key| !labels.contains_key(*key)).cloned()).collect();
        Role { labels: labels.clone(), without }
    };
    told.iter().map(|(name, labels)| (*name, role(labels))).collect()
}

/// A name for each role: what it is, and as much of where as tells it from others.
#[must_use]
pub fn names<'a>(roles: &BTreeSet<&'a Role>, taken: &BTreeSet<String>) -> BTreeMap<&'a Role, String> {
    let mut names: BTreeMap<&Role, String> = BTreeMap::new();
    let mut used = taken.clone();
    for role in roles {
        let values = |all: bool| -> String {
            let what = WHAT.iter().find_map(|key| role.labels.get(*key));
            let rest = role.labels.iter().filter(|(key, _)| !WHAT.contains(&key.as_str()));
            let rest = rest.map(|(_, value)| value).filter(|_| all || what.is_none());
            what.into_iter().chain(rest).map(String::as_str).collect::<Vec<_>>().join("-")
        };
        let short = clean(&values(false));
        let is_shared = roles.iter().filter(|other| {
            other != &role
                && WHAT.iter().find_map(|key| other.labels.get(*key))
                    == WHAT.iter().find_map(|key| role.labels.get(*key))
        });
        let base = if is_shared.count() == 0 { short } else { clean(&values(true)) };
        let mut name = base.clone();
        let mut number = 2;
        while !used.insert(name.clone()) {
            name = format!("{}-{number}", &base[..base.len().min(58)]);
            number += 1;
        }
        names.insert(role, name);
    }
    names
}

/// As a document's name may be: lower-case letters, digits and hyphens, at most 63.
fn clean(text: &str) -> String {
    let text: String =
        text.to_lowercase().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let text = text.trim_matches('-');
    let text = text[..text.len().min(63)].trim_matches('-');
    if text.is_empty() { "workloads".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn replicas_are_one_role_and_environments_are_told_apart() {
        let all = [
            ("web-1", labels("app=web,env=prod,pod-template-hash=abc")),
            ("web-2", labels("app=web,env=prod,pod-template-hash=def")),
            ("web-3", labels("app=web,env=test")),
            ("web-4", labels("app=web")),
            ("bare", labels("")),
            ("odd", labels("colour=red,version=7")),
        ];
        let found = all.iter().map(|(name, labels)| (*name, labels)).collect();
        let roles = roles(&found);
        assert_eq!(roles["web-1"], roles["web-2"]);
        assert_ne!(roles["web-1"], roles["web-3"]);
        assert_eq!(roles["web-4"].without, ["env".to_owned()].into(), "or it would select the others too");
        assert!(!roles.contains_key("bare"));
        assert_eq!(roles["odd"].labels, labels("colour=red"));
        for (name, of) in &all {
            for (other, role) in &roles {
                assert_eq!(role.selects(of), roles.get(name) == Some(role), "{name} and the role of {other}");
            }
        }
        let each: BTreeSet<&Role> = roles.values().collect();
        let named = names(&each, &["red".to_owned()].into());
        assert_eq!(named[&roles["web-1"]], "web-prod");
        assert_eq!(named[&roles["web-4"]], "web");
        assert_eq!(named[&roles["odd"]], "red-2");
    }
}
