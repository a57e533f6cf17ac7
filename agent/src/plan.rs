//! `bulkhead plan`: what another policy would do to this host's workloads and flows, before it is in force.
//!
//! Both policies are put on trial ([`crate::trial`]) over who is there, and their verdicts held against each other: for each two ends that
//! no rule of either policy tells from others, at each port that none of them tells from its neighbours. So the answer is
//! about what happens to packets, however the policy is written.

mod ends;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_ebpf::abi::{Reason, Verdict};

use crate::config::failsafe::FailsafePort;
use crate::policy::compile::{GroupSet, RulePlace, TooLarge};
use crate::policy::model::{Established, PolicySet};
use crate::snapshot::{Population, Snapshot};
use crate::trial::{End, Said, Service, Trial, Who, place, verdict};
use crate::view::FlowRule;
use crate::view::plan::{ConnectionView, ConnectionsView, CutFlow, FlowChange, PlanView, WorkloadChange};
use ends::{Kind, kinds};
use ports::{Ports, ports};

/// As many pairs of ends are looked at, at each port; what is beyond is told as left out.
const MAX_TRIALS: usize = 2_000_000;
/// As many flows that would be cut are listed; the others are counted.
const MAX_CUT: usize = 1_000;

/// What `policy` would change.
///
/// # Errors
/// One of the policies does not fit into the tables.
pub fn plan(snapshot: &Snapshot, policy: PolicySet, connections: &ConnectionsView) -> Result<PlanView, TooLarge> {
    let failsafe = snapshot.failsafe_ports();
    let sides =
        [(snapshot.policy.clone(), snapshot.population()), (policy.clone(), snapshot.population_under(&policy))];
    let [before, after] = sides.map(|(policy, population)| Side::new(policy, population, &failsafe));
    let (mut before, mut after) = (before?, after?);
    let mut view = PlanView { generation: snapshot.generation, ..PlanView::default() };
    view.workloads = regrouped(&before, &after);
    view.flows = flows(&mut before, &mut after, &mut view.omitted);
    view.cut = cut(snapshot, &mut before, &mut after, connections, &mut view.omitted);
    view.changes = !(view.workloads.is_empty() && view.flows.is_empty() && view.cut.is_empty());
    Ok(view)
}

/// One of the two policies, on trial.
struct Side {
    policy: Arc<PolicySet>,
    population: Population,
    trial: Trial,
}

impl Side {
    fn new(policy: PolicySet, mut population: Population, failsafe: &[FailsafePort]) -> Result<Self, TooLarge> {
        let policy = Arc::new(policy);
        for (number, workload) in (0..).zip(population.workloads.iter_mut()).filter(|(_, workload)| workload.local) {
            place(workload, number);
        }
        let trial = Trial::new(&policy, &population, failsafe)?;
        Ok(Self { policy, population, trial })
    }

    fn groups(&self, workload: &str) -> Option<&GroupSet> {
        self.trial.state.workloads.get(workload).map(|(_, member)| &member.groups)
    }

    fn names(&self, groups: Option<&GroupSet>) -> Vec<String> {
        let policy = &self.policy.groups;
        groups
            .into_iter()
            .flatten()
            .filter_map(|id| policy.iter().find(|group| group.id == *id))
            .map(|group| group.name.clone())
            .collect()
    }

    /// Whether any of its groups says something of what it receives or sends.
    fn governs(&self, groups: &GroupSet) -> bool {
        self.policy.groups.iter().any(|group| groups.contains(&group.id) && group.governs())
    }

    /// What is behind a verdict that was another one before: the rule that decided, or the reason, of the side that changed.
    fn by(&self, said: &[Said], before: &[Said]) -> String {
        let verdict = verdict(said);
        let changed =
            |now: &&Said| before.iter().all(|was| was.direction != now.direction || was.verdict != now.verdict);
        let mut decisive = said.iter().filter(|said| said.verdict == verdict);
        let Some(decisive) = decisive.clone().find(changed).or_else(|| decisive.next()) else { return String::new() };
        match self.trial.rule(decisive) {
            Some(RulePlace::Rule { group, direction, index }) => {
                let group = self.policy.groups.iter().find(|one| one.id == *group);
                group.map_or_else(String::new, |group| format!("{}/{}/{index}", group.name, direction.as_str()))
            }
            Some(RulePlace::Deny { guardrail, index }) => format!("{guardrail}/{}/{index}", FlowRule::DENY),
            None => format!("{} ({})", decisive.reason.as_str(), decisive.direction.as_str()),
        }
    }
}

