//! `bulkhead explain`: what becomes of a flow, why, and what would have to change.
//!
//! The verdict is the packet path's own ([`crate::trial`]), and so is every step to it: whether a rule has a flow is asked of the decision,
//! with a policy in which that rule stands alone.

pub mod end;
mod remedy;
mod story;

use std::sync::Arc;

use bulkhead_ebpf::abi::{Direction, Verdict};

use crate::config::failsafe::FailsafePort;
use crate::policy::compile::{RulePlace, TooLarge};
use crate::policy::model::{GroupId, PolicySet};
use crate::snapshot::{Population, Snapshot};
use crate::trial::{End, Said, Service, Trial, Who, verdict};
use crate::view::explain::{AnswerView, EndView, ExplainView, SideView};
use crate::workload::Workload;
use end::{Asked, resolve, settle};

/// As many flows are explained at once.
const MAX_ANSWERS: usize = 1_024;

/// Explains flows from everyone that `from` means to everyone that `to` means.
///
/// # Errors
/// An end means nobody, or the policy does not fit into the tables.
pub fn explain(snapshot: &Snapshot, from: &str, to: &str, port: &Port) -> Result<ExplainView, String> {
    let population = snapshot.population();
    let senders = resolve(from, snapshot, &population).map_err(|error| format!("--from: {error}"))?;
    let receivers = resolve(to, snapshot, &population).map_err(|error| format!("--to: {error}"))?;
    if senders.len() * receivers.len() > MAX_ANSWERS {
        return Err(format!(
            "--from and --to mean {} and {} workloads, and {MAX_ANSWERS} pairs can be explained at once; name one of them",
            senders.len(),
            receivers.len()
        ));
    }
    let policy = Arc::new(snapshot.policy.clone());
    let failsafe = snapshot.failsafe_ports();
    let mut answers = Vec::new();
    for sender in &senders {
        for receiver in &receivers {
            let (mut sender, mut receiver) = (sender.clone(), receiver.clone());
            settle(&mut sender, 1);
            settle(&mut receiver, 2);
            for (service, ends) in flows(&sender, &receiver, port)? {
                let case = Case {
                    policy: &policy,
                    population: close(&population, &sender, &receiver),
                    failsafe: &failsafe,
                    ends,
                    service,
                };
                answers.push(case.answer(&sender, &receiver).map_err(|error| error.to_string())?);
            }
        }
    }
    let strictest = ["deny", "audit", "allow"]
        .into_iter()
        .find_map(|verdict| answers.iter().find(|answer| answer.verdict == verdict))
        .ok_or_else(|| format!("{from} and {to} have no address of the same IP version; ask for other ends"))?;
    Ok(ExplainView {
        verdict: strictest.verdict.clone(),
        mixed: answers.iter().any(|answer| answer.verdict != strictest.verdict),
        steps: strictest.steps.clone(),
        generation: snapshot.generation,
        answers,
    })
}

/// What a flow is for, as somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port(Service);

impl std::str::FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            "write tcp/5432, udp/53, sctp/36412, icmp, icmp/TYPE/CODE, icmpv6, icmpv6/TYPE/CODE or a protocol's number"
                .to_owned()
        };
        let mut parts = text.split('/');
        let name = parts.next().unwrap_or_default();
        let rest: Vec<&str> = parts.collect();
        let number = |text: &str| text.parse::<u16>().map_err(|_| form());
        let byte = |text: &str| text.parse::<u8>().map_err(|_| form());
        let service = |protocol, detail| Ok(Self(Service { protocol, detail }));
        match (name, &rest[..]) {
            ("tcp", [port]) => service(6, number(port)?),
            ("udp", [port]) => service(17, number(port)?),
            ("sctp", [port]) => service(132, number(port)?),
            ("icmp", []) => service(1, 8 << 8),
            ("icmpv6", []) => service(58, 128 << 8),
            ("icmp", [kind, code @ ..]) if code.len() < 2 => {
                service(1, u16::from_be_bytes([byte(kind)?, code.first().map_or(Ok(0), |code| byte(code))?]))
            }
            ("icmpv6", [kind, code @ ..]) if code.len() < 2 => {
                service(58, u16::from_be_bytes([byte(kind)?, code.first().map_or(Ok(0), |code| byte(code))?]))
            }
            (protocol, []) => match protocol.parse() {
                Ok(1 | 6 | 17 | 58 | 132) | Err(_) => Err(form()),
                Ok(protocol) => service(protocol, 0),
            },
            _ => Err(form()),
        }
    }
}

/// As [`Port`] reads it.
#[must_use]
pub fn name_of(service: Service) -> String {
    let [kind, code] = service.detail.to_be_bytes();
    match service.protocol {
        6 => format!("tcp/{}", service.detail),
        17 => format!("udp/{}", service.detail),
        132 => format!("sctp/{}", service.detail),
        1 => format!("icmp/{kind}/{code}"),
        58 => format!("icmpv6/{kind}/{code}"),
        number => number.to_string(),
    }
}

