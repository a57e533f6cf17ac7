//! Rules that allow nothing, because guardrails deny all of it.

use bulkhead_ebpf::abi::Direction;

use super::covered::{covers_peer, covers_ports};
use crate::policy::model::{DenyEntry, Guardrail, Peer, Rule, SecurityGroup};
use crate::policy::problem::Problem;

/// Warns of a group's rules that guardrails deny wholly.
pub(super) fn rules(
    group: &SecurityGroup,
    direction: Direction,
    guardrails: &[Guardrail],
    warnings: &mut Vec<Problem>,
) {
    for (_, rule) in group.rules(direction).filter(|(_, rule)| rule.named.is_empty()) {
        // One guardrail may deny some of the peers, another the rest: the first one is named.
        let denied: Option<Vec<&Guardrail>> =
            rule.peers.iter().map(|peer| denies(guardrails, group, direction, rule, *peer)).collect();
        let Some(guardrail) = denied.as_deref().and_then(<[_]>::first) else { continue };
        warnings.push(Problem {
            origin: Some(rule.origin.clone()),
            message: format!("guardrail `{}` ({}) denies all that this rule allows", guardrail.name, guardrail.origin),
            cure: "remove the rule, or narrow the guardrail".to_owned(),
        });
    }
}

/// The guardrail that denies the rule for one of its peers.
fn denies<'a>(
    guardrails: &'a [Guardrail],
    group: &SecurityGroup,
    direction: Direction,
    rule: &Rule,
    peer: Peer,
) -> Option<&'a Guardrail> {
    let member = Peer::Group(group.id);
    let (sender, receiver) = match direction {
        Direction::Ingress => (peer, member),
        Direction::Egress => (member, peer),
    };
    let has = |side: Option<&[Peer]>, one: Peer| side.is_none_or(|side| covers_peer(side, one));
    let denies = |entry: &DenyEntry| {
        covers_ports(entry.ports.as_deref(), rule.ports.as_deref())
            && has(entry.from.as_deref(), sender)
            && has(entry.to.as_deref(), receiver)
    };
    guardrails.iter().find(|guardrail| guardrail.entries.iter().any(denies))
}
