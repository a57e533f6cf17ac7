//! What the controller says of itself over the admin socket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::UNIX_EPOCH;

use bulkhead_ebpf::abi::Direction;

use super::{Controller, Query};
use crate::desired::Member;
use crate::kernel::Readings;
use crate::policy::compile::RulePlace;
use crate::policy::model::{GroupId, Guardrail, Mode, Origin, SecurityGroup};
use crate::policy::objects::{ObjectName, Refusal};
use crate::snapshot::Snapshot;
use crate::view::{FlowRule, GroupView, GroupsView, GuardrailView, ObjectView, RuleView, StatusView, WorkloadView};
use crate::workload::Workload;

/// Established flows that are told at once; the others are counted.
const MAX_CONNECTIONS: usize = 65_536;

impl Controller {
    /// Answers a question; whoever stopped waiting misses it.
    pub(super) fn answer(&self, query: Query) {
        match query {
            Query::Status(answer) => {
                let (mut status, readings) = (self.status(), self.kernel.readings.clone());
                // Counting a map's entries takes a walk over it, and the loop must not wait for that.
                tokio::task::spawn_blocking(move || {
                    status.maps = readings.maps();
                    drop(answer.send(status));
                });
            }
            Query::Workloads(answer) => drop(answer.send(self.workloads())),
            Query::Groups(answer) => drop(answer.send(self.groups())),
            Query::Connections(answer) => {
                let readings = self.kernel.readings.clone();
                // A walk over a table, likewise. Whoever asks hears of one that fails as of an agent that is stopping.
                tokio::task::spawn_blocking(move || {
                    if let Ok(connections) = readings.connections(MAX_CONNECTIONS) {
                        drop(answer.send(connections));
                    }
                });
            }
            Query::Snapshot(answer) => drop(answer.send(self.snapshot())),
        }
    }

    fn snapshot(&self) -> Snapshot {
        let host = &self.kernel.host;
        let failsafe = host.failsafe.iter().map(ToString::to_string).collect();
        Snapshot {
            generation: Some(self.kernel.tables.generation()),
            policy: (*self.policy).clone(),
            failsafe,
            cgroup_root: Some(host.cgroup_root.clone()),
            ..self.registry.snapshot()
        }
    }

    fn status(&self) -> StatusView {
        let warnings = self.state.iter().flat_map(|state| state.warnings.iter());
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            enforcing: self.failures.is_empty(),
            generation: self.kernel.tables.generation(),
            policy_loaded_at: self.policy_loaded_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            reloads: self.reloads,
            refusals: self.refusals,
            problems: self.problems.clone(),
            objects: self.refused_objects(),
            warnings: (self.failures.iter().chain(warnings).cloned())
                .chain(self.pressure.warnings())
                .chain(self.idle_groups())
                .collect(),
            attachments: self.kernel.attachments.views(),
            workloads: (self.state.iter().flat_map(|state| &state.by_source).filter(|(_, count)| **count > 0))
                .map(|(source, count)| (source.as_str().to_owned(), *count))
                .collect(),
            groups: self.policy.groups.len() as u64,
            rules: self.policy.groups.iter().map(|group| rules_of(group).count() as u64).sum(),
            guardrails: self.policy.guardrails.len() as u64,
            repairs: self.audit.repairs,
            maps: Vec::new(),
        }
    }

    fn refused_objects(&self) -> Vec<ObjectView> {
        let view = |(name, refusal): (&ObjectName, &Refusal)| ObjectView {
            object: name.to_string(),
            standing: refusal.standing.as_str().to_owned(),
            problems: refusal.problems.iter().map(|problem| format!("{}; {}", problem.message, problem.cure)).collect(),
        };
        self.objects.refused.iter().map(view).collect()
    }

    /// A selector with a typing error fails open in silence, unless somebody says so.
    fn idle_groups(&self) -> impl Iterator<Item = String> {
        let with_members: BTreeSet<GroupId> = self.members().flat_map(|(_, member)| &member.groups).copied().collect();
        self.policy.groups.iter().filter(move |group| !with_members.contains(&group.id)).map(|group| {
            format!(
                "{}: group {} selects no workload that this host knows; see `bulkhead workloads`",
                group.origin, group.name
            )
        })
    }

    fn members(&self) -> impl Iterator<Item = &(Workload, Member)> {
        self.state.iter().flat_map(|state| state.workloads.values())
    }

    fn workloads(&self) -> Vec<WorkloadView> {
        let names: BTreeMap<_, _> = self.policy.groups.iter().map(|group| (group.id, &group.name)).collect();
        let view = |(workload, member): &(Workload, Member)| WorkloadView {
            name: workload.name.to_string(),
            source: workload.source,
            labels: workload.labels.as_ref().clone(),
            groups: member.groups.iter().filter_map(|id| names.get(id).map(|name| (*name).clone())).collect(),
            local: workload.local,
            cgroup: workload.cgroup.as_ref().map(|cgroup| cgroup.path.clone()),
            interface: workload.interface.as_ref().map(|interface| interface.name.clone()),
            addresses: workload.addresses.to_vec(),
            identity: member.identity,
        };
        self.members().map(view).collect()
    }

    fn groups(&self) -> GroupsView {
        let hits: HashMap<u32, u64> = self.kernel.readings.rule_hits().into_iter().collect();
        let numbers: HashMap<&RulePlace, u32> = self.numbers.rules.iter().collect();
        let view =
            |place: &RulePlace, direction: &str, index, description: &Option<String>, origin: &Origin| RuleView {
                direction: direction.to_owned(),
                index,
                description: description.clone(),
                hits: numbers.get(place).and_then(|number| hits.get(number)).copied().unwrap_or(0),
                origin: origin.to_string(),
            };
        let mut members: BTreeMap<GroupId, Vec<String>> = BTreeMap::new();
        for (workload, member) in self.members() {
            for group in &member.groups {
                members.entry(*group).or_default().push(workload.name.to_string());
            }
        }
        let mut of_group = |group: &SecurityGroup| GroupView {
            name: group.name.clone(),
            id: group.id.0,
            mode: match group.mode {
                Mode::Enforce => "enforce",
                Mode::Audit => "audit",
            }
            .to_owned(),
            members: members.remove(&group.id).unwrap_or_default(),
            rules: rules_of(group)
                .map(|(direction, index, rule)| {
                    let place = RulePlace::Rule { group: group.id, direction, index };
                    view(&place, direction.as_str(), index, &rule.description, &rule.origin)
                })
                .collect(),
            origin: group.origin.to_string(),
        };
        let of_guardrail = |guardrail: &Guardrail| GuardrailView {
            name: guardrail.name.clone(),
            deny: (0..)
                .zip(&guardrail.entries)
                .map(|(index, entry)| {
                    let place = RulePlace::Deny { guardrail: guardrail.name.clone(), index };
                    view(&place, FlowRule::DENY, index, &entry.description, &entry.origin)
                })
                .collect(),
            origin: guardrail.origin.to_string(),
        };
        GroupsView {
            groups: self.policy.groups.iter().map(&mut of_group).collect(),
            guardrails: self.policy.guardrails.iter().map(of_guardrail).collect(),
        }
    }
}

fn rules_of(group: &SecurityGroup) -> impl Iterator<Item = (Direction, usize, &crate::policy::model::Rule)> {
    let directions = Direction::ALL.iter().copied();
    directions.flat_map(|direction| group.rules(direction).map(move |(index, rule)| (direction, index, rule)))
}
