//! What would have to change for the other verdict: a change of policy, made and asked about before it is told.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use bulkhead_ebpf::abi::{Direction, Reason, Verdict};
use ipnet::IpNet;

use super::story::{group, meaning, rule_name};
use super::{Case, Place, end_of, opposite};
use crate::policy::model::{DenyEntry, GroupId, Mode, Peer, PolicySet, PortMatch, Rule};
use crate::trial::{Said, Service, Trial, Who, verdict};
use crate::view::explain::ChangeView;

/// Rules are taken away one after the other, as several may have a flow; so many at most.
const MAX_TAKEN: usize = 64;

/// What would bring about the other verdict.
pub(super) fn other(case: &Case<'_>, said: &[Said], trial: &Trial, verdict: Verdict) -> ChangeView {
    let mut change = Change { policy: (**case.policy).clone(), what: Vec::new(), rules: Vec::new() };
    let wanted = opposite(verdict);
    for said in said {
        match wanted {
            Verdict::Allow if said.verdict != Verdict::Allow => change.allow(case, said, trial),
            _ => {}
        }
    }
    if wanted == Verdict::Deny {
        change.deny(case, said, trial);
    }
    let tried = !change.what.is_empty() && change.comes_to(case, wanted);
    if change.what.is_empty() {
        change.what.push(unchangeable(said));
    }
    let yaml = (!change.rules.is_empty()).then(|| change.rules.concat());
    ChangeView { verdict: wanted.as_str().to_owned(), what: change.what, yaml, tried }
}

fn unchangeable(said: &[Said]) -> String {
    let fixed = said.iter().find(|said| !matches!(said.reason, Reason::Rule | Reason::NoRule));
    match fixed {
        Some(said) => format!("no rule changes this: it is so {}", meaning(said)),
        None => "nothing on this host decides it".to_owned(),
    }
}

/// A change of policy in the making.
struct Change {
    policy: PolicySet,
    what: Vec<String>,
    rules: Vec<String>,
}

impl Change {
    fn comes_to(&self, case: &Case<'_>, wanted: Verdict) -> bool {
        case.ask(&Arc::new(self.policy.clone())).is_ok_and(|(_, said)| verdict(&said) == wanted)
    }

    fn side(&self, case: &Case<'_>, direction: Direction) -> Option<(Said, Option<Place>)> {
        let (trial, said) = case.ask(&Arc::new(self.policy.clone())).ok()?;
        let said = said.into_iter().find(|said| said.direction == direction)?;
        let place = trial.rule(&said).cloned();
        Some((said, place))
    }

    /// Makes one side allow: deny entries that have the flow go, and one of its groups gets a rule.
    fn allow(&mut self, case: &Case<'_>, said: &Said, _: &Trial) {
        let direction = said.direction;
        for _ in 0..MAX_TAKEN {
            match self.side(case, direction) {
                Some((said, Some(Place::Deny { guardrail, index }))) if said.reason == Reason::Guardrail => {
                    self.take_entry(&guardrail, index);
                }
                _ => break,
            }
        }
        let Some((said, _)) = self.side(case, direction) else { return };
        if said.verdict == Verdict::Allow || said.reason != Reason::NoRule {
            return;
        }
        let groups = case.groups(&case.ends[end_of(direction)].who);
        // A group that governs the direction already: its other members get no wall that they did not have.
        let governs = |id: &&GroupId| match direction {
            Direction::Ingress => group(&self.policy, **id).ingress.is_some(),
            Direction::Egress => group(&self.policy, **id).egress.is_some(),
        };
        let Some(id) = groups.iter().find(governs).or(groups.first()).copied() else { return };
        let peer_end = end_of(direction.other());
        let who = case.groups(&case.ends[peer_end].who);
        let (peer, peer_text) = peer(case, &who, peer_end);
        let name = group(&self.policy, id).name.clone();
        let origin = group(&self.policy, id).origin.clone();
        let rule = Rule {
            description: None,
            peers: vec![peer],
            ports: Some(vec![port(case.service)]),
            named: Vec::new(),
            origin: origin.clone(),
        };
        let Some(changed) = self.policy.groups.iter_mut().find(|group| group.id == id) else { return };
        let rules = match direction {
            Direction::Ingress => &mut changed.ingress,
            Direction::Egress => &mut changed.egress,
        };
        rules.get_or_insert_default().push(rule);
        let (key, word) = if direction == Direction::Ingress { ("ingress", "from") } else { ("egress", "to") };
        self.what.push(format!("add a rule to the {key} of group {name} ({origin})"));
        let mut text = String::new();
        let _ = write!(
            text,
            "# to spec.{key} of {name}\n- {word}: [{peer_text}]\n  ports: [{}]\n",
            port_text(case.service)
        );
        self.rules.push(text);
    }

    fn take_entry(&mut self, name: &str, index: usize) {
        let Some(guardrail) = self.policy.guardrails.iter_mut().find(|guardrail| guardrail.name == name) else {
            return;
        };
        let origin = guardrail.entries[index].origin.clone();
        guardrail.entries[index] = DenyEntry::nobody(origin.clone());
        self.what.push(format!("take entry {index} of guardrail {name} away, or narrow it ({origin})"));
    }

    /// Makes a side deny: by what is least to change. The receiver's is asked first, as it is where walls are looked for.
    fn deny(&mut self, case: &Case<'_>, said: &[Said], _: &Trial) {
        for said in said.iter().rev() {
            let before = (self.policy.clone(), self.what.len());
            let direction = said.direction;
            for _ in 0..MAX_TAKEN {
                match self.side(case, direction) {
                    Some((said, Some(place))) if said.reason == Reason::Rule && said.verdict == Verdict::Allow => {
                        self.take_rule(&place);
                    }
                    _ => break,
                }
            }
            let audits = self.side(case, direction).is_some_and(|(said, _)| said.verdict == Verdict::Audit);
            if audits {
                for id in case.groups(&case.ends[end_of(direction)].who) {
                    self.enforce(id);
                }
            }
            if self.what.len() > before.1 && self.comes_to(case, Verdict::Deny) {
                return;
            }
            self.policy = before.0;
            self.what.truncate(before.1);
        }
        self.wall(case, said);
    }

