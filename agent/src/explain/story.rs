//! How a verdict came about, step by step.

use bulkhead_ebpf::abi::{Direction, Reason, Verdict};
use ipnet::IpNet;

use super::end::Asked;
use super::{Case, Place, end_of};
use crate::policy::model::{GroupId, Mode, Origin, Peer, PolicySet, Rule, SecurityGroup};
use crate::trial::{Said, Trial, Who};
use crate::view::FlowRule;
use crate::view::explain::StepView;

/// The steps to what was said.
pub(super) fn tell(case: &Case<'_>, asked: [&Asked; 2], said: &[Said], trial: &Trial) -> Vec<StepView> {
    let mut steps = Vec::new();
    for (asked, direction) in asked.into_iter().zip([Direction::Egress, Direction::Ingress]) {
        let word = if direction == Direction::Egress { "from" } else { "to" };
        let address = case.ends[end_of(direction)].address;
        steps.push(step("end", Some(direction), format!("{word} {}, at {address}", asked.text)));
        steps.extend(asked.assumptions.iter().map(|text| step("assumption", Some(direction), text.clone())));
        steps.extend(groups(case, direction));
    }
    steps.extend(guardrails(case));
    for said in said {
        side(case, said, trial, &mut steps);
    }
    if said.is_empty() {
        let text = "neither end is judged on this host: what is between others passes by it";
        steps.push(step("verdict", None, text.to_owned()));
    }
    steps
}

fn step(kind: &str, side: Option<Direction>, text: String) -> StepView {
    StepView {
        kind: kind.to_owned(),
        side: side.map(|side| side.as_str().to_owned()),
        text,
        name: None,
        index: None,
        matches: None,
        origin: None,
    }
}

/// The group with an ID that a rule or workload has.
pub(super) fn group(policy: &PolicySet, id: GroupId) -> &SecurityGroup {
    policy.groups.iter().find(|group| group.id == id).expect("a workload's groups are those of the policy")
}

/// The name of a rule, as verdicts have it.
pub(super) fn rule_name(policy: &PolicySet, place: &Place) -> String {
    match place {
        Place::Rule { group: id, direction, index } => {
            format!("{}/{}/{index}", group(policy, *id).name, direction.as_str())
        }
        Place::Deny { guardrail, index } => format!("{guardrail}/{}/{index}", FlowRule::DENY),
    }
}

/// The groups of an end.
fn groups(case: &Case<'_>, direction: Direction) -> Vec<StepView> {
    let who = &case.ends[end_of(direction)].who;
    let groups = case.groups(who);
    if groups.is_empty() && matches!(who, Who::Workload(_)) {
        return vec![step(
            "group",
            Some(direction),
            "it is in no group: its packets pass, guardrails aside".to_owned(),
        )];
    }
    let one = |id: &GroupId| {
        let group = group(case.policy, *id);
        let audit = if group.mode == Mode::Audit { ", in audit" } else { "" };
        let governs = if group.governs() { "" } else { ", which only names its members for others' rules" };
        StepView {
            name: Some(group.name.clone()),
            origin: Some(group.origin.to_string()),
            ..step("group", Some(direction), format!("it is in group {} (ID {}){audit}{governs}", group.name, group.id))
        }
    };
    groups.iter().map(one).collect()
}

/// Every deny entry, and whether it has this flow.
fn guardrails(case: &Case<'_>) -> Vec<StepView> {
    let mut steps = Vec::new();
    for guardrail in &case.policy.guardrails {
        for (index, entry) in guardrail.entries.iter().enumerate() {
            let mut alone = PolicySet { guardrails: vec![guardrail.clone()], ..(**case.policy).clone() };
            alone.guardrails[0].entries = vec![entry.clone()];
            let denies = |direction| {
                case.side_under(alone.clone(), direction).is_some_and(|said| said.reason == Reason::Guardrail)
            };
            let has = denies(Direction::Egress) || denies(Direction::Ingress);
            let text = format!(
                "guardrail {}, entry {index}{}: {}",
                guardrail.name,
                description(entry.description.as_ref()),
                if has { "it has this flow, and denies it" } else { "it does not have this flow" }
            );
            steps.push(of_rule(step("guardrail", None, text), &guardrail.name, index, has, &entry.origin));
        }
    }
    steps
}

fn of_rule(step: StepView, name: &str, index: usize, matches: bool, origin: &Origin) -> StepView {
    StepView {
        name: Some(name.to_owned()),
        index: Some(index),
        matches: Some(matches),
        origin: Some(origin.to_string()),
        ..step
    }
}

fn description(text: Option<&String>) -> String {
    text.map(|text| format!(" \"{text}\"")).unwrap_or_default()
}