/// The flows between two ends: one for each IP version that both have and the protocol goes with.
fn flows(from: &Asked, to: &Asked, port: &Port) -> Result<Vec<(Service, [End; 2])>, String> {
    let service = port.0;
    let of_version =
        |asked: &Asked, is_v4: bool| asked.addresses.iter().copied().find(|address| address.is_ipv4() == is_v4);
    let versions = [true, false].into_iter().filter(|is_v4| match service.protocol {
        1 => *is_v4,
        58 => !*is_v4,
        _ => true,
    });
    let flows: Vec<_> = versions
        .filter_map(|is_v4| {
            let end = |asked: &Asked| Some(End { who: asked.who.clone(), address: of_version(asked, is_v4)? });
            Some((service, [end(from)?, end(to)?]))
        })
        .collect();
    if flows.is_empty() {
        return Err(format!(
            "{} and {} have no addresses between which {} goes; ask for the other IP version's",
            from.text,
            to.text,
            name_of(service)
        ));
    }
    Ok(flows)
}

/// Who matters to flows between two ends: them, and whoever claims one of their addresses.
fn close(population: &Population, from: &Asked, to: &Asked) -> Population {
    let asked: Vec<&Workload> = [from, to].into_iter().filter_map(|asked| asked.workload.as_ref()).collect();
    let addresses: Vec<_> = from.addresses.iter().chain(&to.addresses).collect();
    let is_asked = |workload: &Workload| asked.iter().any(|asked| asked.name == workload.name);
    let others = population.workloads.iter().filter(|workload| {
        !is_asked(workload) && workload.addresses.iter().any(|address| addresses.contains(&address))
    });
    let mut workloads: Vec<Workload> = others.cloned().collect();
    for workload in asked {
        if !workloads.iter().any(|known| known.name == workload.name) {
            workloads.push(workload.clone());
        }
    }
    // Whom a service stands for decides together with its address.
    let backends: Vec<_> = (population.cluster.services())
        .filter(|service| service.addresses.iter().any(|address| addresses.contains(&address)))
        .flat_map(|service| service.ports.iter().flat_map(|port| port.backends.iter().map(|backend| backend.ip())))
        .collect();
    let behind =
        population.workloads.iter().filter(|one| one.addresses.iter().any(|address| backends.contains(address)));
    for workload in behind {
        if !workloads.iter().any(|known| known.name == workload.name) {
            workloads.push(workload.clone());
        }
    }
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    // The others are left where they are: there may be a hundred thousand.
    Population {
        workloads,
        host_addresses: population.host_addresses.clone(),
        scopes: population.scopes.clone(),
        cluster: population.cluster.clone(),
    }
}

/// One flow, under one policy.
struct Case<'a> {
    policy: &'a Arc<PolicySet>,
    population: Population,
    failsafe: &'a [FailsafePort],
    ends: [End; 2],
    service: Service,
}

impl Case<'_> {
    /// The decision, with this policy or another one.
    fn ask(&self, policy: &Arc<PolicySet>) -> Result<(Trial, Vec<Said>), TooLarge> {
        let mut trial = Trial::new(policy, &self.population, self.failsafe)?;
        let said = trial.judge(&self.ends[0], &self.ends[1], self.service);
        Ok((trial, said))
    }

    /// What one side says under another policy; `None` where that policy does not fit.
    fn side_under(&self, policy: PolicySet, direction: Direction) -> Option<Said> {
        let (_, said) = self.ask(&Arc::new(policy)).ok()?;
        said.into_iter().find(|said| said.direction == direction)
    }

    /// The groups of an end, under this policy.
    fn groups(&self, who: &Who) -> Vec<GroupId> {
        let Who::Workload(name) = who else { return Vec::new() };
        let workload = self.population.workloads.iter().find(|workload| workload.name == *name);
        let Some(workload) = workload else { return Vec::new() };
        let selects = |group: &&crate::policy::model::SecurityGroup| group.selector.matches(&workload.labels);
        self.policy.groups.iter().filter(selects).map(|group| group.id).collect()
    }

    fn answer(&self, from: &Asked, to: &Asked) -> Result<AnswerView, TooLarge> {
        let (trial, said) = self.ask(self.policy)?;
        let verdict = verdict(&said);
        let end = |asked: &Asked, end: &End| EndView {
            workload: asked.workload.as_ref().map(|workload| workload.name.to_string()),
            address: end.address,
            groups: self.groups(&end.who).iter().map(|id| story::group(self.policy, *id).name.clone()).collect(),
            text: asked.text.clone(),
        };
        let sides = said.iter().map(|said| SideView {
            direction: said.direction.as_str().to_owned(),
            verdict: said.verdict.as_str().to_owned(),
            reason: said.reason.as_str().to_owned(),
            rule: trial.rule(said).map(|place| story::rule_name(self.policy, place)),
        });
        Ok(AnswerView {
            verdict: verdict.as_str().to_owned(),
            from: end(from, &self.ends[0]),
            to: end(to, &self.ends[1]),
            port: name_of(self.service),
            sides: sides.collect(),
            steps: story::tell(self, [from, to], &said, &trial),
            change: remedy::other(self, &said, &trial, verdict),
        })
    }
}

/// Whose rules a direction's are: the sender's end or the receiver's.
const fn end_of(direction: Direction) -> usize {
    match direction {
        Direction::Egress => 0,
        Direction::Ingress => 1,
    }
}

/// A rule's or deny entry's place, as `GROUP/DIRECTION/INDEX`.
type Place = RulePlace;

/// What the other verdict is.
const fn opposite(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Allow => Verdict::Deny,
        Verdict::Deny | Verdict::Audit => Verdict::Allow,
    }
}

#[cfg(test)]
mod tests;
