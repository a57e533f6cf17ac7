//! Random services in front of workloads, of the host and of strangers.

use std::net::{IpAddr, SocketAddr};

use bulkhead::source::{ServiceFact, ServicePort};

use super::policy::PORTS;
use super::{HOST, Random, WORLD, ip};
use crate::model::{TCP, UDP, World};

/// Addresses of services. No workload holds them, and packets go there.
const ADDRESSES: [&str; 2] = ["10.0.0.77", "fd00::77"];

/// Random services, each at its own address; some ports without back ends, and some with several ports behind one.
pub(super) fn services(random: &mut Random, world: &World) -> Vec<ServiceFact> {
    let mut possible: Vec<IpAddr> =
        world.workloads.iter().flat_map(|workload| workload.addresses.iter().copied()).collect();
    possible.extend(HOST.iter().chain(&WORLD).map(|address| ip(address)).filter(|address| !is_services(address)));
    let mut services = Vec::new();
    for address in ADDRESSES.map(ip) {
        if random.chance(20) {
            continue;
        }
        let mut ports: Vec<ServicePort> = Vec::new();
        for _ in 0..1 + random.below(3) {
            let (protocol, port) = (*random.pick(&[TCP, TCP, UDP]), *random.pick(&PORTS));
            if ports.iter().any(|other| (other.protocol, other.port) == (protocol, port)) {
                continue;
            }
            let target = *random.pick(&PORTS);
            let backends = (0..random.below(4)).map(|_| {
                let port = if random.chance(5) { *random.pick(&PORTS) } else { target };
                SocketAddr::new(*random.pick(&possible), port)
            });
            ports.push(ServicePort { protocol, port, backends: backends.collect() });
        }
        services.push(ServiceFact { name: format!("shop/{address}"), addresses: vec![address], ports });
    }
    services
}

fn is_services(address: &IpAddr) -> bool {
    ADDRESSES.iter().any(|of| ip(of) == *address)
}
