//! Label and field selectors.

use std::collections::BTreeMap;

use super::store::Object;

/// Fields that can be selected by.
pub(super) const FIELDS: [&str; 4] = ["metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"];

/// Which objects a list or watch is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    pub(super) namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Absent(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Selector {
    /// # Errors
    /// A field that can't be selected by.
    pub(super) fn new(namespace: Option<String>, labels: &str, fields: &str) -> Result<Self, String> {
        let fields = requirements(fields);
        for requirement in &fields {
            match requirement {
                Requirement::In(field, _) | Requirement::NotIn(field, _) if FIELDS.contains(&field.as_str()) => {}
                other => return Err(format!("field label not supported: {other:?}")),
            }
        }
        Ok(Self { namespace, labels: requirements(labels), fields })
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| object.namespace() == Some(namespace))
            && self.labels.iter().all(|it| it.holds(&object.labels))
            // A field that is absent is empty.
            && self.fields.iter().all(|it| it.holds(&object.fields))
    }
}

impl Requirement {
    fn holds(&self, values: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Exists(key) => values.contains_key(key),
            Self::Absent(key) => !values.contains_key(key),
            Self::In(key, any) => values.get(key).is_some_and(|value| any.contains(value)),
            Self::NotIn(key, none) => values.get(key).is_none_or(|value| !none.contains(value)),
        }
    }
}

fn requirements(text: &str) -> Vec<Requirement> {
    let mut depth = 0;
    let outside = |character: char| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    };
    text.split(outside).map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect()
}

fn requirement(part: &str) -> Requirement {
    let set =
        |values: &str| values.trim().trim_matches(['(', ')']).split(',').map(|value| value.trim().to_owned()).collect();
    if let Some((key, value)) = part.split_once("!=") {
        return Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()]);
    }
    if let Some((key, value)) = part.split_once('=') {
        return Requirement::In(key.trim().to_owned(), vec![value.trim_start_matches('=').trim().to_owned()]);
    }
    if let Some((key, values)) = part.split_once(" notin ") {
        return Requirement::NotIn(key.trim().to_owned(), set(values));
    }
    if let Some((key, values)) = part.split_once(" in ") {
        return Requirement::In(key.trim().to_owned(), set(values));
    }
    match part.strip_prefix('!') {
        Some(key) => Requirement::Absent(key.trim().to_owned()),
        None => Requirement::Exists(part.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_the_api_writes_them() {
        let labels: BTreeMap<String, String> =
            [("app", "web"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        for (selector, expected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("app=web,tier==front", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (db, web),tier", true),
            ("app notin (db,web)", false),
            ("app,!other", true),
        ] {
            assert_eq!(requirements(selector).iter().all(|it| it.holds(&labels)), expected, "{selector}");
        }
    }

    #[test]
    fn a_field_that_cannot_be_selected_by_is_refused() {
        Selector::new(None, "", "status.phase!=Failed,spec.nodeName=n1").expect("both can");
        Selector::new(None, "", "spec.colour=red").expect_err("it can't");
    }
}
