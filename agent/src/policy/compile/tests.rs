//! What rows a policy compiles to.

use std::sync::Arc;

use ipnet::IpNet;

use super::*;
use crate::policy::model::{Guardrail, NamedPort, Origin, PortMatch, PortOf, Rule};
use crate::workload::Selector;

fn origin() -> Origin {
    Origin { file: Arc::new("test.yaml".into()), line: 1, column: 1 }
}

fn rule(peers: &[Peer], ports: Option<&[PortMatch]>) -> Rule {
    Rule {
        description: None,
        peers: peers.to_vec(),
        ports: ports.map(<[_]>::to_vec),
        named: Vec::new(),
        origin: origin(),
    }
}

fn group(id: u32, ingress: impl Into<Option<Vec<Rule>>>, egress: Option<Vec<Rule>>) -> SecurityGroup {
    SecurityGroup {
        name: format!("g{id}"),
        id: GroupId(id),
        description: None,
        selector: Selector::default(),
        ingress: ingress.into(),
        egress,
        mode: Mode::Enforce,
        established: Established::Revoke,
        origin: origin(),
    }
}

fn set(ids: &[u32]) -> GroupSet {
    ids.iter().copied().map(GroupId).collect()
}

fn compile_all(groups: Vec<SecurityGroup>, sets: &[&[u32]]) -> CompiledPolicy {
    let policy = PolicySet { groups, ..PolicySet::default() };
    let sets = sets.iter().map(|ids| set(ids)).collect();
    compile(&policy, &sets, &mut RuleNumbers::default()).expect("a small policy")
}

const TCP_443: PortMatch = PortMatch::Ports { protocol: 6, first: 443, last: 443 };
const ANY_TCP: PortMatch = PortMatch::Ports { protocol: 6, first: 0, last: 65_535 };
const PEER: Peer = Peer::Group(GroupId(7));

#[test]
fn a_named_port_holds_for_the_subjects_and_the_peers_that_have_it() {
    let port = |number| PortMatch::Ports { protocol: 6, first: number, last: number };
    let mut ingress = rule(&[PEER], Some(&[]));
    ingress.named = [(80, 21), (81, 22), (82, 23)]
        .map(|(number, group)| NamedPort { port: port(number), of: PortOf::Subjects(GroupId(group)) })
        .into();
    let mut egress = rule(&[Peer::World], Some(&[]));
    egress.named = vec![NamedPort { port: port(83), of: PortOf::Peers(vec![Peer::Host]) }];
    let marker = |id| group(id, None, None);
    let groups = vec![group(1, vec![ingress], Some(vec![egress])), marker(21), marker(22), marker(23)];
    let compiled = compile_all(groups, &[&[1], &[1, 21], &[1, 22], &[22]]);
    let classes = |ids: &[u32], direction| {
        let (subject, _) = compiled.subjects[&set(ids)];
        let number = |number| compiled.ports.of(&port(number))[0];
        let has = |at: &u16| compiled.rows.contains_key(&RowKey::new(0, subject, direction, number(*at)));
        [80, 81, 83].into_iter().filter(has).collect::<Vec<u16>>()
    };
    assert_eq!(classes(&[1], Direction::Ingress), [0_u16; 0]);
    assert_eq!(classes(&[1, 21], Direction::Ingress), [80]);
    assert_eq!(classes(&[1, 22], Direction::Ingress), [81]);
    assert_eq!(classes(&[22], Direction::Ingress), [0_u16; 0]);
    assert_eq!(classes(&[1, 22], Direction::Egress), [83]);
    assert_eq!(compiled.slots.keys().collect::<Vec<_>>(), [&PEER, &Peer::Host], "of the parts alone that count here");
}

