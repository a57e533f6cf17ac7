//! Kubernetes' NetworkPolicies, as the security groups that mean the same.
//!
//! A policy becomes a group, `networkpolicy:NAMESPACE/NAME`: its members are the pods that it selects, its rules the policy's, by the same
//! index. What a rule's selectors name becomes a group too, `pods:SELECTOR`, which governs nobody: it only says who is meant.
//! A port that a rule names is the number that the pod which receives has for the name, and so another one for each: see [`ports`].
//! A direction that no policy of a pod mentions stays open, as a group without `egress` leaves it.
//!
//! Source of what is implied: Kubernetes' API reference, `networking.k8s.io/v1`, and "Network Policies" in its documentation.

mod block;
mod peers;
mod ports;

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, Taken};
use super::names::check_subdomain;
use super::selector::requirements;
use super::{Context, group_id};
use crate::policy::document::Field;
use crate::policy::document::network_policy::{
    MODE, NetworkPolicy, NetworkPolicySpec, ObjectMeta, Peer as Entry, PolicyType, Port,
};
use crate::policy::model::{Established, GroupId, Mode, Origin, Peer, Rule, SecurityGroup};
use crate::policy::problem::Reporter;
use crate::policy::yaml::{Mark, Node, Value};
use crate::workload::{Requirement, Selector};
use peers::{Peers, everyone};
pub(super) use ports::Names;

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
pub(super) fn groups(reads: &[ReadPolicy<'_>], index: &Index, ports: &mut Names<'_>) -> Vec<SecurityGroup> {
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
        groups.extend(policy(read, &namespace, name, context, (&mut peers, &mut ids, ports)));
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
    (groups, ids, names): (&mut BTreeMap<String, SecurityGroup>, &mut BTreeSet<GroupId>, &mut Names<'_>),
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
    let mut peers = Peers { namespace, context, groups, ids, names, origin: &origin, selectors: BTreeMap::new() };
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
    Rule { description, peers: vec![Peer::Host], ports: None, named: Vec::new(), origin }
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
    (side, entries): (&str, &Field<Vec<Field<Entry>>>),
    entries_of_ports: &Field<Vec<Field<Port>>>,
    peers: &mut Peers<'_, '_>,
) -> Option<Rule> {
    let context = peers.context;
    let some = match entries {
        Field::Refused(_) => None,
        Field::Is(_, entries) if !entries.is_empty() => peers.of(side, entries).map(Some),
        Field::Absent | Field::Is(..) => Some(None),
    };
    let ports = match entries_of_ports {
        Field::Refused(_) => None,
        Field::Is(_, entries) if !entries.is_empty() => ports::ports(entries, context).map(Some),
        Field::Absent | Field::Is(..) => Some(None),
    };
    let (some, ports) = (some?, ports?);
    let named = ports.as_ref().map(|ports| match side {
        "from" => ports.of_subjects(peers),
        _ => ports.of_peers(some.as_deref(), peers),
    });
    Some(Rule {
        description: None,
        peers: some.unwrap_or_else(everyone),
        ports: ports.map(|ports| ports.matches),
        named: named.unwrap_or_default(),
        origin: context.report.origin(mark),
    })
}
