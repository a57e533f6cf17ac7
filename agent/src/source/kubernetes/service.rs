//! Services, and what joins them with their back ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::source::kubernetes::address::address;
use crate::source::kubernetes::endpoint::Slice;
use crate::source::kubernetes::object::{Kind, Metadata, protocol};
use crate::source::{ServiceFact, ServicePort, Told};

/// All services that have cluster addresses.
#[derive(Debug)]
pub(super) struct Services;

/// A service, as far as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Object {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<ObjectPort>>,
}

#[derive(Debug, Deserialize)]
struct ObjectPort {
    name: Option<String>,
    protocol: Option<String>,
    port: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Debug, Deserialize)]
struct Ingress {
    ip: Option<String>,
}

/// A service without its back ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<Port>,
}

/// A port of a service, or of a slice of its back ends: the two have the same name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: u8,
    pub(super) port: u16,
}

impl Kind for Services {
    type Object = Object;
    type Fact = Service;

    fn name(&self) -> &'static str {
        "services"
    }

    fn path(&self) -> String {
        "/api/v1/services".to_owned()
    }

    fn metadata(object: &Object) -> &Metadata {
        &object.metadata
    }

    fn fact(&self, name: String, object: Object, doubts: &mut Vec<String>) -> Option<Service> {
        let spec = object.spec.unwrap_or_default();
        let cluster_ips = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        if spec.r#type.as_deref() == Some("ExternalName") || cluster_ips.iter().any(|ip| ip == "None") {
            return None;
        }
        let balancer = object.status.unwrap_or_default().load_balancer;
        let ingress = balancer.and_then(|it| it.ingress).into_iter().flatten().filter_map(|it| it.ip);
        let texts = cluster_ips.into_iter().map(|ip| ("clusterIP", ip));
        let texts = texts.chain(spec.external_ips.into_iter().flatten().map(|ip| ("externalIP", ip)));
        let texts = texts.chain(ingress.map(|ip| ("load balancer's address", ip)));
        let addresses: BTreeSet<_> = texts
            // Not given yet.
            .filter(|(_, text)| !text.is_empty())
            .filter_map(|(of, text)| address(of, &text, doubts))
            .collect();
        if addresses.is_empty() {
            return None;
        }
        let ports = spec.ports.into_iter().flatten().filter_map(|port| {
            let protocol = protocol(port.protocol.as_deref(), doubts)?;
            Some(Port { name: port.name.unwrap_or_default(), protocol, port: port.port })
        });
        let ports = ports.collect();
        Some(Service { name, addresses: addresses.into_iter().collect(), ports })
    }
}

/// What is to be told of services.
pub(super) type News = Vec<Told<ServiceFact>>;

/// Services with their back ends. Nothing is told before both are known.
#[derive(Debug, Default)]
pub(super) struct Balanced {
    services: Option<BTreeMap<String, Service>>,
    slices: Option<BTreeMap<String, Slice>>,
    /// Names of slices, by service.
    slices_of: BTreeMap<String, BTreeSet<String>>,
}

impl Balanced {
    pub(super) fn tell_services(&mut self, told: Told<Service>) -> News {
        match told {
            Told::All(all) => {
                self.services = Some(all.into_iter().map(|service| (service.name.clone(), service)).collect());
                self.all()
            }
            Told::One(service) => self.change([service.name.clone()].into(), |this| {
                this.services.get_or_insert_default().insert(service.name.clone(), service);
            }),
            Told::Gone(name) => self.change([name.clone()].into(), |this| {
                this.services.get_or_insert_default().remove(&name);
            }),
        }
    }

    pub(super) fn tell_slices(&mut self, told: Told<Slice>) -> News {
        match told {
            Told::All(all) => {
                self.slices = Some(BTreeMap::new());
                self.slices_of.clear();
                for slice in all {
                    self.put(slice);
                }
                self.all()
            }
            Told::One(slice) => {
                let mut affected = self.service_of(&slice.name);
                affected.insert(slice.service.clone());
                self.change(affected, |this| {
                    this.drop_slice(&slice.name);
                    this.put(slice);
                })
            }
            Told::Gone(name) => self.change(self.service_of(&name), |this| this.drop_slice(&name)),
        }
    }

    fn all(&self) -> News {
        match (&self.services, &self.slices) {
            (Some(services), Some(_)) => vec![Told::All(services.keys().filter_map(|name| self.fact(name)).collect())],
            _ => Vec::new(),
        }
    }

    /// What a change makes of these services.
    fn change(&mut self, affected: BTreeSet<String>, change: impl FnOnce(&mut Self)) -> News {
        let before: Vec<_> = affected.into_iter().map(|name| (self.fact(&name), name)).collect();
        change(self);
        let news = before.into_iter().filter_map(|(before, name)| match self.fact(&name) {
            after if after == before => None,
            Some(after) => Some(Told::One(after)),
            None => Some(Told::Gone(name)),
        });
        news.collect()
    }

    fn service_of(&self, slice: &str) -> BTreeSet<String> {
        self.slices.as_ref().and_then(|slices| slices.get(slice)).map(|it| it.service.clone()).into_iter().collect()
    }

    fn put(&mut self, slice: Slice) {
        self.slices_of.entry(slice.service.clone()).or_default().insert(slice.name.clone());
        self.slices.get_or_insert_default().insert(slice.name.clone(), slice);
    }

    fn drop_slice(&mut self, name: &str) {
        let Some(slice) = self.slices.as_mut().and_then(|slices| slices.remove(name)) else { return };
        if let Some(names) = self.slices_of.get_mut(&slice.service) {
            names.remove(name);
            if names.is_empty() {
                self.slices_of.remove(&slice.service);
            }
        }
    }

    fn fact(&self, name: &str) -> Option<ServiceFact> {
        let service = self.services.as_ref()?.get(name)?;
        let all = self.slices.as_ref()?;
        let slices: Vec<&Slice> = self.slices_of.get(name).into_iter().flatten().filter_map(|it| all.get(it)).collect();
        let ports = service.ports.iter().map(|port| ServicePort {
            protocol: port.protocol,
            port: port.port,
            backends: backends(port, &slices),
        });
        let (name, addresses) = (service.name.clone(), service.addresses.clone());
        Some(ServiceFact { name, addresses, ports: ports.collect() })
    }
}

/// Where packets to this port may end. As kube-proxy has it, those that terminate still serve while nobody else is ready.
fn backends(port: &Port, slices: &[&Slice]) -> Vec<SocketAddr> {
    let of = |addresses: fn(&Slice) -> &[IpAddr]| -> BTreeSet<SocketAddr> {
        let matching = slices.iter().flat_map(|slice| {
            let ports = slice.ports.iter().filter(|it| it.name == port.name && it.protocol == port.protocol);
            ports.flat_map(move |it| addresses(slice).iter().map(|address| SocketAddr::new(*address, it.port)))
        });
        matching.collect()
    };
    let ready = of(|slice| &slice.ready);
    let any = if ready.is_empty() { of(|slice| &slice.serving) } else { ready };
    any.into_iter().collect()
}

#[cfg(test)]
mod tests;
