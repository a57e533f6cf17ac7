//! Labels in an interface's alias: `ip link set veth-web alias app=web,env=prod`.

use super::Labels;

/// The labels that an alias carries: `key=value` pairs with commas between them. `None` where it is anything else: an alias
/// is a free text, and most are not ours.
#[must_use]
pub fn labels(alias: &str) -> Option<Labels> {
    let pairs = alias.split(',').map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (is_key(key) && is_value(value)).then(|| (key.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// A label's key as Kubernetes has it (Labels and Selectors, "Syntax and character set"): a name of at most 63 characters,
/// behind an optional DNS prefix and a slash.
fn is_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_fine = prefix.is_none_or(|prefix| {
        prefix.len() <= 253
            && !prefix.is_empty()
            && prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
    });
    prefix_is_fine && !name.is_empty() && is_value(name)
}

/// A label's value: at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit; or empty.
fn is_value(value: &str) -> bool {
    let ends_well = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && ends_well(value.chars().next())
        && ends_well(value.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_commas_are_labels_and_anything_else_is_a_free_text() {
        let expected = Labels::from([("app".to_owned(), "web".to_owned()), ("env".to_owned(), "prod".to_owned())]);
        assert_eq!(labels("app=web,env=prod"), Some(expected.clone()));
        assert_eq!(labels("app=web, env=prod"), Some(expected));
        assert!(labels("example.com/team=blue").is_some());
        for free in ["uplink to rack 4", "", "app=", "=web", "app", "app=web,", "app=we b", "/x=y"] {
            assert_eq!(labels(free), if free == "app=" { Some([("app".into(), String::new())].into()) } else { None });
        }
    }
}