/// Workloads whose groups would be others.
fn regrouped(before: &Side, after: &Side) -> Vec<WorkloadChange> {
    let names: BTreeSet<&Arc<str>> =
        before.trial.state.workloads.keys().chain(after.trial.state.workloads.keys()).collect();
    let change = |name: &&Arc<str>| {
        let (was, is) = (before.groups(name), after.groups(name));
        let (was_names, is_names) = (before.names(was), after.names(is));
        let becomes = match (was, is) {
            (None, _) => "new",
            (_, None) => "gone",
            (Some(was), Some(is)) => match (before.governs(was), after.governs(is)) {
                (false, true) => "governed",
                (true, false) => "ungoverned",
                _ if was_names == is_names => return None,
                _ => "other_groups",
            },
        };
        Some(WorkloadChange {
            workload: name.to_string(),
            becomes: becomes.to_owned(),
            before: was_names,
            after: is_names,
        })
    };
    names.iter().filter_map(change).collect()
}

/// Kinds of flows that would have another verdict.
fn flows(before: &mut Side, after: &mut Side, omitted: &mut Vec<String>) -> Vec<FlowChange> {
    let kinds = kinds(before, after, omitted);
    let ports = ports(&[&before.policy, &after.policy]);
    let mut trials = 0;
    let mut changes = Vec::new();
    'pairs: for from in &kinds {
        for to in &kinds {
            if from.is_alone() && std::ptr::eq(from, to) || !(from.is_here() || to.is_here()) {
                continue;
            }
            let mut of_pair: Vec<FlowChange> = Vec::new();
            for is_v4 in [true, false] {
                if trials > MAX_TRIALS {
                    omitted.push(format!(
                        "after {MAX_TRIALS} trials no more pairs of ends were looked at; name fewer groups or CIDRs"
                    ));
                    break 'pairs;
                }
                for change in self::of_pair(before, after, (from, to), is_v4, &ports, &mut trials) {
                    // Two IP versions hardly ever differ, and are told apart where they do.
                    let alike = |it: &&mut FlowChange| {
                        (&it.before, &it.after, &it.by) == (&change.before, &change.after, &change.by)
                    };
                    match of_pair.iter_mut().find(alike) {
                        Some(known) => {
                            let new = change
                                .ports
                                .into_iter()
                                .filter(|ports| !known.ports.contains(ports))
                                .collect::<Vec<_>>();
                            known.ports.extend(new);
                        }
                        None => of_pair.push(change),
                    }
                }
            }
            for change in &mut of_pair {
                if ports::ALL.iter().all(|name| change.ports.iter().any(|ports| ports == name)) {
                    change.ports = vec!["all".to_owned()];
                }
            }
            changes.extend(of_pair);
        }
    }
    let mut seen = BTreeSet::new();
    changes.retain(|it| {
        seen.insert((it.from.clone(), it.to.clone(), it.ports.clone(), it.before.clone(), it.after.clone()))
    });
    changes
}

/// What would change between two kinds of ends, by one IP version.
fn of_pair(
    before: &mut Side,
    after: &mut Side,
    (from, to): (&Kind, &Kind),
    is_v4: bool,
    ports: &[Ports],
    trials: &mut usize,
) -> Vec<FlowChange> {
    let mut changes: Vec<(Ports, FlowChange)> = Vec::new();
    let (Some(sender), Some(receiver)) = (from.address(is_v4, false), to.address(is_v4, std::ptr::eq(from, to))) else {
        return Vec::new();
    };
    for range in ports.iter().filter(|range| range.goes_by(is_v4)) {
        *trials += 1;
        let ask = |side: &mut Side, number: usize| {
            let end = |kind: &Kind, (name, address): &(Option<Arc<str>>, IpAddr)| End {
                who: kind.who(number, name.as_ref()),
                address: *address,
            };
            side.trial.judge(&end(from, &sender), &end(to, &receiver), range.first())
        };
        let (was, is) = (ask(before, 0), ask(after, 1));
        let (was_verdict, is_verdict) = (verdict(&was), verdict(&is));
        if was_verdict == is_verdict {
            continue;
        }
        let (before_word, after_word) = (was_verdict.as_str().to_owned(), is_verdict.as_str().to_owned());
        let by = after.by(&is, &was);
        if let Some((last, change)) = changes.last_mut()
            && last.joins(range)
            && (&change.before, &change.after, &change.by) == (&before_word, &after_word, &by)
        {
            *last = last.with(range);
            change.ports = vec![last.to_string()];
            continue;
        }
        let example = |(name, address): &(Option<Arc<str>>, IpAddr)| {
            name.as_ref().map_or_else(|| address.to_string(), ToString::to_string)
        };
        changes.push((
            *range,
            FlowChange {
                from: from.label.clone(),
                to: to.label.clone(),
                ports: vec![range.to_string()],
                before: before_word,
                after: after_word,
                by,
                example_from: example(&sender),
                example_to: example(&receiver),
            },
        ));
    }
    changes.into_iter().map(|(_, change)| change).collect()
}

