//! A failing case made small: everything is taken away that it fails without.

use std::collections::BTreeSet;
use std::sync::Arc;

use bulkhead::policy::model::{Rule, SecurityGroup};

use crate::model::World;
use crate::world::{Case, Step};

/// The smallest case that can be reached from `case` by taking one thing away at a time, and still fails.
pub fn shrink(case: &Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut smallest = case.clone();
    loop {
        let before = size(&smallest);
        steps(&mut smallest, &mut fails);
        groups(&mut smallest, &mut fails);
        rules(&mut smallest, &mut fails);
        entries(&mut smallest, &mut fails);
        workloads(&mut smallest, &mut fails);
        settings(&mut smallest, &mut fails);
        if size(&smallest) == before {
            return smallest;
        }
    }
}

fn size(case: &Case) -> usize {
    let world = |world: &World| {
        let rules = |group: &SecurityGroup| {
            let size = |rule: &Rule| 1 + rule.peers.len() + rule.ports.as_ref().map_or(0, Vec::len) + rule.named.len();
            group.all_rules().map(size).sum::<usize>()
        };
        let entries = world.policy.guardrails.iter().map(|guardrail| guardrail.entries.len()).sum::<usize>();
        world.workloads.len()
            + world.scopes.len()
            + usize::from(world.denies_midstream)
            + entries
            + world.policy.groups.iter().map(|group| 1 + rules(group)).sum::<usize>()
    };
    let step = |step: &Step| match step {
        Step::Change(to) => 1 + world(to),
        Step::Packet(_) | Step::Onward(_) | Step::Wait(_) => 1,
    };
    world(&case.world) + case.steps.iter().map(step).sum::<usize>()
}

fn attempt(case: &mut Case, fails: &mut impl FnMut(&Case) -> bool, change: impl FnOnce(&mut Case)) -> bool {
    let mut smaller = case.clone();
    change(&mut smaller);
    let still = fails(&smaller);
    if still {
        *case = smaller;
    }
    still
}

fn steps(case: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    for index in (0..case.steps.len()).rev() {
        attempt(case, fails, |case| {
            case.steps.remove(index);
        });
    }
}

fn worlds(case: &mut Case) -> impl Iterator<Item = &mut World> {
    let later = case.steps.iter_mut().filter_map(|step| match step {
        Step::Change(world) => Some(&mut **world),
        Step::Packet(_) | Step::Onward(_) | Step::Wait(_) => None,
    });
    [&mut case.world].into_iter().chain(later)
}

/// Every group by its ID, in all worlds at once, then in each.
fn groups(case: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    let mut ids: Vec<_> = worlds(case).flat_map(|world| world.policy.groups.iter().map(|group| group.id)).collect();
    ids.sort();
    ids.dedup();
    let count = worlds(case).count();
    for id in ids {
        let gone = attempt(case, fails, |case| {
            worlds(case).for_each(|world| world.policy.groups.retain(|group| group.id != id));
        });
        for number in 0..if gone { 0 } else { count } {
            attempt(case, fails, |case| {
                worlds(case).skip(number).take(1).for_each(|world| world.policy.groups.retain(|group| group.id != id));
            });
        }
    }
}

/// Every rule, peer and entry of ports by its place; a change's world follows where it has the same.
fn rules(case: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    let count = worlds(case).count();
    for number in 0..count {
        let groups = worlds(case).nth(number).map_or(0, |world| world.policy.groups.len());
        for group in 0..groups {
            for is_ingress in [true, false] {
                for rule in (0..8).rev() {
                    attempt_rules(case, fails, number, group, is_ingress, |rules| {
                        (rule < rules.len()).then(|| rules.remove(rule)).is_some()
                    });
                    for entry in (0..3).rev() {
                        attempt_rules(case, fails, number, group, is_ingress, |rules| {
                            let peers = rules.get_mut(rule).map(|rule| &mut rule.peers);
                            peers.is_some_and(|peers| {
                                peers.len() > 1 && entry < peers.len() && {
                                    peers.remove(entry);
                                    true
                                }
                            })
                        });
                        attempt_rules(case, fails, number, group, is_ingress, |rules| {
                            let named = rules.get_mut(rule).map(|rule| &mut rule.named);
                            named.is_some_and(|named| (entry < named.len()).then(|| named.remove(entry)).is_some())
                        });
                        attempt_rules(case, fails, number, group, is_ingress, |rules| {
                            let ports = rules.get_mut(rule).and_then(|rule| rule.ports.as_mut());
                            ports.is_some_and(|ports| {
                                ports.len() > 1 && entry < ports.len() && {
                                    ports.remove(entry);
                                    true
                                }
                            })
                        });
                    }
                }
            }
        }
    }
}

fn attempt_rules(
    case: &mut Case,
    fails: &mut impl FnMut(&Case) -> bool,
    number: usize,
    group: usize,
    is_ingress: bool,
    change: impl FnOnce(&mut Vec<Rule>) -> bool,
) {
    let mut smaller = case.clone();
    let Some(world) = worlds(&mut smaller).nth(number) else { return };
    let Some(group) = world.policy.groups.get_mut(group) else { return };
    let rules = if is_ingress { group.ingress.as_mut() } else { group.egress.as_mut() };
    if rules.is_some_and(change) && fails(&smaller) {
        *case = smaller;
    }
}

/// Every deny entry by its place.
fn entries(case: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    let count = worlds(case).count();
    for number in 0..count {
        let lengths: Vec<usize> = worlds(case).nth(number).map_or_else(Vec::new, |world| {
            world.policy.guardrails.iter().map(|guardrail| guardrail.entries.len()).collect()
        });
        for (guardrail, length) in lengths.into_iter().enumerate() {
            for entry in (0..length).rev() {
                attempt(case, fails, |case| {
                    let world = worlds(case).nth(number).expect("counted above");
                    world.policy.guardrails[guardrail].entries.remove(entry);
                });
            }
        }
    }
}

/// Every workload by its name, in all worlds at once.
fn workloads(case: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    let all = worlds(case).flat_map(|world| world.workloads.iter().map(|workload| workload.name.clone()));
    let names: BTreeSet<Arc<str>> = all.collect();
    for name in names {
        attempt(case, fails, |case| {
            worlds(case).for_each(|world| world.workloads.retain(|workload| workload.name != name));
        });
    }
}

/// Every managed scope by its cgroup, and the setting for segments in mid-stream, in all worlds at once.
fn settings(case: &mut Case, fails: &mut impl FnMut(&Case) -> bool) {
    let all = worlds(case).flat_map(|world| world.scopes.iter().map(|scope| scope.cgroup.path.clone()));
    let paths: BTreeSet<String> = all.collect();
    for path in paths {
        attempt(case, fails, |case| {
            worlds(case).for_each(|world| world.scopes.retain(|scope| scope.cgroup.path != path));
        });
    }
    if case.world.denies_midstream {
        attempt(case, fails, |case| worlds(case).for_each(|world| world.denies_midstream = false));
    }
}
