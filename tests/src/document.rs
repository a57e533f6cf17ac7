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

/// A key of a group's spec: everyone may send to these ports of its members, by TCP and UDP.
#[must_use]
pub fn from_all(ports: &[u16]) -> String {
    format!("ingress: [{{from: [{{cidr: 0.0.0.0/0}}, {{cidr: \"::/0\"}}], ports: {}}}]", both(ports))
}

/// As [`from_all`]: its members may send to these ports of everyone.
#[must_use]
pub fn to_all(ports: &[u16]) -> String {
    format!("egress: [{{to: [{{cidr: 0.0.0.0/0}}, {{cidr: \"::/0\"}}], ports: {}}}]", both(ports))
}

fn both(ports: &[u16]) -> String {
    let of_port = |port| format!("{{protocol: tcp, port: {port}}}, {{protocol: udp, port: {port}}}");
    // Where there is none, a protocol that nobody uses (RFC 3692).
    let none = || "{protocol: 253}".to_owned();
    let entries: Vec<String> = ports.iter().map(of_port).chain(ports.is_empty().then(none)).collect();
    format!("[{}]", entries.join(", "))
}
