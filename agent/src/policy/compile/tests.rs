//! What rows a policy compiles to.

use std::sync::Arc;

use ipnet::IpNet;

use super::*;
use crate::policy::model::{Origin, PortMatch, Rule};
use crate::workload::Selector;

fn origin() -> Origin {
    Origin { file: Arc::new("test.yaml".into()), line: 1, column: 1 }
}

fn rule(peers: &[Peer], ports: Option<&[PortMatch]>) -> Rule {
    Rule { description: None, peers: peers.to_vec(), ports: ports.map(<[_]>::to_vec), origin: origin() }
}

fn group(id: u32, ingress: Vec<Rule>, egress: Option<Vec<Rule>>) -> SecurityGroup {
    SecurityGroup {
        name: format!("g{id}"),
        id: GroupId(id),
        description: None,
        selector: Selector::default(),
        ingress,
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
fn a_rule_sets_its_peer_in_the_classes_of_its_ports_and_nowhere_else() {
    let compiled = compile_all(
        vec![group(1, vec![rule(&[PEER], Some(&[TCP_443])), rule(&[Peer::World], Some(&[ANY_TCP]))], None)],
        &[&[1]],
    );
    let (subject, _) = compiled.subjects[&set(&[1])];
    let slot = compiled.slots[&PEER];
    let allows = |class: u16, slot: u16| {
        compiled.rows.get(&RowKey::new(0, subject, Direction::Ingress, class)).is_some_and(|row| row.allows(slot))
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
    assert!(compiled.rows[&row].allows(compiled.slots[&PEER]) && compiled.rows[&row].allows(SLOT_HOST));
    let named = |slot| compiled.rules[&RuleKey { row, slot, reserved: 0 }].rule;
    assert_ne!(named(compiled.slots[&PEER]), named(SLOT_HOST));
}

#[test]
fn only_rules_of_local_subjects_take_slots() {
    let cidr =
        |index: u32| Peer::Cidr(format!("10.{}.{}.0/24", index / 256, index % 256).parse::<IpNet>().expect("a CIDR"));
    let remote = group(2, vec![rule(&(0..6_000).map(cidr).collect::<Vec<_>>(), None)], None);
    let compiled = compile_all(vec![group(1, vec![rule(&[PEER], None)], None), remote.clone()], &[&[1]]);
    assert_eq!(compiled.slots.len(), 1);

    let policy = PolicySet { groups: vec![remote], ..PolicySet::default() };
    let refused = compile(&policy, &BTreeSet::from([set(&[2])]), &mut RuleNumbers::default());
    assert!(matches!(refused, Err(TooLarge::Slots(_))), "{refused:?}");
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
