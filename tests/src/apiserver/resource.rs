//! Kinds of objects, and where the API has them.

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Its group; empty for the core.
    pub group: &'static str,
    /// Such as `v1`.
    pub version: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Its name in objects.
    pub kind: &'static str,
}

/// Pods.
pub const POD: Resource = Resource::new("", "v1", "pods", "Pod");
/// Namespaces.
pub const NAMESPACE: Resource = Resource::new("", "v1", "namespaces", "Namespace");
/// Nodes.
pub const NODE: Resource = Resource::new("", "v1", "nodes", "Node");
/// Services.
pub const SERVICE: Resource = Resource::new("", "v1", "services", "Service");
/// Endpoint slices.
pub const ENDPOINT_SLICE: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice");
/// Network policies.
pub const NETWORK_POLICY: Resource = Resource::new("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy");
/// Definitions of custom resources.
pub const CRD: Resource =
    Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition");

impl Resource {
    /// A kind, custom ones included.
    #[must_use]
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Self {
        Self { group, version, plural, kind }
    }

    /// As objects have it.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Where objects of all namespaces are listed.
    #[must_use]
    pub fn path(&self) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}/{}", self.api_version(), self.plural)
    }
}

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// As [`Resource::path`].
    pub(super) path: String,
    pub(super) plural: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) status: bool,
}

impl Target {
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (root, rest) = match parts[..] {
            ["api", version, ref rest @ ..] => (format!("/api/{version}"), rest),
            ["apis", group, version, ref rest @ ..] => (format!("/apis/{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match *rest {
            ["namespaces", namespace, ref of @ ..] if !matches!(of, [] | ["status"]) => (Some(namespace), of),
            _ => (None, rest),
        };
        let (plural, name, status) = match *rest {
            [plural] => (plural, None, false),
            [plural, name] => (plural, Some(name), false),
            [plural, name, "status"] => (plural, Some(name), true),
            _ => return None,
        };
        Some(Self {
            path: format!("{root}/{plural}"),
            plural: plural.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            status,
        })
    }

    /// The object's full name.
    pub(super) fn full_name(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(self.namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_kinds_namespaces_and_objects() {
        for (path, kind, namespace, name, status) in [
            ("/api/v1/pods", "/api/v1/pods", None, None, false),
            ("/api/v1/namespaces", "/api/v1/namespaces", None, None, false),
            ("/api/v1/namespaces/shop", "/api/v1/namespaces", None, Some("shop"), false),
            ("/api/v1/namespaces/shop/status", "/api/v1/namespaces", None, Some("shop"), true),
            ("/api/v1/namespaces/shop/pods", "/api/v1/pods", Some("shop"), None, false),
            ("/api/v1/namespaces/shop/pods/a", "/api/v1/pods", Some("shop"), Some("shop/a"), false),
            ("/apis/x.dev/v1/things/a/status", "/apis/x.dev/v1/things", None, Some("a"), true),
        ] {
            let target = Target::parse(path).expect(path);
            assert_eq!(target.path, kind, "{path}");
            assert_eq!(target.namespace.as_deref(), namespace, "{path}");
            assert_eq!(target.full_name().as_deref(), name, "{path}");
            assert_eq!(target.status, status, "{path}");
        }
        assert_eq!(Target::parse("/version"), None);
    }
}