#[test]
fn a_rule_sets_its_peer_in_the_classes_of_its_ports_and_nowhere_else() {
    let compiled = compile_all(
        vec![group(1, vec![rule(&[PEER], Some(&[TCP_443])), rule(&[Peer::World], Some(&[ANY_TCP]))], None)],
        &[&[1]],
    );
    let (subject, _) = compiled.subjects[&set(&[1])];
    let slot = compiled.slots[&PEER];
    let allows = |class: u16, slot: u16| {
        compiled.rows.get(&RowKey::new(0, subject, Direction::Ingress, class)).is_some_and(|row| row.may_allow(slot))
    };
    let https = compiled.ports.of(&TCP_443)[0];
    for class in compiled.ports.of(&ANY_TCP) {
        assert_eq!(allows(*class, slot), *class == https);
        assert!(allows(*class, SLOT_WORLD));
    }
    assert!(!allows(CLASS_ANY, slot));
    assert!(compiled.rows.keys().all(|key| key.direction == Direction::Ingress as u8));
}

#[test]
fn the_groups_of_a_workload_add_up_and_the_first_rule_gives_its_name() {
    let compiled = compile_all(
        vec![group(1, vec![rule(&[PEER], None)], None), group(2, vec![rule(&[PEER, Peer::Host], None)], None)],
        &[&[1, 2], &[2]],
    );
    let (both, _) = compiled.subjects[&set(&[1, 2])];
    let row = RowKey::new(0, both, Direction::Ingress, CLASS_ANY);
    assert!(compiled.rows[&row].may_allow(compiled.slots[&PEER]) && compiled.rows[&row].may_allow(SLOT_HOST));
    let named = |slot| compiled.rules[&RuleKey { row, slot, reserved: 0 }].rule;
    assert_ne!(named(compiled.slots[&PEER]), named(SLOT_HOST));
}

#[test]
fn only_rules_of_local_subjects_take_slots() {
    let cidr = |index: u32| Peer::Cidr(IpNet::from(std::net::IpAddr::from(index.to_be_bytes())));
    let remote = group(2, vec![rule(&(0..65_533).map(cidr).collect::<Vec<_>>(), None)], None);
    let compiled = compile_all(vec![group(1, vec![rule(&[PEER], None)], None), remote.clone()], &[&[1]]);
    assert_eq!(compiled.slots.len(), 1);

    let policy = PolicySet { groups: vec![remote], ..PolicySet::default() };
    let refused = compile(&policy, &BTreeSet::from([set(&[2])]), &mut RuleNumbers::default());
    assert!(matches!(refused, Err(TooLarge::Slots(65_536))), "{refused:?}");
}

#[test]
fn ten_thousand_local_groups_with_ten_rules_each_fit() {
    const GROUPS: u32 = 10_000;
    let rules = |id: u32| {
        let port =
            |index: u32| PortMatch::Ports { protocol: 6, first: 8_000 + index as u16, last: 8_000 + index as u16 };
        let peer = |index: u32| Peer::Group(GroupId((id * 7 + index * 13) % GROUPS));
        (0..10).map(|index| rule(&[peer(index)], Some(&[port(index)]))).collect::<Vec<_>>()
    };
    let groups = (0..GROUPS).map(|id| group(id, rules(id), None)).collect();
    let policy = PolicySet { groups, ..PolicySet::default() };
    let sets: BTreeSet<GroupSet> = (0..GROUPS).map(|id| set(&[id])).collect();
    let began = std::time::Instant::now();
    let compiled = compile(&policy, &sets, &mut RuleNumbers::default()).expect("the policy fits");
    assert!(began.elapsed().as_secs() < 20, "compiling does not grow with the square of the groups");
    assert_eq!((compiled.rows.len(), compiled.rules.len(), compiled.slots.len()), (100_000, 100_000, 10_000));
    let (row, rule) = compiled.rules.iter().next().map(|(key, rule)| (key, rule.rule)).expect("100,000 of them");
    assert!(compiled.rows[&row.row].may_allow(row.slot) && rule < 100_000);
}

