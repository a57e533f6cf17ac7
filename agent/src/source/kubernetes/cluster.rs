//! Namespaces and nodes.

use serde::Deserialize;

use crate::source::kubernetes::address::address;
use crate::source::kubernetes::object::{Kind, Metadata};
use crate::source::{NamespaceFact, NodeFact};

/// All namespaces.
#[derive(Debug)]
pub(super) struct Namespaces;

/// A namespace, as far as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    metadata: Metadata,
}

impl Kind for Namespaces {
    type Object = Namespace;
    type Fact = NamespaceFact;

    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn path(&self) -> String {
        "/api/v1/namespaces".to_owned()
    }

    fn metadata(object: &Namespace) -> &Metadata {
        &object.metadata
    }

    fn fact(&self, name: String, namespace: Namespace, _: &mut Vec<String>) -> Option<NamespaceFact> {
        Some(NamespaceFact { name, labels: namespace.metadata.labels.unwrap_or_default() })
    }
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Nodes;

/// A node, as far as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Node {
    metadata: Metadata,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    addresses: Option<Vec<NodeAddress>>,
}

#[derive(Debug, Deserialize)]
struct NodeAddress {
    r#type: Option<String>,
    address: Option<String>,
}

impl Kind for Nodes {
    type Object = Node;
    type Fact = NodeFact;

    fn name(&self) -> &'static str {
        "nodes"
    }

    fn path(&self) -> String {
        "/api/v1/nodes".to_owned()
    }

    fn metadata(object: &Node) -> &Metadata {
        &object.metadata
    }

    fn fact(&self, name: String, node: Node, doubts: &mut Vec<String>) -> Option<NodeFact> {
        let mut addresses = Vec::new();
        for NodeAddress { r#type, address: text } in node.status.unwrap_or_default().addresses.into_iter().flatten() {
            let kind = r#type.unwrap_or_default();
            let text = text.unwrap_or_default();
            let mut of_this = Vec::new();
            let address = address(&kind, &text, &mut of_this);
            // Names of hosts have types of their own, and sometimes are addresses.
            if matches!(kind.as_str(), "InternalIP" | "ExternalIP") {
                doubts.append(&mut of_this);
            }
            addresses.extend(address.filter(|address| !addresses.contains(address)));
        }
        Some(NodeFact { name, addresses })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::kubernetes::read::{Read, read};

    #[test]
    fn a_namespace_is_its_name_and_its_labels() {
        let text = json!({"metadata": {"name": "shop", "labels": {"team": "blue"}}}).to_string();
        let fact = NamespaceFact { name: "shop".into(), labels: [("team".into(), "blue".into())].into() };
        assert_eq!(read(&Namespaces, &text).fact, Some(fact));
        let bare = json!({"metadata": {"name": "bare", "labels": null}}).to_string();
        assert_eq!(read(&Namespaces, &bare).fact, Some(NamespaceFact { name: "bare".into(), labels: [].into() }));
    }

    #[test]
    fn a_nodes_addresses_are_those_of_every_type_that_is_one() {
        let node = |addresses: serde_json::Value| {
            json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}}).to_string()
        };
        let text = node(json!([
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "ExternalIP", "address": "2001:db8::1"},
            {"type": "Hostname", "address": "n1.example"},
            {"type": "InternalDNS", "address": "n1.internal"},
            {"type": "Hostname", "address": "192.0.2.1"},
        ]));
        let Read { fact, doubts, .. } = read(&Nodes, &text);
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("an address")).into();
        assert_eq!(fact, Some(NodeFact { name: "n1".into(), addresses }));
        assert_eq!(doubts, Vec::<String>::new());

        let Read { fact, doubts, .. } = read(&Nodes, &node(json!([{"type": "InternalIP", "address": "here"}])));
        assert_eq!(fact, Some(NodeFact { name: "n1".into(), addresses: Vec::new() }));
        assert_eq!(doubts, [r#"InternalIP "here" is no address"#]);
    }
}
