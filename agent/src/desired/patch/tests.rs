//! A patch ends where computing everything would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_ebpf::abi::PortIndex;

use super::super::tests::{cidr, group, guardrail, ip};
use super::super::tombstones::Tombstones;
use super::super::{Contents, Desired, Inputs, Nothing, desired};
use super::*;
use crate::config::ManagedScope;
use crate::policy::model::{GroupId, Origin, Peer, PolicySet};
use crate::source::{CgroupFact, Change, LinkFact, NamespaceFact, NodeFact, PodFact, ServiceFact, ServicePort, Told};
use crate::workload::{DeclaredWorkload, Labels};

/// Numbers without a pattern that are the same every time: a multiplicative congruential generator (Lehmer; multiplier of
/// L'Ecuyer 1999, "Tables of linear congruential generators").
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        u32::try_from((self.0 >> 33) % u64::from(bound)).expect("below a 32-bit bound")
    }
}

fn policy() -> Arc<PolicySet> {
    let peers = [Peer::Group(GroupId(2)), Peer::Group(GroupId(3)), cidr("10.0.0.0/29"), Peer::World, Peer::Host];
    let declared = |name: &str, app: &str, cgroup: Option<&str>, interface: Option<&str>| DeclaredWorkload {
        name: name.to_owned(),
        labels: [("app".to_owned(), app.to_owned())].into(),
        cgroup: cgroup.map(str::to_owned),
        interface: interface.map(str::to_owned),
        addresses: Arc::default(),
        origin: Origin { file: Arc::new("test.yaml".into()), line: 1, column: 1 },
    };
    Arc::new(PolicySet {
        groups: vec![group(2, "web", &peers), group(3, "api", &peers[..1])],
        guardrails: vec![guardrail(&[
            (None, Some(&[cidr("10.0.0.0/28"), cidr("10.0.0.3/32")])),
            (Some(&[cidr("10.0.0.8/30"), Peer::Group(GroupId(3))]), Some(&[Peer::Host, Peer::World])),
            (Some(&[cidr("::/0")]), None),
        ])],
        workloads: vec![
            declared("web", "web", Some("shop/web"), Some("veth1")),
            declared("api", "api", Some("shop/api"), None),
            declared("free", "none", None, Some("veth2")),
        ],
        ..PolicySet::default()
    })
}

fn change(dice: &mut Dice) -> Change {
    const CGROUPS: [&str; 9] = [
        "kubepods/poduid0",
        "kubepods/burstable/poduid1",
        "kubepods/burstable/poduid1/container",
        "shop/web",
        "shop/api",
        "shop",
        "system.slice/a.service",
        "system.slice/b.slice",
        "system.slice/b.slice/c.service",
    ];
    const ALIASES: [Option<&str>; 4] = [None, Some("app=web"), Some("app=api"), Some("a note")];
    if dice.below(3) == 0 {
        return of_kubernetes(dice);
    }
    let which = dice.below(9);
    let path = CGROUPS[which as usize].to_owned();
    let index = dice.below(5);
    match dice.below(5) {
        0 => Change::CgroupGone(path),
        1 | 2 => Change::CgroupAppeared(CgroupFact { path, id: u64::from(100 * which + dice.below(3) + 1) }),
        3 => Change::LinkGone(index),
        _ => {
            let mut addresses = || {
                let count = dice.below(3);
                (0..count).map(|_| ip(&format!("10.0.0.{}", dice.below(16)))).collect()
            };
            let (host_addresses, peer_addresses) = (addresses(), addresses());
            Change::LinkChanged(LinkFact {
                index,
                name: format!("veth{}", if dice.below(8) == 0 { 9 } else { index }),
                alias: ALIASES[dice.below(4) as usize].map(str::to_owned),
                host_addresses,
                peer_addresses,
            })
        }
    }
}

/// Word of the Kubernetes API: few names and addresses, so that they meet each other and those of links.
fn of_kubernetes(dice: &mut Dice) -> Change {
    let name = format!("shop/{}", dice.below(3));
    let mut addresses = |from: u32, room: u32, most: u32| -> Vec<IpAddr> {
        let count = dice.below(most + 1);
        (0..count).map(|_| ip(&format!("10.0.0.{}", from + dice.below(room)))).collect()
    };
    let (own, of_node, of_service) = (addresses(8, 12, 2), addresses(6, 20, 1), addresses(26, 3, 1));
    let backends: Vec<SocketAddr> = addresses(0, 26, 3).into_iter().map(|address| (address, 8_080).into()).collect();
    let labels = Labels::from([("app".to_owned(), ["web", "api"][dice.below(2) as usize].to_owned())]);
    match dice.below(12) {
        0 => Change::Namespaces(Told::Gone("shop".to_owned())),
        1 | 2 => Change::Namespaces(Told::One(NamespaceFact { name: "shop".to_owned(), labels: Labels::new() })),
        3 => Change::Pods(Told::Gone(name)),
        4..=7 => {
            let uid = format!("uid{}", dice.below(4));
            Change::Pods(Told::One(PodFact {
                name,
                uid,
                labels: Arc::new(labels),
                addresses: own,
                local: dice.below(2) == 0,
            }))
        }
        8 => Change::Nodes(Told::One(NodeFact { name: format!("node{}", dice.below(2)), addresses: of_node })),
        9 => Change::Services(Told::Gone(name)),
        _ => {
            let mut backends = backends;
            if dice.below(8) == 0 {
                backends.iter_mut().skip(1).for_each(|backend| backend.set_port(8_081));
            }
            // Mostly each at addresses of its own.
            let number = name.bytes().last().expect("a digit");
            let address = |of: &IpAddr| ip(&format!("10.{number}.{}", &of.to_string()[5..]));
            let is_contested = dice.below(3) == 0;
            let addresses = if is_contested { vec![ip("10.9.0.1")] } else { of_service.iter().map(address).collect() };
            Change::Services(Told::One(ServiceFact {
                name,
                addresses,
                ports: vec![ServicePort { protocol: 6, port: 80, backends }],
            }))
        }
    }
}

