//! Label selectors, with the meaning that Kubernetes gives them.

use serde::{Deserialize, Serialize};

use super::Labels;

/// Which workloads a group selects: every requirement must hold. Without requirements it selects every workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// `matchLabels` entries and `matchExpressions`, all of which must hold.
    pub requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Requirement {
    /// The label is there, with one of these values.
    In(String, Vec<String>),
    /// The label is not there, or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    DoesNotExist(String),
}

impl Selector {
    /// Whether a workload with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_operator_selects_as_kubernetes_does() {
        let web = labels(&[("app", "web"), ("env", "prod")]);
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let app = || "app".to_owned();
        let tier = || "tier".to_owned();
        for (requirement, selected) in [
            (Requirement::In(app(), values(&["web", "api"])), true),
            (Requirement::In(app(), values(&["db"])), false),
            (Requirement::In(tier(), values(&["web"])), false),
            (Requirement::NotIn(app(), values(&["web"])), false),
            (Requirement::NotIn(app(), values(&["db"])), true),
            (Requirement::NotIn(tier(), values(&["web"])), true),
            (Requirement::Exists(app()), true),
            (Requirement::Exists(tier()), false),
            (Requirement::DoesNotExist(app()), false),
            (Requirement::DoesNotExist(tier()), true),
        ] {
            let selector = Selector { requirements: vec![requirement] };
            assert_eq!(selector.matches(&web), selected, "{selector:?}");
        }
    }

    #[test]
    fn an_empty_selector_selects_everyone_and_all_requirements_must_hold() {
        assert!(Selector::default().matches(&Labels::new()));
        let both = Selector {
            requirements: vec![
                Requirement::In("app".to_owned(), vec!["web".to_owned()]),
                Requirement::Exists("env".to_owned()),
            ],
        };
        assert!(both.matches(&labels(&[("app", "web"), ("env", "prod")])));
        assert!(!both.matches(&labels(&[("app", "web")])));
    }
}
