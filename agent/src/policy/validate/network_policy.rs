//! Kubernetes' NetworkPolicies, as the security groups that mean the same.
//!
//! A policy becomes a group, `networkpolicy:NAMESPACE/NAME`: its members are the pods that it selects, its rules the policy's, by the same
//! index. What a rule's selectors name becomes a group too, `pods:SELECTOR`, which governs nobody: it only says who is meant.
//! A direction that no policy of a pod mentions stays open, as a group without `egress` leaves it.
//!
//! Source of what is implied: Kubernetes' API reference, `networking.k8s.io/v1`, and "Network Policies" in its documentation.

mod block;
mod peers;

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, Taken};
use super::names::check_subdomain;
use super::selector::requirements;
use super::{Context, group_id, once};
use crate::policy::document::network_policy::{
    MODE, NetworkPolicy, NetworkPolicySpec, ObjectMeta, PolicyType, Port, Protocol,
};
use crate::policy::document::{Field, NameOrNumber};
use crate::policy::model::{Established, GroupId, Mode, Origin, Peer, PortMatch, Rule, SecurityGroup};
use crate::policy::problem::Reporter;
use crate::policy::yaml::{Mark, Node, Value};
use crate::workload::{Requirement, Selector};
use peers::{Peers, everyone};

/// The label that carries a pod's namespace.
pub(super) const NAMESPACE: &str = "namespace";
/// Begins the name of a group that a policy is.
pub(in crate::policy) const PREFIX: &str = "networkpolicy:";

/// A policy that has been read, and where it stands.
pub(super) struct ReadPolicy<'a> {
    pub(super) mark: Mark,
    pub(super) report: Reporter<'a>,
    pub(super) document: NetworkPolicy,
}