fn everything(registry: &Registry, policy: &Arc<PolicySet>, numbers: &mut Numbers, held: &impl Held) -> Desired {
    let view = registry.view();
    let inputs = Inputs {
        policy,
        policy_is_new: false,
        workloads: &view.workloads,
        host_addresses: &view.host_addresses,
        scopes: &view.scopes,
        cluster: registry.cluster(),
    };
    desired(inputs, numbers, held).expect("a small policy")
}

/// What tables say once numbers are read: who is where, and what that means.
#[derive(Debug, PartialEq)]
struct Story {
    addresses: BTreeMap<String, (Option<Arc<str>>, u32, Identity)>,
    cgroups: BTreeMap<u64, (Option<Arc<str>>, u32, Identity)>,
    interfaces: BTreeMap<u32, (Option<Arc<str>>, u32, Identity)>,
    services: BTreeMap<String, (PortIndex, Identity)>,
}

fn story(contents: &Contents, state: &State) -> Story {
    let name = |number: &u32| state.by_number.get(number).cloned();
    let of_place = |place: &Place| (name(&place.workload), place.flags, contents.identities[&place.identity]);
    let of_party = |party: &Party| (name(&party.workload), party.flags, contents.identities[&party.identity]);
    Story {
        addresses: contents.addresses.iter().map(|(key, party)| (format!("{key:?}"), of_party(party))).collect(),
        cgroups: contents.cgroups.iter().map(|(key, place)| (*key, of_place(place))).collect(),
        services: contents
            .services
            .iter()
            .map(|(key, backends)| (format!("{key:?}"), (backends.service, contents.identities[&backends.identity])))
            .collect(),
        interfaces: contents.interfaces.iter().map(|(key, place)| (*key, of_place(place))).collect(),
    }
}

fn write<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, entries: impl IntoIterator<Item = (K, Option<V>)>) {
    for (key, value) in entries {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

#[test]
fn after_any_sequence_of_changes_a_patch_ends_where_computing_everything_would() {
    let policy = policy();
    let (mut patches, mut wide, mut most_buried, mut most_services) = (0, 0, 0, 0);
    for seed in 0..100 {
        let mut dice = Dice(seed);
        let scope = |path: &str| ManagedScope { path: path.to_owned(), denies: seed % 2 == 0 };
        let mut registry = Registry::new(vec![scope("system.slice"), scope("kubepods")]).with_pods();
        registry.declare(&policy);
        let mut numbers = Numbers::above(0, [], Tombstones::new(Duration::from_secs(600), 1_000));
        let Desired { mut contents, mut state } = everything(&registry, &policy, &mut numbers, &Nothing);
        for step in 0..60 {
            let change = change(&mut dice);
            let mut touched = registry.take(change.clone());
            touched.host_addresses.extend(numbers.tombstones.advance(Duration::from_secs(60 * step)));
            match state.patch(&touched, &registry, &mut numbers, &contents) {
                Ok(patch) => {
                    patches += 1;
                    contents.identities.extend(patch.identities);
                    write(&mut contents.addresses, patch.addresses);
                    write(&mut contents.services, patch.services);
                    write(&mut contents.cgroups, patch.cgroups);
                    write(&mut contents.interfaces, patch.interfaces);
                }
                Err(TooWide) => {
                    wide += 1;
                    Desired { contents, state } = everything(&registry, &policy, &mut numbers, &contents);
                }
            }
            let is_buried = |_: &Address, party: &mut Party| party.flags & Party::TOMBSTONE != 0;
            let mut others = contents.clone();
            let buried: BTreeSet<IpAddr> =
                others.addresses.extract_if(is_buried).map(|(address, _)| address.into()).collect();
            assert_eq!(buried, numbers.tombstones.iter().collect(), "seed {seed}, step {step}: {change:?}");
            most_buried = most_buried.max(buried.len());
            let whole = everything(&registry, &policy, &mut Numbers::default(), &Nothing);
            let is_of_buried = |fact: &ServiceFact| {
                fact.ports.iter().flat_map(|port| &port.backends).any(|backend| buried.contains(&backend.ip()))
            };
            let unsure: Vec<IpAddr> = registry
                .cluster()
                .services()
                .filter(|fact| is_of_buried(fact))
                .flat_map(|it| it.addresses.clone())
                .collect();
            // Nobody buries anything in a table that is new.
            let mut whole = whole;
            for services in [&mut others.services, &mut whole.contents.services] {
                services.retain(|frontend, _| !unsure.contains(&frontend.address.into()));
            }
            most_services = most_services.max(whole.contents.services.len());
            assert_eq!(
                story(&others, &state),
                story(&whole.contents, &whole.state),
                "seed {seed}, step {step}: {change:?}"
            );
        }
    }
    assert!(patches > 2 * wide, "most changes are patches: {patches} were, {wide} were not");
    assert!(most_services > 1, "services were there");
    assert!(most_buried > 0, "addresses were left");
}
