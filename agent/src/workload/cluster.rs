//! What the Kubernetes API tells of a cluster beside pods: addresses of nodes, and services with who stands behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bulkhead_ebpf::abi::{Address, Frontend, PortIndex};

use super::registry::Touched;
use crate::source::{NodeFact, ServiceFact, ServicePort, Told};

/// Nodes and services, newest word only.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, BTreeSet<IpAddr>>,
    node_addresses: BTreeMap<IpAddr, usize>,
    services: BTreeMap<String, ServiceFact>,
    service_addresses: BTreeMap<IpAddr, usize>,
    /// Which services an address stands behind: hardly ever more than one.
    behind: HashMap<IpAddr, Vec<Arc<str>>>,
}

impl Cluster {
    /// Takes word on nodes, and says what it may have changed.
    pub fn tell_nodes(&mut self, told: Told<NodeFact>) -> Touched {
        let mut addresses = BTreeSet::new();
        match told {
            Told::One(fact) => self.put_node(fact, &mut addresses),
            Told::Gone(name) => self.forget_node(&name, &mut addresses),
            Told::All(facts) => {
                let named: BTreeSet<&String> = facts.iter().map(|fact| &fact.name).collect();
                let gone: Vec<String> = self.nodes.keys().filter(|name| !named.contains(name)).cloned().collect();
                gone.iter().for_each(|name| self.forget_node(name, &mut addresses));
                facts.into_iter().for_each(|fact| self.put_node(fact, &mut addresses));
            }
        }
        Touched { host_addresses: addresses, ..Touched::default() }
    }

    /// Takes word on services, and says what it may have changed.
    pub fn tell_services(&mut self, told: Told<ServiceFact>) -> Touched {
        let mut touched = Touched::default();
        match told {
            Told::One(fact) => self.put_service(fact, &mut touched),
            Told::Gone(name) => self.forget_service(&name, &mut touched),
            Told::All(facts) => {
                let named: BTreeSet<&String> = facts.iter().map(|fact| &fact.name).collect();
                let gone: Vec<String> = self.services.keys().filter(|name| !named.contains(name)).cloned().collect();
                gone.iter().for_each(|name| self.forget_service(name, &mut touched));
                facts.into_iter().for_each(|fact| self.put_service(fact, &mut touched));
            }
        }
        touched
    }

    /// Every node, by name, with its addresses.
    pub fn nodes(&self) -> impl Iterator<Item = (&String, Vec<IpAddr>)> {
        self.nodes.iter().map(|(name, addresses)| (name, addresses.iter().copied().collect()))
    }

