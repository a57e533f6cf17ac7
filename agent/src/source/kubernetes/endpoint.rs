//! Endpoint slices: who stands behind a service.

use std::net::IpAddr;

use serde::Deserialize;

use crate::source::kubernetes::address::address;
use crate::source::kubernetes::object::{Kind, Metadata, protocol};
use crate::source::kubernetes::service::Port;

/// The label that names the service.
const SERVICE: &str = "kubernetes.io/service-name";

/// All slices of services that have cluster addresses.
#[derive(Debug)]
pub(super) struct EndpointSlices;

/// A slice, as far as it is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    metadata: Metadata,
    address_type: Option<String>,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<ObjectPort>>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
}

#[derive(Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ObjectPort {
    name: Option<String>,
    protocol: Option<String>,
    /// Absent for every port, which services don't have.
    port: Option<u16>,
}

/// Back ends of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) name: String,
    /// `NAMESPACE/NAME` of the service.
    pub(super) service: String,
    pub(super) ports: Vec<Port>,
    /// Addresses of those that are ready.
    pub(super) ready: Vec<IpAddr>,
    /// Addresses of those that are not, because they terminate, and yet serve.
    pub(super) serving: Vec<IpAddr>,
}

impl Kind for EndpointSlices {
    type Object = Object;
    type Fact = Slice;

    fn name(&self) -> &'static str {
        "endpointslices"
    }

    fn path(&self) -> String {
        "/apis/discovery.k8s.io/v1/endpointslices".to_owned()
    }

    /// The same that kube-proxy asks for.
    fn selectors(&self) -> &'static [(&'static str, &'static str)] {
        &[("labelSelector", "kubernetes.io/service-name,!service.kubernetes.io/headless")]
    }

    fn metadata(object: &Object) -> &Metadata {
        &object.metadata
    }

    fn fact(&self, name: String, object: Object, doubts: &mut Vec<String>) -> Option<Slice> {
        if object.address_type.as_deref() == Some("FQDN") {
            return None;
        }
        let service = object.metadata.sibling(object.metadata.label(SERVICE)?);
        let ports = object.ports.into_iter().flatten().filter_map(|port| {
            let protocol = protocol(port.protocol.as_deref(), doubts)?;
            Some(Port { name: port.name.unwrap_or_default(), protocol, port: port.port? })
        });
        let ports = ports.collect();
        let (mut ready, mut serving) = (Vec::new(), Vec::new());
        for endpoint in object.endpoints.into_iter().flatten() {
            let conditions = endpoint.conditions.unwrap_or_default();
            let list = match (conditions.ready, conditions.serving) {
                (None | Some(true), _) => &mut ready,
                (Some(false), Some(true)) => &mut serving,
                (Some(false), _) => continue,
            };
            let addresses = endpoint.addresses.into_iter().flatten();
            list.extend(addresses.filter_map(|text| address("endpoint", &text, doubts)));
        }
        Some(Slice { name, service, ports, ready, serving })
    }
}
