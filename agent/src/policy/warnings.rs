//! What a valid policy says that its author can hardly have meant.

mod covered;
mod denied;
mod never;

use std::collections::BTreeMap;
use std::net::IpAddr;

use bulkhead_ebpf::abi::Direction;

use super::model::{PolicySet, SecurityGroup};
use super::problem::{Problem, plain};
use crate::workload::port::{MAX_NUMBERS, PortName, is_port};
use crate::workload::{DeclaredWorkload, Requirement, Selector};

/// Warnings, by file, line and column: what can be known without a host.
#[must_use]
pub fn warnings(policy: &PolicySet) -> Vec<Problem> {
    let mut warnings = Vec::new();
    for group in &policy.groups {
        warnings.extend(selects_nobody(group, &policy.workloads));
        for direction in Direction::ALL {
            covered::rules(group, *direction, &mut warnings);
            denied::rules(group, *direction, &policy.guardrails, &mut warnings);
        }
    }
    covered::entries(&policy.guardrails, &mut warnings);
    never::entries(policy, &mut warnings);
    shared_addresses(&policy.workloads, &mut warnings);
    warnings.extend(policy.crowded_names.iter().map(crowded));
    for warning in &mut warnings {
        warning.message = plain(&warning.message);
    }
    warnings.sort_by(|one, other| one.origin.cmp(&other.origin));
    warnings
}

fn selects_nobody(group: &SecurityGroup, workloads: &[DeclaredWorkload]) -> Option<Problem> {
    let (message, cure) = if let Some(why) = contradiction(&group.selector) {
        let message = format!("the selector of group `{}` can't match any workload: {why}", group.name);
        (message, "mend the selector, or remove the group".to_owned())
    } else if is_at_port(group) {
        // The rule that has it counts for others as well.
        return None;
    } else if !workloads.is_empty() && !workloads.iter().any(|workload| group.selector.matches(&workload.labels)) {
        let message = format!("group `{}` selects none of the declared workloads", group.name);
        (message, "see whether selector and labels agree, unless its members are found on the host".to_owned())
    } else {
        return None;
    };
    Some(Problem { origin: Some(group.origin.clone()), message, cure })
}

/// Whether a group stands for those who have some number for a port that a rule names.
fn is_at_port(group: &SecurityGroup) -> bool {
    let of_port = |requirement: &Requirement| matches!(requirement, Requirement::In(key, _) if is_port(key));
    !group.governs() && group.selector.requirements.iter().any(of_port)
}

/// A name of a port that too many numbers have.
pub(crate) fn crowded(name: &PortName) -> Problem {
    Problem {
        origin: None,
        message: format!(
            "`{name}` has more than {MAX_NUMBERS} numbers; at the highest of them, rules that name it allow nothing"
        ),
        cure: "give the port the same number in more pods, or name it by its number in the rules".to_owned(),
    }
}

/// Why a selector can't match, where its requirements contradict one another.
fn contradiction(selector: &Selector) -> Option<String> {
    let mut labels: BTreeMap<&str, Vec<&Requirement>> = BTreeMap::new();
    for requirement in &selector.requirements {
        let (Requirement::In(key, _)
        | Requirement::NotIn(key, _)
        | Requirement::Exists(key)
        | Requirement::DoesNotExist(key)) = requirement;
        labels.entry(key).or_default().push(requirement);
    }
    labels.into_iter().find_map(|(key, requirements)| {
        let required = requirements.iter().any(|one| matches!(one, Requirement::In(..) | Requirement::Exists(_)));
        if required && requirements.iter().any(|one| matches!(one, Requirement::DoesNotExist(_))) {
            return Some(format!("label `{key}` must be there and must not"));
        }
        let mut allowed = requirements.iter().filter_map(|one| match one {
            Requirement::In(_, values) => Some(values),
            _ => None,
        });
        let left = |value: &&String| {
            requirements.iter().all(|one| match one {
                Requirement::In(_, values) => values.contains(value),
                Requirement::NotIn(_, values) => !values.contains(value),
                Requirement::Exists(_) | Requirement::DoesNotExist(_) => true,
            })
        };
        let first = allowed.next()?;
        (!first.iter().any(|value| left(&value))).then(|| format!("no value of label `{key}` is left"))
    })
}

fn shared_addresses(workloads: &[DeclaredWorkload], warnings: &mut Vec<Problem>) {
    let mut claims: BTreeMap<IpAddr, &DeclaredWorkload> = BTreeMap::new();
    for workload in workloads {
        for address in workload.addresses.iter() {
            let Some(first) = claims.get(address) else {
                claims.insert(*address, workload);
                continue;
            };
            warnings.push(Problem {
                origin: Some(workload.origin.clone()),
                message: format!("address {address} of workload `{}` is also that of `{}`", workload.name, first.name),
                cure: "give each its own: as a peer, a shared address has only the groups that all of them share"
                    .to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests;
