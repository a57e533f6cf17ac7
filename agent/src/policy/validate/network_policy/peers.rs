//! Who is meant by the entries of `from` and `to`.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::group_id;
use super::super::selector::requirements;
use super::super::{Context, once};
use super::{NAMESPACE, Names, block};
use crate::policy::document::network_policy::Peer as Entry;
use crate::policy::document::{Field, LabelSelector};
use crate::policy::model::{Established, GroupId, Mode, Origin, Peer, SecurityGroup};
use crate::policy::yaml::Mark;
use crate::workload::{Requirement, Selector};

/// Begins the name of a group that only says who is meant.
const PREFIX: &str = "pods:";

/// The peers of one policy, and the groups that they need.
pub(super) struct Peers<'a, 'n> {
    pub(super) namespace: &'a str,
    pub(super) context: Context<'a>,
    /// By name: what several policies name is one group.
    pub(super) groups: &'a mut BTreeMap<String, SecurityGroup>,
    /// Every ID that is taken.
    pub(super) ids: &'a mut BTreeSet<GroupId>,
    pub(super) names: &'a mut Names<'n>,
    pub(super) origin: &'a Origin,
    /// Of the groups that this policy's peers are.
    pub(super) selectors: BTreeMap<GroupId, Selector>,
}

/// Every address.
pub(super) fn everyone() -> Vec<Peer> {
    vec![Peer::Cidr(IpNet::V4(Ipv4Net::default())), Peer::Cidr(IpNet::V6(Ipv6Net::default()))]
}

impl Peers<'_, '_> {
    /// Each peer once; `None` where something is wrong.
    pub(super) fn of(&mut self, side: &str, entries: &[Field<Entry>]) -> Option<Vec<Peer>> {
        let mut peers = Some(Vec::new());
        for entry in entries {
            let of_entry = entry.marked().and_then(|(mark, entry)| self.entry(side, mark, entry));
            match (&mut peers, of_entry) {
                (Some(peers), Some(of_entry)) => peers.extend(of_entry),
                _ => peers = None,
            }
        }
        peers.map(once)
    }

    fn entry(&mut self, side: &str, mark: Mark, entry: &Entry) -> Option<Vec<Peer>> {
        let report = self.context.report;
        match (&entry.pod_selector, &entry.namespace_selector, &entry.ip_block) {
            (Field::Absent, Field::Absent, Field::Absent) => {
                let cure = format!(
                    "write a `podSelector`, a `namespaceSelector`, both, or an `ipBlock`; for anyone, leave `{side}` out"
                );
                report.add(mark, format!("this entry of `{side}` names nobody"), cure);
                None
            }
            (Field::Absent, Field::Absent, Field::Is(mark, block)) => {
                let nets = block::nets(*mark, block, report)?;
                Some(nets.into_iter().map(Peer::Cidr).collect())
            }
            (pods, namespaces, Field::Absent) => {
                let selector = self.selector(pods, namespaces)?;
                let group = self.group(selector.clone());
                self.selectors.insert(group, selector);
                Some(vec![Peer::Group(group)])
            }
            (_, _, block) => {
                let place = block.mark().unwrap_or(mark);
                let message =
                    format!("an entry of `{side}` has either selectors or an `ipBlock`, and this one has both");
                report.add(place, message, "make two entries of it");
                None
            }
        }
    }

    /// Pods of the policy's namespace, all pods of some namespaces, or some pods of some namespaces.
    fn selector(&self, pods: &Field<LabelSelector>, namespaces: &Field<LabelSelector>) -> Option<Selector> {
        let mut all = match namespaces {
            Field::Refused(_) => return None,
            Field::Absent => vec![Requirement::In(NAMESPACE.to_owned(), vec![self.namespace.to_owned()])],
            Field::Is(_, selector) => {
                let of_namespace = requirements(selector, self.context).into_iter().map(of_namespace);
                // Pods alone have a namespace.
                [Requirement::Exists(NAMESPACE.to_owned())].into_iter().chain(of_namespace).collect()
            }
        };
        match pods {
            Field::Refused(_) => return None,
            Field::Absent => {}
            Field::Is(_, selector) => all.extend(requirements(selector, self.context)),
        }
        Some(Selector { requirements: all })
    }

    /// Which pods a peer is; an address is none.
    pub(super) fn selector_of(&self, peer: &Peer) -> Option<Selector> {
        let Peer::Group(group) = peer else { return None };
        self.selectors.get(group).cloned()
    }

    /// The group that stands for a selector.
    pub(super) fn group(&mut self, selector: Selector) -> GroupId {
        let name = format!("{PREFIX}{}", text(&selector));
        let ids = &mut *self.ids;
        let group = self.groups.entry(name.clone()).or_insert_with(|| SecurityGroup {
            id: group_id::free(&name, ids),
            name,
            description: None,
            selector,
            ingress: None,
            egress: None,
            mode: Mode::Enforce,
            established: Established::Revoke,
            origin: self.origin.clone(),
        });
        group.id
    }
}

/// A namespace's label, as its pods carry it.
fn of_namespace(requirement: Requirement) -> Requirement {
    let prefixed = |key: String| format!("{NAMESPACE}.{key}");
    match requirement {
        Requirement::In(key, values) => Requirement::In(prefixed(key), values),
        Requirement::NotIn(key, values) => Requirement::NotIn(prefixed(key), values),
        Requirement::Exists(key) => Requirement::Exists(prefixed(key)),
        Requirement::DoesNotExist(key) => Requirement::DoesNotExist(prefixed(key)),
    }
}

/// The selector nearly as Kubernetes' tools write one, in an order of its own: the same for all that mean the same labels. Groups
/// are listed with commas between them, so there is none within.
fn text(selector: &Selector) -> String {
    let one = |requirement: &Requirement| match requirement {
        Requirement::In(key, values) if values.len() == 1 => format!("{key}={}", values[0]),
        Requirement::In(key, values) => format!("{key} in ({})", sorted(values, "|")),
        Requirement::NotIn(key, values) => format!("{key} notin ({})", sorted(values, "|")),
        Requirement::Exists(key) => key.clone(),
        Requirement::DoesNotExist(key) => format!("!{key}"),
    };
    sorted(&selector.requirements.iter().map(one).collect::<Vec<_>>(), "&")
}

fn sorted(texts: &[String], between: &str) -> String {
    let mut texts = texts.to_vec();
    texts.sort();
    texts.dedup();
    texts.join(between)
}