    fn take_rule(&mut self, place: &Place) {
        let Place::Rule { group: id, direction, index } = place else { return };
        let name = rule_name(&self.policy, place);
        let Some(group) = self.policy.groups.iter_mut().find(|group| group.id == *id) else { return };
        let rules = match direction {
            Direction::Ingress => &mut group.ingress,
            Direction::Egress => &mut group.egress,
        };
        let Some(rule) = rules.as_mut().and_then(|rules| rules.get_mut(*index)) else { return };
        self.what.push(format!("take rule {name} away, or narrow it ({})", rule.origin));
        *rule = Rule::nobody(rule.origin.clone());
    }

    fn enforce(&mut self, id: GroupId) {
        let Some(group) = self.policy.groups.iter_mut().find(|group| group.id == id && group.mode == Mode::Audit)
        else {
            return;
        };
        group.mode = Mode::Enforce;
        self.what.push(format!("set mode: enforce on group {} ({})", group.name, group.origin));
    }

    /// Where no rule allows it because nothing governs it: what would.
    fn wall(&mut self, case: &Case<'_>, said: &[Said]) {
        for said in said {
            let direction = said.direction;
            let key = if direction == Direction::Ingress { "ingress" } else { "egress" };
            let groups = case.groups(&case.ends[end_of(direction)].who);
            match said.reason {
                Reason::OpenEgress | Reason::OpenIngress => {
                    let Some(id) = groups.first() else { continue };
                    let Some(group) = self.policy.groups.iter_mut().find(|group| group.id == *id) else { continue };
                    match direction {
                        Direction::Ingress => group.ingress = Some(Vec::new()),
                        Direction::Egress => group.egress = Some(Vec::new()),
                    }
                    group.mode = Mode::Enforce;
                    let text =
                        format!("have group {} mention {key}, if only as `{key}: []` ({})", group.name, group.origin);
                    self.what.push(text);
                }
                Reason::Ungoverned => {
                    let name = match &case.ends[end_of(direction)].who {
                        Who::Workload(name) => name,
                        _ => continue,
                    };
                    let text = format!(
                        "write a group whose selector has the labels of {name}: nothing comes in then, but by its rules"
                    );
                    self.what.push(text);
                    self.govern(case, direction);
                }
                _ => continue,
            }
            if self.comes_to(case, Verdict::Deny) {
                return;
            }
        }
    }

    /// A group for the workload at an end, with no rules at all.
    fn govern(&mut self, case: &Case<'_>, direction: Direction) {
        let Who::Workload(name) = &case.ends[end_of(direction)].who else { return };
        let Some(workload) = case.population.workloads.iter().find(|workload| workload.name == *name) else { return };
        let requirement =
            |(key, value): (&String, &String)| crate::workload::Requirement::In(key.clone(), vec![value.clone()]);
        let origin = crate::policy::model::Origin { file: Arc::default(), line: 1, column: 1 };
        let taken = |id: u32| self.policy.groups.iter().any(|group| group.id.0 == id);
        let id = (1..).find(|id| !taken(*id)).expect("there are more numbers than groups");
        self.policy.groups.push(crate::policy::model::SecurityGroup {
            name: format!("for {name}"),
            id: GroupId(id),
            description: None,
            selector: crate::workload::Selector { requirements: workload.labels.iter().map(requirement).collect() },
            ingress: Some(Vec::new()),
            egress: (direction == Direction::Egress).then(Vec::new),
            mode: Mode::Enforce,
            established: crate::policy::model::Established::default(),
            origin,
        });
    }
}

/// A peer by group where it has one; otherwise as the entity or address that it is.
fn peer(case: &Case<'_>, groups: &[GroupId], end: usize) -> (Peer, String) {
    if let Some(id) = groups.first() {
        return (Peer::Group(*id), format!("{{group: {}}}", group(case.policy, *id).name));
    }
    let address = case.ends[end].address;
    if matches!(case.ends[end].who, Who::Host) && case.population.host_addresses.contains(&address) {
        return (Peer::Host, "{entity: host}".to_owned());
    }
    if case.population.cluster.node_addresses().any(|node| *node == address) {
        return (Peer::RemoteHost, "{entity: remote-host}".to_owned());
    }
    let net = IpNet::from(address);
    let text =
        if matches!(address, IpAddr::V6(_)) { format!("{{cidr: \"{net}\"}}") } else { format!("{{cidr: {net}}}") };
    (Peer::Cidr(net), text)
}

fn port(service: Service) -> PortMatch {
    let [kind, code] = service.detail.to_be_bytes();
    match service.protocol {
        protocol @ (6 | 17 | 132) => PortMatch::Ports { protocol, first: service.detail, last: service.detail },
        protocol @ (1 | 58) => PortMatch::Icmp { protocol, kind: Some(kind), code: Some(code) },
        protocol => PortMatch::Protocol(protocol),
    }
}

fn port_text(service: Service) -> String {
    let [kind, code] = service.detail.to_be_bytes();
    let name = match service.protocol {
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        1 => "icmp",
        58 => "icmpv6",
        number => return format!("{{protocol: {number}}}"),
    };
    if matches!(service.protocol, 1 | 58) {
        return format!("{{protocol: {name}, type: {kind}, code: {code}}}");
    }
    format!("{{protocol: {name}, port: {}}}", service.detail)
}
