//! Policy documents, short to write in a test.

/// A group that selects `app: APP`; `rules` are further lines of its spec, each a key.
#[must_use]
pub fn group(name: &str, id: u32, app: &str, rules: &[&str]) -> String {
    selecting(name, id, &format!("{{matchLabels: {{app: {app}}}}}"), rules)
}

/// A group with any selector.
#[must_use]
pub fn selecting(name: &str, id: u32, selector: &str, rules: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {{name: {name}}}\nspec:\n  id: {id}\n  \
         selector: {selector}\n"
    );
    for rule in rules {
        text.push_str("  ");
        text.push_str(rule);
        text.push('\n');
    }
    text
}