/// The documents of a list, as `kubectl get networkpolicies -o yaml` prints one; of anything else the document itself.
pub(super) fn listed(document: Node<'_>) -> Vec<Node<'_>> {
    let is = |field: &str, value: &str| {
        document.fields().any(|(key, of)| key.raw() == field && of.value() == Value::Text && of.raw() == value)
    };
    let items = document.fields().find(|(key, value)| key.raw() == "items" && value.value() == Value::List);
    match items {
        Some((_, items)) if is("apiVersion", "v1") && is("kind", "List") => items.children().collect(),
        _ => vec![document],
    }
}

/// The groups that all policies together are.
pub(super) fn groups(reads: &[ReadPolicy<'_>], index: &Index) -> Vec<SecurityGroup> {
    let mut names = Taken::default();
    let mut ids: BTreeSet<GroupId> = index.groups.values().copied().collect();
    let mut peers = BTreeMap::new();
    let mut groups = Vec::new();
    for read in reads {
        let context = Context { report: read.report, index };
        let Some((mark, namespace, name)) = name(read) else { continue };
        let name = format!("{namespace}/{name}");
        let is_first = names.take("NetworkPolicy", &name, mark, read.report);
        // A group has a name of its own even where two policies have not.
        let name = if is_first { format!("{PREFIX}{name}") } else { read.report.origin(read.mark).to_string() };
        groups.extend(policy(read, &namespace, name, context, (&mut peers, &mut ids)));
    }
    groups.extend(peers.into_values());
    groups
}

/// Namespace and name, and where the name stands.
fn name(read: &ReadPolicy<'_>) -> Option<(Mark, String, String)> {
    let report = read.report;
    let metadata = match &read.document.metadata {
        Field::Absent => {
            report.add(
                read.mark,
                "this document has no `metadata`",
                "add `metadata: {name: NAME, namespace: NAMESPACE}`",
            );
            return None;
        }
        Field::Refused(_) => return None,
        Field::Is(_, metadata) => metadata,
    };
    if metadata.name.is_absent() {
        report.add(read.document.metadata.mark()?, "`metadata` has no `name`", "add `name: NAME`");
    }
    let mut is_right = true;
    for (mark, text) in [&metadata.name, &metadata.namespace].into_iter().filter_map(Field::marked) {
        if let Err((message, cure)) = check_subdomain(text) {
            report.add(mark, message, cure);
            is_right = false;
        }
    }
    let (mark, name) = metadata.name.marked()?;
    let namespace = match &metadata.namespace {
        Field::Absent => "default".to_owned(),
        Field::Refused(_) => return None,
        Field::Is(_, namespace) => namespace.clone(),
    };
    is_right.then(|| (mark, namespace, name.clone()))
}

/// The policy's own group; what its rules name goes to `peers`.
fn policy(
    read: &ReadPolicy<'_>,
    namespace: &str,
    name: String,
    context: Context<'_>,
    (groups, ids): (&mut BTreeMap<String, SecurityGroup>, &mut BTreeSet<GroupId>),
) -> Option<SecurityGroup> {
    let mode = read.document.metadata.get().and_then(|metadata| mode(metadata, context)).unwrap_or_default();
    if read.document.spec.is_absent() {
        context.report.add(read.mark, "this document has no `spec`", "add `spec: {podSelector: {}}`");
    }
    let (mark, spec) = read.document.spec.marked()?;
    if spec.pod_selector.is_absent() {
        let cure =
            "add `podSelector: {matchLabels: {KEY: VALUE}}`, or `podSelector: {}` for every pod of the namespace";
        context.report.add(mark, "this NetworkPolicy has no `podSelector`", cure);
    }
    let selecting = spec.pod_selector.get().map(|selector| {
        let of_namespace = Requirement::In(NAMESPACE.to_owned(), vec![namespace.to_owned()]);
        [of_namespace].into_iter().chain(requirements(selector, context)).collect()
    });
    let origin = context.report.origin(read.mark);
    let mut peers = Peers { namespace, context, groups, ids, origin: &origin };
    let ingress =
        list(&spec.ingress, context, |mark, entry| rule(mark, ("from", &entry.from), &entry.ports, &mut peers));
    let egress = list(&spec.egress, context, |mark, entry| rule(mark, ("to", &entry.to), &entry.ports, &mut peers));

    let [has_ingress, has_egress] = directions(spec, !egress.is_empty());
    let node = || [node(origin.clone())];
    let ingress = has_ingress.then(|| ingress.into_iter().chain(node()).collect());
    let egress = has_egress.then(|| egress.into_iter().chain(node()).collect());
    Some(SecurityGroup {
        id: group_id::free(&name, ids),
        name,
        description: None,
        selector: Selector { requirements: selecting? },
        ingress,
        egress,
        mode,
        established: Established::Revoke,
        origin,
    })
}

/// A pod and its node reach each other, whatever policies say.
pub(in crate::policy) fn node(origin: Origin) -> Rule {
    let description = Some("a node and its pods reach each other".to_owned());
    Rule { description, peers: vec![Peer::Host], ports: None, origin }
}

/// The rules of one direction, a wrong one without peers.
fn list<R>(
    rules: &Field<Vec<Field<R>>>,
    context: Context<'_>,
    mut read: impl FnMut(Mark, &R) -> Option<Rule>,
) -> Vec<Rule> {
    let rule = |field: &Field<R>| {
        let read = field.marked().and_then(|(mark, rule)| read(mark, rule));
        read.unwrap_or_else(|| Rule::nobody(context.report.origin(field.mark().unwrap_or_default())))
    };
    rules.get().into_iter().flatten().map(rule).collect()
}

/// Whether the policy says anything of ingress and of egress. Defaults as the API server sets them: kubernetes,
/// `pkg/apis/networking/v1/defaults.go`.
fn directions(spec: &NetworkPolicySpec, has_egress_rules: bool) -> [bool; 2] {
    let types: Vec<PolicyType> =
        spec.policy_types.get().into_iter().flatten().filter_map(|kind| kind.get().copied()).collect();
    if types.is_empty() {
        return [true, has_egress_rules];
    }
    [PolicyType::Ingress, PolicyType::Egress].map(|kind| types.contains(&kind))
}

fn mode(metadata: &ObjectMeta, context: Context<'_>) -> Option<Mode> {
    let annotations = metadata.annotations.get().map(|texts| texts.0.as_slice()).unwrap_or_default();
    let of_mode = annotations.iter().find(|(key, _)| key.get().is_some_and(|key| key == MODE));
    let Some((mark, value)) = of_mode.and_then(|(_, value)| value.marked()) else { return Some(Mode::Enforce) };
    match value.as_str() {
        "enforce" => Some(Mode::Enforce),
        "audit" => Some(Mode::Audit),
        _ => {
            context.report.add(
                mark,
                format!("the annotation `{MODE}` is neither `enforce` nor `audit`"),
                "write one of them",
            );
            None
        }
    }
}

fn rule(
    mark: Mark,
    (side, entries): (&str, &Field<Vec<Field<crate::policy::document::network_policy::Peer>>>),
    entries_of_ports: &Field<Vec<Field<Port>>>,
    peers: &mut Peers<'_>,
) -> Option<Rule> {
    let context = peers.context;
    let named = match entries {
        Field::Refused(_) => None,
        Field::Is(_, entries) if !entries.is_empty() => peers.of(side, entries),
        Field::Absent | Field::Is(..) => Some(everyone()),
    };
    let ports = match entries_of_ports {
        Field::Refused(_) => None,
        Field::Is(_, entries) if !entries.is_empty() => ports(entries, context).map(Some),
        Field::Absent | Field::Is(..) => Some(None),
    };
    Some(Rule { description: None, peers: named?, ports: ports?, origin: context.report.origin(mark) })
}

/// The ports of a rule. One that is named stays out: nobody knows which it is, and what nobody knows is not allowed.
fn ports(entries: &[Field<Port>], context: Context<'_>) -> Option<Vec<PortMatch>> {
    let ports: Vec<Option<Option<PortMatch>>> =
        entries.iter().filter_map(Field::marked).map(|(_, entry)| port(entry, context)).collect();
    Some(once(ports.into_iter().collect::<Option<Vec<_>>>()?.into_iter().flatten().collect()))
}

/// `None` where it is wrong, `Some(None)` where it is a name.
fn port(entry: &Port, context: Context<'_>) -> Option<Option<PortMatch>> {
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
        (None, None) if entry.port.is_absent() => Some(Some(PortMatch::Ports { protocol, first: 0, last: u16::MAX })),
        (None, None) => None,
        (Some((_, NameOrNumber::Name(name))), Some((at, _))) => {
            let message = format!("`endPort` beside the named port `{name}`");
            context.report.add(at, message, "give `port` as a number, or leave `endPort` out");
            None
        }
        (Some((at, NameOrNumber::Name(name))), None) if name.is_empty() => {
            context.report.add(at, "the port's name is empty", "write a port from 1 to 65535, or a name");
            None
        }
        (Some((_, NameOrNumber::Name(_))), None) => Some(None),
        (Some((at, NameOrNumber::Number(number))), last) => {
            let first = in_range(at, *number, "port")?;
            match last {
                Some((at, last)) if last < first => {
                    let message = format!("the range ends at {last}, before it begins at {first}");
                    context.report.add(at, message, format!("write `port: {last}` and `endPort: {first}`"));
                    None
                }
                _ => Some(Some(PortMatch::Ports { protocol, first, last: last.map_or(first, |(_, last)| last) })),
            }
        }
    }
}
