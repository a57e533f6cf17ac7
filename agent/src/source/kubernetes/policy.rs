//! Policy objects: security groups, guardrails, address groups and network policies.

use serde::Deserialize;
use serde_json::Value;

use crate::policy::objects::{ApiObject, ObjectKind};
use crate::source::kubernetes::object::{Kind, Metadata};

/// All objects of a kind.
#[derive(Debug)]
pub(super) struct Policies(pub(super) ObjectKind);

/// An object, all of it: what it says is for the policy's own parser to judge.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Whole {
    metadata: Metadata,
    value: Value,
}

impl TryFrom<Value> for Whole {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let text = |field: &str| value["metadata"][field].as_str().map(str::to_owned);
        let name = text("name").ok_or("it has no name")?;
        let metadata = Metadata::named(name, text("namespace"), text("resourceVersion"));
        Ok(Self { metadata, value })
    }
}

impl Kind for Policies {
    type Object = Whole;
    type Fact = ApiObject;

    fn name(&self) -> &'static str {
        match self.0 {
            ObjectKind::SecurityGroup => "securitygroups",
            ObjectKind::Guardrail => "guardrails",
            ObjectKind::AddressGroup => "addressgroups",
            ObjectKind::NetworkPolicy => "networkpolicies",
        }
    }

    fn path(&self) -> String {
        format!("/apis/{}/{}", self.0.api_version(), self.name())
    }

    fn may_be_missing(&self) -> bool {
        self.0 != ObjectKind::NetworkPolicy
    }

    fn metadata(object: &Whole) -> &Metadata {
        &object.metadata
    }

    fn fact(&self, _: String, object: Whole, doubts: &mut Vec<String>) -> Option<ApiObject> {
        ApiObject::new(self.0, &object.value).map_err(|error| doubts.push(error.to_string())).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::objects::ObjectName;
    use crate::source::kubernetes::read::read;

    #[test]
    fn an_object_needs_a_name_and_nothing_else() {
        let kind = Policies(ObjectKind::Guardrail);
        let text = json!({"metadata": {"name": "g", "labels": 7, "resourceVersion": "3"}, "spec": "a lie"}).to_string();
        let found = read(&kind, &text);
        assert_eq!(found.fact.map(|fact| fact.name), Some(ObjectName::of(ObjectKind::Guardrail, "g")));
        assert_eq!((found.name.as_deref(), found.version.as_deref()), (Some("g"), Some("3")));
        assert!(read(&kind, r#"{"metadata": {}}"#).error.is_some());
    }

    #[test]
    fn every_kind_is_where_the_api_has_it() {
        let paths = ObjectKind::ALL.map(|kind| Policies(kind).path());
        let expected = [
            "/apis/bulkhead.dev/v1alpha1/securitygroups",
            "/apis/bulkhead.dev/v1alpha1/guardrails",
            "/apis/bulkhead.dev/v1alpha1/addressgroups",
            "/apis/networking.k8s.io/v1/networkpolicies",
        ];
        assert_eq!(paths, expected);
    }
}