#[test]
fn audit_holds_only_where_every_governing_group_is_in_audit() {
    let audit = |group: SecurityGroup| SecurityGroup { mode: Mode::Audit, ..group };
    let ingress_only = |id| group(id, Vec::new(), None);
    let both = |id| group(id, Vec::new(), Some(Vec::new()));
    for (groups, expected) in [
        (vec![ingress_only(1)], Identity::GOVERNED),
        (vec![audit(ingress_only(1))], Identity::GOVERNED | Identity::AUDIT_INGRESS),
        (vec![both(1)], Identity::GOVERNED | Identity::RESTRICTED_EGRESS),
        (
            vec![audit(both(1)), ingress_only(2)],
            Identity::GOVERNED | Identity::RESTRICTED_EGRESS | Identity::AUDIT_EGRESS,
        ),
        (vec![group(1, None, Some(vec![]))], Identity::GOVERNED | Identity::OPEN_INGRESS | Identity::RESTRICTED_EGRESS),
        (vec![group(1, None, None)], 0),
        (vec![group(1, None, None), ingress_only(2)], Identity::GOVERNED),
        (
            vec![audit(group(1, None, Some(vec![]))), ingress_only(2)],
            Identity::GOVERNED | Identity::RESTRICTED_EGRESS | Identity::AUDIT_EGRESS,
        ),
        (vec![both(1), audit(ingress_only(2))], Identity::GOVERNED | Identity::RESTRICTED_EGRESS),
    ] {
        let references: Vec<&SecurityGroup> = groups.iter().collect();
        assert_eq!(flags(&references), expected, "{groups:?}");
    }
}

#[test]
fn keep_is_on_the_references_of_its_groups_rules() {
    let keep = SecurityGroup { established: Established::Keep, ..group(1, vec![rule(&[PEER], None)], None) };
    let compiled = compile_all(vec![keep, group(2, vec![rule(&[Peer::Host], None)], None)], &[&[1, 2]]);
    for (key, reference) in &compiled.rules {
        assert_eq!(reference.flags & RuleRef::KEEP != 0, key.slot == compiled.slots[&PEER]);
    }
}

fn rails(entries: Vec<DenyEntry>) -> PolicySet {
    let rail = Guardrail { name: "rail".to_owned(), description: None, entries, origin: origin() };
    PolicySet {
        guardrails: vec![rail],
        groups: vec![group(1, vec![rule(&[PEER], Some(&[ANY_TCP]))], None)],
        ..PolicySet::default()
    }
}

fn entry(from: Option<&[Peer]>, ports: Option<&[PortMatch]>) -> DenyEntry {
    let from = from.map(<[_]>::to_vec);
    DenyEntry { description: None, from, to: None, ports: ports.map(<[_]>::to_vec), origin: origin() }
}

#[test]
fn a_deny_entry_is_a_bit_of_its_peers_and_of_its_ports_classes_with_a_number_of_its_own() {
    let policy = rails(vec![entry(Some(&[PEER]), Some(&[TCP_443])), entry(None, None)]);
    let mut numbers = RuleNumbers::default();
    let compiled = compile(&policy, &BTreeSet::from([set(&[1])]), &mut numbers).expect("a small policy");
    assert_eq!(compiled.denied[&PEER].from[0], 0b01);
    assert_eq!(compiled.denied_anyone, Some(Denied { from: [0b10, 0], to: [0b11, 0] }));
    let https = compiled.ports.of(&TCP_443);
    for class in compiled.ports.of(&ANY_TCP) {
        let row = compiled.rows.get(&RowKey::deny(0, *class));
        assert_eq!(row.is_some_and(|row| row.may_allow(0)), https.contains(class));
    }
    assert!(compiled.rows[&RowKey::deny(0, CLASS_ANY)].may_allow(1));
    for index in [0u16, 1] {
        let place = RulePlace::Deny { guardrail: "rail".to_owned(), index: usize::from(index) };
        let key = RuleKey { row: RowKey::deny(0, CLASS_ANY), slot: index, reserved: 0 };
        assert_eq!(compiled.rules[&key].rule, numbers.of(&place));
    }
    assert_eq!(numbers.iter().map(|(_, number)| number).collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn guardrails_with_more_entries_than_bits_are_refused_with_the_figures() {
    let of = |count| compile(&rails(vec![entry(None, None); count]), &BTreeSet::new(), &mut RuleNumbers::default());
    assert!(of(DENY_ENTRIES).is_ok());
    assert_eq!(of(DENY_ENTRIES + 1), Err(TooLarge::DenyEntries(DENY_ENTRIES + 1)));
}
