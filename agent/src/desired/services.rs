//! Services: whom each of their ports stands for, and under which port those know themselves.

use std::net::IpAddr;

use bulkhead_ebpf::abi::{Frontend, Identity, PortIndex};

use crate::source::ServiceFact;
use crate::workload::cluster::{Cluster, stands};

/// One port of a service that can be judged as that of its back ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The service's name.
    pub name: String,
    /// Where clients send to.
    pub frontends: Vec<Frontend>,
    /// The port at which all of its back ends listen.
    pub service: PortIndex,
}

/// Every port of every service, with what all of its back ends are.
pub(super) fn resolve(
    cluster: &Cluster,
    warnings: &mut Vec<String>,
    meaning_at: impl Fn(IpAddr) -> Identity,
) -> Vec<(Resolved, Identity)> {
    cluster.services().flat_map(|fact| resolve_one(fact, warnings, &meaning_at)).collect()
}

/// Every port of one service.
pub(super) fn resolve_one(
    fact: &ServiceFact,
    warnings: &mut Vec<String>,
    meaning_at: impl Fn(IpAddr) -> Identity,
) -> Vec<(Resolved, Identity)> {
    let mut ports = Vec::new();
    for stand in stands(fact) {
        let Some(service) = stand.service else {
            warnings.push(format!(
                "back ends of service {} listen at different ports behind one: what is sent there is denied to whoever may \
                 not send to the service's address itself; give all of them the same port",
                fact.name
            ));
            continue;
        };
        let meaning = common(stand.backends.iter().map(|address| meaning_at(*address)));
        ports.push((Resolved { name: fact.name.clone(), frontends: stand.frontends, service }, meaning));
    }
    ports
}

/// What may be said of whoever is one of several: only what holds for all is allowed, and what is denied to one is denied.
fn common(mut each: impl Iterator<Item = Identity>) -> Identity {
    let Some(first) = each.next() else { return Identity::NOBODY };
    // Nobody asks a peer for its own rules.
    let mut all = Identity { subject: 0, flags: first.flags & Identity::GUARDED, ..first };
    for identity in each {
        let theirs = &identity.slots[..usize::from(identity.count)];
        let mut slots = Identity::NOBODY.slots;
        let mut count = 0;
        for slot in all.slots.iter().take(usize::from(all.count)).filter(|slot| theirs.contains(slot)) {
            slots[usize::from(count)] = *slot;
            count += 1;
        }
        (all.slots, all.count) = (slots, count);
        all.denied.add(&identity.denied);
    }
    all
}

#[cfg(test)]
mod tests;