/// Established flows that the new policy would deny.
fn cut(
    snapshot: &Snapshot,
    before: &mut Side,
    after: &mut Side,
    connections: &ConnectionsView,
    omitted: &mut Vec<String>,
) -> Vec<CutFlow> {
    let paths: BTreeMap<u64, &str> = snapshot.cgroups.iter().map(|cgroup| (cgroup.id, cgroup.path.as_str())).collect();
    let mut cut = Vec::new();
    let mut more = 0;
    for flow in &connections.connections {
        let service = Service { protocol: flow.protocol, detail: flow.destination_port };
        let ask = |side: &mut Side| {
            let from = end(side, flow.source, flow.source_cgroup, &paths);
            let to = end(side, flow.destination, flow.destination_cgroup, &paths);
            let said = side.trial.judge(&from, &to, service);
            (from, to, said)
        };
        let (.., was) = ask(before);
        if verdict(&was) == Verdict::Deny {
            // It lives on what held once: a kept flow, or one that is about to be cut anyway.
            continue;
        }
        let (from, to, is) = ask(after);
        let Some(denied) = is.iter().find(|said| said.verdict == Verdict::Deny && !is_kept(before, &was, said)) else {
            continue;
        };
        if cut.len() >= MAX_CUT {
            more += 1;
            continue;
        }
        let name = |end: &End| match &end.who {
            Who::Workload(name) => Some(name.to_string()),
            _ => None,
        };
        cut.push(CutFlow {
            flow: ConnectionView::clone(flow),
            from: name(&from),
            to: name(&to),
            reason: denied.reason.as_str().to_owned(),
        });
    }
    if more > 0 {
        omitted.push(format!("{more} more flows would be cut"));
    }
    if connections.omitted > 0 {
        omitted.push(format!("{} more flows are established, and were not looked at", connections.omitted));
    }
    cut
}

/// Whether the group whose rule allows the flow now keeps it, whatever comes; but for guardrails.
fn is_kept(before: &Side, was: &[Said], denied: &Said) -> bool {
    let rule = was.iter().find(|said| said.direction == denied.direction).and_then(|said| before.trial.rule(said));
    let Some(RulePlace::Rule { group, .. }) = rule else { return false };
    let group = before.policy.groups.iter().find(|one| one.id == *group);
    denied.reason != Reason::Guardrail && group.is_some_and(|group| group.established == Established::Keep)
}

/// An end of a flow that is there: by its address, and where that is the host's by its cgroup.
fn end(side: &Side, address: IpAddr, cgroup: Option<u64>, paths: &BTreeMap<u64, &str>) -> End {
    let population = &side.population;
    let by_address =
        population.workloads.iter().find(|workload| workload.local && workload.addresses.contains(&address));
    let by_cgroup = || {
        let mut path = *paths.get(&cgroup?)?;
        loop {
            let found = population
                .workloads
                .iter()
                .find(|workload| workload.cgroup.as_ref().is_some_and(|cgroup| cgroup.path == path));
            if found.is_some() {
                return found;
            }
            (path, _) = path.rsplit_once('/')?;
        }
    };
    let who = match by_address.or_else(by_cgroup) {
        Some(workload) => Who::Workload(workload.name.clone()),
        None if population.host_addresses.contains(&address) => Who::Host,
        None => Who::Elsewhere,
    };
    End { who, address }
}

#[cfg(test)]
mod tests;