    /// Every address of a node, this host's among them.
    pub fn node_addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.node_addresses.keys()
    }

    /// Whether an address is a node's.
    #[must_use]
    pub fn is_node_address(&self, address: &IpAddr) -> bool {
        self.node_addresses.contains_key(address)
    }

    /// Every address of a service.
    pub fn service_addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.service_addresses.keys()
    }

    /// Whether an address is a service's.
    #[must_use]
    pub fn is_service_address(&self, address: &IpAddr) -> bool {
        self.service_addresses.contains_key(address)
    }

    /// Every service.
    pub fn services(&self) -> impl Iterator<Item = &ServiceFact> {
        self.services.values()
    }

    /// A service, by its name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceFact> {
        self.services.get(name)
    }

    /// Names of the services that an address stands behind.
    pub fn services_before(&self, address: &IpAddr) -> impl Iterator<Item = &str> {
        self.behind.get(address).into_iter().flatten().map(AsRef::as_ref)
    }

    /// Whether another service has one of its addresses with the same port: then the last of them by name stands there.
    #[must_use]
    pub fn is_contested(&self, fact: &ServiceFact) -> bool {
        let own = usize::from(self.services.contains_key(&fact.name));
        let is_shared = |address: &IpAddr| self.service_addresses.get(address).is_some_and(|count| *count > own);
        let port_of = |port: &ServicePort| (port.protocol, port.port);
        let contests = |other: &ServiceFact| {
            other.name != fact.name
                && other.addresses.iter().any(|address| fact.addresses.contains(address))
                && other.ports.iter().any(|port| fact.ports.iter().any(|own| port_of(own) == port_of(port)))
        };
        fact.addresses.iter().any(is_shared) && self.services.values().any(contests)
    }

    fn put_node(&mut self, fact: NodeFact, changed: &mut BTreeSet<IpAddr>) {
        let addresses: BTreeSet<IpAddr> = fact.addresses.into_iter().collect();
        if self.nodes.get(&fact.name) == Some(&addresses) {
            return;
        }
        self.forget_node(&fact.name, changed);
        addresses.iter().for_each(|address| count(&mut self.node_addresses, *address));
        changed.extend(&addresses);
        self.nodes.insert(fact.name, addresses);
    }

    fn forget_node(&mut self, name: &str, changed: &mut BTreeSet<IpAddr>) {
        let addresses = self.nodes.remove(name).unwrap_or_default();
        addresses.iter().for_each(|address| discount(&mut self.node_addresses, address));
        changed.extend(addresses);
    }

    fn put_service(&mut self, fact: ServiceFact, touched: &mut Touched) {
        if self.services.get(&fact.name) == Some(&fact) {
            return;
        }
        let before = self.services.get(&fact.name).map(|before| before.addresses.clone());
        let has_moved = before.is_none_or(|before| before != fact.addresses);
        let mut of_before = Touched::default();
        self.forget_service(&fact.name, &mut of_before);
        touched.everything |= of_before.everything;
        if has_moved {
            touched.host_addresses.extend(of_before.host_addresses);
            touched.host_addresses.extend(&fact.addresses);
        }
        touched.services.insert(fact.name.clone());
        fact.addresses.iter().for_each(|address| count(&mut self.service_addresses, *address));
        let name: Arc<str> = fact.name.as_str().into();
        for backend in backends(&fact) {
            let before = self.behind.entry(backend.ip()).or_insert_with(|| Vec::with_capacity(1));
            if !before.contains(&name) {
                before.push(name.clone());
            }
        }
        self.services.insert(fact.name.clone(), fact);
    }

    fn forget_service(&mut self, name: &str, touched: &mut Touched) {
        let Some(fact) = self.services.remove(name) else { return };
        fact.addresses.iter().for_each(|address| discount(&mut self.service_addresses, address));
        for backend in backends(&fact) {
            if let Some(before) = self.behind.get_mut(&backend.ip()) {
                before.retain(|other| **other != *name);
                if before.is_empty() {
                    self.behind.remove(&backend.ip());
                }
            }
        }
        // Somebody else stands there from now on.
        touched.everything |= self.is_contested(&fact);
        touched.host_addresses.extend(fact.addresses);
        touched.services.insert(fact.name);
    }
}

/// A port of a service as clients and as its back ends know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// Where clients send to: the port at each of the service's addresses.
    pub frontends: Vec<Frontend>,
    /// The one port at which all back ends listen; `None` where they don't agree.
    pub service: Option<PortIndex>,
    /// Addresses of the back ends; at least one.
    pub backends: Vec<IpAddr>,
}

/// The ports of a service that somebody stands behind.
pub fn stands(fact: &ServiceFact) -> impl Iterator<Item = Stand> {
    fact.ports.iter().filter(|port| !port.backends.is_empty()).map(|port| {
        let at = |address: &IpAddr| Frontend {
            address: Address::from(*address),
            service: PortIndex::new(port.protocol, port.port),
        };
        let first = port.backends[0].port();
        let agree = port.backends.iter().all(|backend| backend.port() == first);
        Stand {
            frontends: fact.addresses.iter().map(at).collect(),
            service: agree.then(|| PortIndex::new(port.protocol, first)),
            backends: port.backends.iter().map(SocketAddr::ip).collect(),
        }
    })
}

fn backends(fact: &ServiceFact) -> impl Iterator<Item = &SocketAddr> {
    fact.ports.iter().flat_map(|port| &port.backends)
}

fn count(addresses: &mut BTreeMap<IpAddr, usize>, address: IpAddr) {
    *addresses.entry(address).or_default() += 1;
}

fn discount(addresses: &mut BTreeMap<IpAddr, usize>, address: &IpAddr) {
    if let Some(count) = addresses.get_mut(address) {
        *count -= 1;
        if *count == 0 {
            addresses.remove(address);
        }
    }
}
