//! `ports` of a rule: numbers, and names with the numbers that pods are known to have for them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::names::check_port_name;
use super::super::{Context, once};
use super::NAMESPACE;
use super::peers::Peers;
use crate::policy::document::network_policy::{Port, Protocol};
use crate::policy::document::{Field, NameOrNumber};
use crate::policy::model::{NamedPort, Peer, PortMatch, PortOf};
use crate::policy::yaml::Mark;
use crate::workload::port::{PortName, PortNumbers};
use crate::workload::{Requirement, Selector};

/// The `ports` of one rule.
pub(super) struct Ports {
    /// By number. Without names beside it, an empty list is no port at all.
    pub(super) matches: Vec<PortMatch>,
    /// By name.
    names: BTreeSet<PortName>,
}

/// What names of ports stand for, and which of them were asked for.
pub(in crate::policy::validate) struct Names<'a> {
    pub(in crate::policy::validate) numbers: &'a PortNumbers,
    pub(in crate::policy::validate) asked: BTreeSet<PortName>,
    /// Those that have more numbers than are used.
    pub(in crate::policy::validate) crowded: BTreeSet<PortName>,
}

impl Names<'_> {
    fn of(&mut self, name: &PortName, namespaces: Option<&[String]>) -> Vec<u16> {
        self.asked.insert(name.clone());
        let (numbers, are_more) = self.numbers.of(name, namespaces);
        if are_more {
            self.crowded.insert(name.clone());
        }
        numbers
    }
}

/// The ports of a rule; `None` where something is wrong.
pub(super) fn ports(entries: &[Field<Port>], context: Context<'_>) -> Option<Ports> {
    let read: Vec<Option<Read>> =
        entries.iter().filter_map(Field::marked).map(|(_, entry)| port(entry, context)).collect();
    let mut ports = Ports { matches: Vec::new(), names: BTreeSet::new() };
    for one in read {
        match one? {
            Read::Match(port) => ports.matches.push(port),
            Read::Name(name) => drop(ports.names.insert(name)),
        }
    }
    ports.matches = once(ports.matches);
    Some(ports)
}

impl Ports {
    /// What an ingress rule allows at its named ports: the number is that of the pod that receives, and so of the subject, which
    /// is of the policy's namespace.
    pub(super) fn of_subjects(&self, peers: &mut Peers<'_, '_>) -> Vec<NamedPort> {
        let namespace = vec![peers.namespace.to_owned()];
        let mut named = Vec::new();
        for name in &self.names {
            for number in peers.names.of(name, Some(&namespace)) {
                let requirements =
                    vec![Requirement::In(NAMESPACE.to_owned(), namespace.clone()), has_port(name, number)];
                let of = PortOf::Subjects(peers.group(Selector { requirements }));
                named.push(NamedPort { port: exactly(name, number), of });
            }
        }
        named
    }

    /// What an egress rule allows at its named ports: the number is that of the pod that receives, and so of the peer. An
    /// address is no pod. `to` is `None` for anyone.
    pub(super) fn of_peers(&self, to: Option<&[Peer]>, peers: &mut Peers<'_, '_>) -> Vec<NamedPort> {
        let anyone = || Selector { requirements: vec![Requirement::Exists(NAMESPACE.to_owned())] };
        let selectors = match to {
            None => vec![anyone()],
            Some(to) => to.iter().filter_map(|peer| peers.selector_of(peer)).collect(),
        };
        let mut by_port: BTreeMap<(&PortName, u16), Vec<Peer>> = BTreeMap::new();
        for name in &self.names {
            for selector in &selectors {
                for number in peers.names.of(name, namespaces(selector)) {
                    let mut selector = selector.clone();
                    selector.requirements.push(has_port(name, number));
                    let group = peers.group(selector);
                    by_port.entry((name, number)).or_default().push(Peer::Group(group));
                }
            }
        }
        let named = |((name, number), peers)| NamedPort { port: exactly(name, number), of: PortOf::Peers(peers) };
        by_port.into_iter().map(named).collect()
    }
}

fn exactly(name: &PortName, number: u16) -> PortMatch {
    PortMatch::Ports { protocol: name.protocol, first: number, last: number }
}

fn has_port(name: &PortName, number: u16) -> Requirement {
    Requirement::In(name.key(), vec![number.to_string()])
}

/// The only namespaces whose pods a selector can select, where it names some.
fn namespaces(selector: &Selector) -> Option<&[String]> {
    // Kubernetes gives every namespace its name as a label.
    let is_name = |key: &str| {
        let of_namespace = key.strip_prefix(NAMESPACE);
        of_namespace.is_some_and(|rest| rest.is_empty() || rest == ".kubernetes.io/metadata.name")
    };
    selector.requirements.iter().find_map(|requirement| match requirement {
        Requirement::In(key, values) if is_name(key) => Some(values.as_slice()),
        _ => None,
    })
}

enum Read {
    Match(PortMatch),
    Name(PortName),
}

fn port(entry: &Port, context: Context<'_>) -> Option<Read> {
    let protocol = match &entry.protocol {
        Field::Absent => Protocol::default(),
        Field::Refused(_) => return None,
        Field::Is(_, protocol) => *protocol,
    } as u8;
    let in_range = |mark: Mark, number: i64, name: &str| {
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        if port.is_none() {
            context.report.add(mark, format!("`{name}` {number} is out of range"), "write a number from 1 to 65535");
        }
        port
    };
    let last = match &entry.end_port {
        Field::Absent => None,
        Field::Refused(_) => return None,
        Field::Is(mark, number) => Some((*mark, in_range(*mark, *number, "endPort")?)),
    };
    match (entry.port.marked(), last) {
        (None, Some((at, _))) => {
            context.report.add(at, "`endPort` without `port`", "add `port`, the first port of the range");
            None
        }
        (None, None) if entry.port.is_absent() => {
            Some(Read::Match(PortMatch::Ports { protocol, first: 0, last: u16::MAX }))
        }
        (None, None) => None,
        (Some((_, NameOrNumber::Name(name))), Some((at, _))) => {
            let message = format!("`endPort` beside the named port `{name}`");
            context.report.add(at, message, "give `port` as a number, or leave `endPort` out");
            None
        }
        (Some((at, NameOrNumber::Name(name))), None) => match check_port_name(name) {
            Ok(()) => Some(Read::Name(PortName { protocol, name: name.clone() })),
            Err((message, cure)) => {
                context.report.add(at, message, cure);
                None
            }
        },
        (Some((at, NameOrNumber::Number(number))), last) => {
            let first = in_range(at, *number, "port")?;
            match last {
                Some((at, last)) if last < first => {
                    let message = format!("the range ends at {last}, before it begins at {first}");
                    context.report.add(at, message, format!("write `port: {last}` and `endPort: {first}`"));
                    None
                }
                _ => {
                    let last = last.map_or(first, |(_, last)| last);
                    Some(Read::Match(PortMatch::Ports { protocol, first, last }))
                }
            }
        }
    }
}
