//! What the tables hold for small policies.

use std::net::IpAddr;

use bulkhead_ebpf::abi::{Denied, MAX_IDENTITY_SLOTS, SLOT_HOST, SLOT_WORLD};

use super::tombstones::Tombstones;
use super::*;
use crate::policy::model::{DenyEntry, Established, GroupId, Guardrail, Mode, Origin, Rule, SecurityGroup};
use crate::workload::cluster::Cluster;
use crate::workload::{Requirement, Selector, SourceKind};

fn origin() -> Origin {
    Origin { file: Arc::new("test.yaml".into()), line: 1, column: 1 }
}

pub(super) fn group(id: u32, app: &str, peers: &[Peer]) -> SecurityGroup {
    SecurityGroup {
        name: app.to_owned(),
        id: GroupId(id),
        description: None,
        selector: Selector { requirements: vec![Requirement::In("app".to_owned(), vec![app.to_owned()])] },
        ingress: Some(vec![Rule {
            description: None,
            peers: peers.to_vec(),
            ports: None,
            named: Vec::new(),
            origin: origin(),
        }]),
        egress: None,
        mode: Mode::Enforce,
        established: Established::Revoke,
        origin: origin(),
    }
}

/// Who sends and who receives; `None` is anyone.
pub(super) type Sides<'a> = (Option<&'a [Peer]>, Option<&'a [Peer]>);

/// A guardrail whose entries have these sides.
pub(super) fn guardrail(entries: &[Sides<'_>]) -> Guardrail {
    let entry = |(from, to): &Sides<'_>| DenyEntry {
        description: None,
        from: from.map(<[_]>::to_vec),
        to: to.map(<[_]>::to_vec),
        ports: None,
        origin: origin(),
    };
    let entries = entries.iter().map(entry).collect();
    Guardrail { name: "rail".to_owned(), description: None, entries, origin: origin() }
}

