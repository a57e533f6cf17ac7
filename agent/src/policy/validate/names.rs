//! Names and labels, by the rules that Kubernetes has for them.
//!
//! Source: kubernetes/apimachinery, `pkg/util/validation`: `IsDNS1123Label`, `IsDNS1123Subdomain`, `IsQualifiedName`,
//! `IsValidLabelValue`.

/// Longest name of an object, and longest name part and value of a label, in bytes.
const MAX_LABEL: usize = 63;
/// Longest prefix of a label's key, in bytes.
const MAX_SUBDOMAIN: usize = 253;
/// Longest name of a container's port, in bytes.
const MAX_PORT_NAME: usize = 15;
/// Longest value that a selector may ask for: systemd's unit names (`UNIT_NAME_MAX`) are values of discovered labels.
const MAX_SELECTED: usize = 255;

/// What is wrong with a name or label, and the cure.
pub(super) type Wrong = (String, String);

/// Whether `name` may name an object.
pub(super) fn check_name(name: &str) -> Result<(), Wrong> {
    if name.is_empty() {
        return Err(("the name is empty".to_owned(), "give it one, such as `web`".to_owned()));
    }
    if is_dns_label(name) {
        return Ok(());
    }
    let message = format!(
        "`{}` is no name: only lower-case letters, digits and `-` between them, at most {MAX_LABEL}",
        crate::policy::document::shorten(name)
    );
    let mended: String = name
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' })
        .take(MAX_LABEL)
        .collect();
    let mended = mended.trim_matches('-');
    let cure = if mended.is_empty() { "write a name such as `web`".to_owned() } else { format!("write `{mended}`") };
    Err((message, cure))
}

/// Whether `name` may name an object that Kubernetes keeps.
pub(super) fn check_subdomain(name: &str) -> Result<(), Wrong> {
    if is_dns_subdomain(name) {
        return Ok(());
    }
    Err((
        format!("`{}` is no name of a Kubernetes object", crate::policy::document::shorten(name)),
        "use lower-case letters, digits and `-`, with `.` between the parts, at most 253".to_owned(),
    ))
}

/// Whether `name` may name a container's port: `IsValidPortName`.
pub(super) fn check_port_name(name: &str) -> Result<(), Wrong> {
    if name.len() <= MAX_PORT_NAME
        && is_dns_label(name)
        && !name.contains("--")
        && name.contains(|c: char| c.is_ascii_lowercase())
    {
        return Ok(());
    }
    Err((
        format!("`{}` is no name of a port", crate::policy::document::shorten(name)),
        "write a port from 1 to 65535, or a name of lower-case letters, digits and single `-` between them, at least one letter, \
         at most 15"
            .to_owned(),
    ))
}

/// Whether `key` may be the key of a label.
pub(super) fn check_key(key: &str) -> Result<(), Wrong> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_part(name) {
        return Ok(());
    }
    Err((
        format!("`{}` is no key of a label", crate::policy::document::shorten(key)),
        "use letters and digits, with `-`, `_` and `.` between them, at most 63, after an optional prefix such as \
         `example.com/`"
            .to_owned(),
    ))
}

/// Whether a workload may carry `value`.
pub(super) fn check_value(value: &str) -> Result<(), Wrong> {
    if is_label_part(value) {
        return Ok(());
    }
    Err((
        format!("`{}` is no value of a label", crate::policy::document::shorten(value)),
        "use letters and digits, with `-`, `_` and `.` between them, at most 63, or nothing".to_owned(),
    ))
}

/// Whether a selector may ask for `value`: what a workload may carry, and the names of systemd's units and cgroups, which
/// discovered labels hold and which may have `@`, `:` and `\` in them.
pub(super) fn check_selected(value: &str) -> Result<(), Wrong> {
    let unit = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if is_label_part(value) || (value.len() <= MAX_SELECTED && value.bytes().all(unit)) {
        return Ok(());
    }
    Err((
        format!("`{}` is a value that no label has", crate::policy::document::shorten(value)),
        "use letters, digits and `-`, `_`, `.`, and in names of systemd units also `@`, `:` and `\\`".to_owned(),
    ))
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_LABEL
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && is_bounded(text)
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(|label| !label.is_empty() && is_dns_label_of_any_length(label))
}

/// Kubernetes limits a subdomain's length as a whole, not its labels'.
fn is_dns_label_of_any_length(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') && is_bounded(text)
}

fn is_label_part(text: &str) -> bool {
    text.is_empty()
        || (text.len() <= MAX_LABEL
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && is_bounded(text))
}

/// Whether the first and the last are letters or digits.
fn is_bounded(text: &str) -> bool {
    let bounds = [text.bytes().next(), text.bytes().next_back()];
    bounds.into_iter().all(|byte| byte.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_and_a_wrong_one_gets_a_right_one_offered() {
        for good in ["web", "web-1", "1", "a".repeat(63).as_str()] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for (bad, offered) in
            [("Web_1", "`web-1`"), ("-web-", "`web`"), ("web.example", "`web-example`"), ("_", "`web`")]
        {
            let (message, cure) = check_name(bad).expect_err(bad);
            assert!(message.contains(bad) && cure.contains(offered), "{message}; {cure}");
        }
        assert!(check_name("").is_err() && check_name(&"a".repeat(64)).is_err());
    }

    #[test]
    fn names_of_ports_follow_kubernetes() {
        for (name, is_one) in [
            ("http", true),
            ("a-1", true),
            ("1a", true),
            ("", false),
            ("80", false),
            ("HTTP", false),
            ("-a", false),
            ("a--b", false),
            ("a.b", false),
            ("exactly-fifteen", true),
            ("sixteen-letters-", false),
            ("sixteen-letters1", false),
        ] {
            assert_eq!(check_port_name(name).is_ok(), is_one, "{name}");
        }
    }

    #[test]
    fn labels_follow_kubernetes() {
        for good in ["app", "App_1.x-y", "example.com/app", "a-b.example/x"] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "-a", "a-", "A.com/x", "a..b/x", "a b", &"a".repeat(64)] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        for (value, carried, selected) in [
            ("", true, true),
            ("Web_1.x-y", true, true),
            ("getty@tty1.service", false, true),
            (r"dev-disk\x2d1.swap", false, true),
            ("-a", false, true),
            ("a b", false, false),
            ("ä", false, false),
        ] {
            assert_eq!(check_value(value).is_ok(), carried, "{value}");
            assert_eq!(check_selected(value).is_ok(), selected, "{value}");
        }
        assert!(check_value(&"a".repeat(64)).is_err() && check_selected(&"a".repeat(256)).is_err());
    }
}