/// One side: every rule of its groups, what its mode does to that, and what it says.
fn side(case: &Case<'_>, said: &Said, trial: &Trial, steps: &mut Vec<StepView>) {
    let direction = said.direction;
    let groups = case.groups(&case.ends[end_of(direction)].who);
    for id in &groups {
        let group = group(case.policy, *id);
        for (index, rule) in group.rules(direction) {
            let (has, why) = considered(case, *id, direction, index, rule);
            let text = format!(
                "{} rule {index} of {}{}: {why}",
                direction.as_str(),
                group.name,
                description(rule.description.as_ref())
            );
            steps.push(of_rule(step("rule", Some(direction), text), &group.name, index, has, &rule.origin));
        }
    }
    if said.verdict == Verdict::Audit {
        let text = format!(
            "every group of it that governs {} is in audit: what would be denied passes, is counted and told",
            direction.as_str()
        );
        steps.push(step("mode", Some(direction), text));
    } else if said.verdict == Verdict::Deny && said.reason == Reason::NoRule {
        let audited = groups.iter().map(|id| group(case.policy, *id)).find(|group| group.mode == Mode::Audit);
        if let Some(audited) = audited {
            let text = format!("{} is in audit, and another of its groups is enforced: that holds", audited.name);
            steps.push(step("mode", Some(direction), text));
        }
    }
    let whose = if direction == Direction::Egress { "the sender's side" } else { "the receiver's side" };
    let rule = trial.rule(said).map(|place| format!(" {}", rule_name(case.policy, place))).unwrap_or_default();
    let text = format!("{whose}: {}, {}{rule}", said.verdict.as_str(), meaning(said));
    steps.push(step("verdict", Some(direction), text));
}

/// Whether a rule has the flow, and if not, for what.
fn considered(case: &Case<'_>, id: GroupId, direction: Direction, index: usize, rule: &Rule) -> (bool, String) {
    let has = |rule: Rule| {
        let said = case.side_under(alone(case.policy, id, direction, index, rule), direction);
        said.is_some_and(|said| said.verdict == Verdict::Allow && matches!(said.reason, Reason::Rule))
    };
    if has(rule.clone()) {
        return (true, "it has this flow".to_owned());
    }
    let any_port = Rule { ports: None, named: Vec::new(), ..rule.clone() };
    let mut any_peer = rule.clone();
    let everyone = || ["0.0.0.0/0", "::/0"].map(|text| Peer::Cidr(text.parse::<IpNet>().expect("a CIDR"))).to_vec();
    any_peer.peers = everyone();
    any_peer.named.iter_mut().for_each(|named| {
        if let crate::policy::model::PortOf::Peers(peers) = &mut named.of {
            *peers = everyone();
        }
    });
    let other = if direction == Direction::Egress { "receiver" } else { "sender" };
    let why = match (has(any_port), has(any_peer)) {
        (true, _) => "it has the peer, not the port".to_owned(),
        (false, true) => format!("it has the port; the {other} is none of its peers"),
        (false, false) => format!("the {other} is none of its peers, and it does not have the port"),
    };
    (false, why)
}

/// The policy with one rule, and nothing else that could decide on that side.
fn alone(policy: &PolicySet, id: GroupId, direction: Direction, index: usize, rule: Rule) -> PolicySet {
    let mut alone = policy.clone();
    alone.guardrails.clear();
    for group in &mut alone.groups {
        group.mode = Mode::Enforce;
        let rules = match direction {
            Direction::Ingress => &mut group.ingress,
            Direction::Egress => &mut group.egress,
        };
        if group.id == id {
            // It keeps its place, so that it is found as itself.
            let mut only: Vec<Rule> = (0..index).map(|_| Rule::nobody(rule.origin.clone())).collect();
            only.push(rule.clone());
            *rules = Some(only);
        } else if rules.is_some() {
            *rules = Some(Vec::new());
        }
    }
    alone
}

/// A reason in words.
pub(super) fn meaning(said: &Said) -> &'static str {
    match said.reason {
        Reason::Rule => "by rule",
        Reason::Established => "the flow was allowed before",
        Reason::OpenEgress => "as none of its groups mentions egress",
        Reason::OpenIngress => "as none of its groups mentions ingress",
        Reason::Ungoverned => "as it is in no group",
        Reason::Related => "as an ICMP error about an allowed flow",
        Reason::Loopback => "as loopback inside one network namespace, which is never cut",
        Reason::SameWorkload => "as a workload with itself, which is never cut",
        Reason::NeverCut => "as what the network needs, which is never cut",
        Reason::NotLocal | Reason::Deferred => "as it is decided elsewhere",
        Reason::Unidentified => "as a cgroup that no source has named, as its managed scope says",
        Reason::NoRule => "as no rule of its groups has it",
        Reason::Malformed => "as such a packet is malformed",
        Reason::FragmentUnseen => "as its first fragment was not seen",
        Reason::Spoofed => "as the sender's address is not its own",
        Reason::NotIp => "as it is neither IP nor ARP",
        Reason::TableFull => "as a table has no room for it",
        Reason::Midstream => "as a segment of no known connection",
        Reason::Guardrail => "by guardrail",
        Reason::Failsafe => "by a failsafe port of the host's own traffic",
    }
}