pub(super) fn workload(name: &str, app: &str, address: &str, cgroup: Option<u64>) -> Workload {
    Workload {
        name: name.into(),
        source: SourceKind::File,
        labels: Arc::new([("app".to_owned(), app.to_owned())].into()),
        cgroup: cgroup.map(|id| CgroupRef { path: name.to_owned(), id }),
        interface: None,
        addresses: [ip(address)].into(),
        local: cgroup.is_some(),
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal")
}

pub(super) fn cidr(text: &str) -> Peer {
    Peer::Cidr(text.parse().expect("a literal"))
}

fn compute(groups: Vec<SecurityGroup>, workloads: &[Workload], numbers: &mut Numbers) -> Desired {
    compute_after(groups, workloads, numbers, &Nothing)
}

fn compute_after(
    groups: Vec<SecurityGroup>,
    workloads: &[Workload],
    numbers: &mut Numbers,
    before: &impl Held,
) -> Desired {
    of_policy(PolicySet { groups, ..PolicySet::default() }, workloads, numbers, before)
}

fn of_policy(policy: PolicySet, workloads: &[Workload], numbers: &mut Numbers, before: &impl Held) -> Desired {
    let policy = Arc::new(policy);
    let hosts = BTreeSet::from([ip("10.0.0.1"), ip("127.0.0.1")]);
    desired(
        Inputs {
            policy: &policy,
            policy_is_new: true,
            workloads,
            host_addresses: &hosts,
            scopes: &[],
            cluster: &Cluster::default(),
        },
        numbers,
        before,
    )
    .expect("a small policy")
}

impl Held for Contents {
    fn address(&self, address: &Address) -> Option<Party> {
        self.addresses.get(address).copied()
    }

    fn addresses(&self) -> impl Iterator<Item = (Address, Party)> {
        self.addresses.iter().map(|(address, party)| (*address, *party))
    }

    fn prefix(&self, prefix: &PrefixKey) -> Option<Party> {
        self.cidrs.get(prefix).copied()
    }

    fn cgroup(&self, id: u64) -> Option<Place> {
        self.cgroups.get(&id).copied()
    }

    fn interface(&self, index: u32) -> Option<Place> {
        self.interfaces.get(&index).copied()
    }

    fn backends(&self, frontend: &Frontend) -> Option<Backends> {
        self.services.get(frontend).copied()
    }

    fn meaning(&self, identity: u32) -> Option<Identity> {
        self.identities.get(&identity).copied()
    }
}

/// The slots behind an address.
fn slots(desired: &Desired, address: &str) -> Vec<u16> {
    let identity = identity(desired, address);
    identity.slots[..usize::from(identity.count)].to_vec()
}

/// Who is behind an address, as the kernel would find out: exact, else the longest prefix, else the world.
fn identity(desired: &Desired, address: &str) -> Identity {
    let address = Address::from(ip(address));
    let contents = &desired.contents;
    let prefix = || {
        (0..=128).rev().find_map(|bits| {
            contents.cidrs.iter().find(|(key, _)| key.bits == bits && covers(bits, &key.network, &address))
        })
    };
    let party = contents.addresses.get(&address).copied().or_else(|| prefix().map(|(_, party)| *party));
    contents.identities[&party.unwrap_or(Party::WORLD).identity]
}

fn covers(bits: u32, net: &Address, address: &Address) -> bool {
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    u128::from_be_bytes(net.octets()) & mask == u128::from_be_bytes(address.octets()) & mask
}

#[test]
fn an_exact_address_carries_its_groups_and_every_cidr_that_covers_it() {
    let peers = [cidr("10.0.0.0/8"), cidr("10.0.0.0/24"), cidr("0.0.0.0/0"), cidr("::/0"), Peer::World, Peer::Host];
    let mut web = group(2, "web", &peers);
    web.ingress.as_mut().expect("rules")[0].peers.push(Peer::Group(GroupId(3)));
    let desired = compute(
        vec![web, group(3, "api", &[])],
        &[workload("web-1", "web", "10.0.0.2", Some(7)), workload("api-1", "api", "10.0.0.3", None)],
        &mut Numbers::default(),
    );
    let slot = |peer: &Peer| desired.contents.policy.slots[peer];
    let nets = [cidr("10.0.0.0/24"), cidr("10.0.0.0/8"), cidr("0.0.0.0/0")].map(|peer| slot(&peer));
    assert_eq!(slots(&desired, "10.0.0.3"), [&[slot(&Peer::Group(GroupId(3)))], &nets[..]].concat());
    assert_eq!(slots(&desired, "10.0.0.2"), nets);
    assert_eq!(slots(&desired, "10.0.0.1"), [&nets[..], &[SLOT_HOST]].concat());
    assert_eq!(slots(&desired, "10.0.0.99"), [&nets[..], &[SLOT_WORLD]].concat());
    assert_eq!(slots(&desired, "10.9.0.1"), [&nets[1..], &[SLOT_WORLD]].concat());
    assert_eq!(slots(&desired, "192.0.2.1"), [nets[2], SLOT_WORLD]);
    assert_eq!(slots(&desired, "2001:db8::1"), [slot(&cidr("::/0")), SLOT_WORLD]);
}

#[test]
fn all_of_ipv6_is_not_all_of_ipv4() {
    let desired = compute(
        vec![group(2, "web", &[cidr("::/0"), Peer::World])],
        &[workload("web-1", "web", "10.0.0.2", Some(7))],
        &mut Numbers::default(),
    );
    assert_eq!(slots(&desired, "192.0.2.1"), [SLOT_WORLD]);
    assert_eq!(slots(&desired, "2001:db8::1").len(), 2);
}

#[test]
fn a_workload_is_governed_where_a_group_selects_it_and_its_numbers_stay() {
    let mut numbers = Numbers::default();
    let workloads = [workload("web-1", "web", "10.0.0.2", Some(7)), workload("free", "none", "10.0.0.4", Some(8))];
    let before = compute(vec![group(2, "web", &[Peer::Host])], &workloads, &mut numbers);
    let identity =
        |desired: &Desired, cgroup: u64| desired.contents.identities[&desired.contents.cgroups[&cgroup].identity];
    assert!(identity(&before, 7).has(Identity::GOVERNED) && !identity(&before, 8).has(Identity::GOVERNED));
    assert_eq!(before.contents.cgroups[&7].flags & !Place::NAME, Place::STRICT_SOURCE);

    let again = compute_after(vec![group(2, "web", &[Peer::Host])], &workloads, &mut numbers, &before.contents);
    assert!(Arc::ptr_eq(&before.contents.policy, &again.contents.policy));
    assert_eq!(before.contents.cgroups, again.contents.cgroups);
    assert_eq!(before.contents.addresses, again.contents.addresses);
}

#[test]
fn a_later_agent_knows_a_workload_again_by_its_name_where_it_was() {
    let groups = || vec![group(2, "web", &[Peer::Host])];
    let (web, other) = (workload("web", "web", "10.0.0.2", Some(7)), workload("other", "web", "10.0.0.3", None));
    let before = compute(groups(), &[web.clone(), other.clone()], &mut Numbers::default());
    let later = |workloads: &[Workload]| {
        let mut numbers = Numbers::above(2, 1..=10, Tombstones::default());
        compute_after(groups(), workloads, &mut numbers, &before.contents).contents
    };
    let same = later(&[other.clone(), web.clone()]);
    assert_eq!((&same.cgroups, &same.addresses), (&before.contents.cgroups, &before.contents.addresses));
    // Somebody else in its place, and the same name in another place.
    let taken = later(&[Workload { name: "heir".into(), ..web.clone() }, Workload { name: "web".into(), ..other }]);
    assert_eq!((taken.cgroups[&7].workload, taken.addresses[&Address::from(ip("10.0.0.2"))].workload), (3, 3));
    assert_eq!(taken.addresses[&Address::from(ip("10.0.0.3"))].workload, 4);
}

#[test]
fn a_deny_entry_names_whoever_is_on_its_sides_governed_or_not() {
    let web = Peer::Group(GroupId(2));
    let rail = guardrail(&[
        (Some(&[cidr("10.0.0.0/30")]), Some(&[Peer::Host])),
        (Some(&[web]), None),
        (None, Some(&[cidr("10.0.0.4/32"), Peer::World])),
    ]);
    let policy = PolicySet { groups: vec![group(2, "web", &[])], guardrails: vec![rail], ..PolicySet::default() };
    let workloads = [workload("web-1", "web", "10.0.0.2", Some(7)), workload("free", "none", "10.0.0.4", Some(8))];
    let desired = of_policy(policy, &workloads, &mut Numbers::default(), &Nothing);
    let sides = |Denied { from, to }: Denied| [from[0], to[0]].map(|word| format!("{word:03b}"));
    let at = |address: &str| sides(identity(&desired, address).denied);
    assert_eq!(at("10.0.0.2"), ["111", "010"]);
    assert_eq!(at("10.0.0.4"), ["100", "110"]);
    assert_eq!(at("10.0.0.1"), ["101", "011"]);
    assert_eq!(at("10.0.0.3"), ["101", "110"], "an address that nobody holds");
    assert_eq!(at("192.0.2.1"), ["100", "110"]);
    let in_cgroup = |id: u64| desired.contents.identities[&desired.contents.cgroups[&id].identity];
    assert_eq!(sides(in_cgroup(7).denied), ["110", "010"]);
    assert_eq!(sides(in_cgroup(8).denied), ["100", "010"]);
    assert!(in_cgroup(8).has(Identity::GUARDED) && !in_cgroup(8).has(Identity::GOVERNED));
    assert_eq!(in_cgroup(8).count, 0, "a guardrail's peers take no slots");
}

#[test]
fn an_address_that_two_workloads_claim_is_denied_what_is_denied_to_one_of_them() {
    let rail = guardrail(&[(Some(&[Peer::Group(GroupId(2))]), None), (Some(&[Peer::Group(GroupId(3))]), None)]);
    let groups = vec![group(2, "web", &[]), group(3, "api", &[])];
    let policy = PolicySet { groups, guardrails: vec![rail], ..PolicySet::default() };
    let workloads = [workload("a", "web", "10.0.0.2", Some(7)), workload("b", "api", "10.0.0.2", Some(8))];
    let desired = of_policy(policy, &workloads, &mut Numbers::default(), &Nothing);
    assert_eq!(identity(&desired, "10.0.0.2").denied.from[0], 0b11);
}

#[test]
fn an_address_that_two_workloads_claim_has_only_what_both_share() {
    let mut web = group(2, "web", &[Peer::Group(GroupId(2)), Peer::Group(GroupId(3))]);
    web.selector = Selector::default();
    let desired = compute(
        vec![web, group(3, "api", &[])],
        &[workload("a", "web", "10.0.0.2", Some(7)), workload("b", "api", "10.0.0.2", Some(8))],
        &mut Numbers::default(),
    );
    assert_eq!(slots(&desired, "10.0.0.2"), [desired.contents.policy.slots[&Peer::Group(GroupId(2))]]);
    assert_eq!(desired.contents.cgroups[&7].flags & !Place::NAME, 0, "nobody can be held to an address that two claim");
    assert_eq!(desired.state.warnings.len(), 1);
}

#[test]
fn a_workload_in_more_groups_than_fit_is_denied_altogether() {
    let ids = 2..(3 + u32::try_from(MAX_IDENTITY_SLOTS).expect("a small constant"));
    let peers: Vec<Peer> = ids.clone().map(|id| Peer::Group(GroupId(id))).collect();
    let groups = ids.map(|id| SecurityGroup { name: format!("g{id}"), ..group(id, "web", &peers) }).collect();
    let desired = compute(groups, &[workload("web-1", "web", "10.0.0.2", Some(7))], &mut Numbers::default());
    let identity = desired.contents.identities[&desired.contents.cgroups[&7].identity];
    assert!(identity.has(Identity::GOVERNED | Identity::FULL));
    assert!(desired.state.warnings[0].contains("web-1"));
}

#[test]
fn an_address_that_leaves_a_workload_is_nobodys_until_its_time_is_over_or_somebody_has_it() {
    let mut numbers = Numbers::above(0, [], Tombstones::new(std::time::Duration::from_secs(600), 10));
    let groups = || vec![group(1, "web", &[Peer::World, cidr("10.0.0.0/8"), Peer::Group(GroupId(1))])];
    let (web, other) = (workload("w", "web", "10.0.0.2", Some(7)), workload("o", "web", "10.0.0.3", Some(8)));
    let party = |desired: &Desired| desired.contents.addresses.get(&Address::from(ip("10.0.0.2"))).copied();
    let before = compute(groups(), &[web.clone(), other.clone()], &mut numbers);
    let gone = compute_after(groups(), std::slice::from_ref(&other), &mut numbers, &before.contents);
    let left = party(&gone).expect("an entry stays");
    assert_eq!((left.workload, left.flags), (0, Party::TOMBSTONE));
    let in_cidr = gone.contents.policy.slots[&cidr("10.0.0.0/8")];
    assert_eq!(slots(&gone, "10.0.0.2"), [in_cidr], "neither a group's member nor the world");
    let back = compute_after(groups(), &[web, other.clone()], &mut numbers, &gone.contents);
    assert!(
        party(&back).is_some_and(|party| party.flags & !Party::NAME == Party::LOCAL) && numbers.tombstones.is_empty()
    );
    let gone = compute_after(groups(), std::slice::from_ref(&other), &mut numbers, &back.contents);
    assert_eq!(numbers.tombstones.advance(std::time::Duration::from_secs(600)), [ip("10.0.0.2")]);
    let over = compute_after(groups(), &[other], &mut numbers, &gone.contents);
    assert_eq!(party(&over), None);
}
