//! Rules and their peers.

use super::cidr::parse_cidr;
use super::port::ports;
use super::{Context, once};
use crate::policy::document::{EgressRule, Entity, Field, IngressRule, NameOrNumber, PeerEntry, PortEntry, shorten};
use crate::policy::model::{GroupId, Peer, Rule};
use crate::policy::suggest::nearest;
use crate::policy::yaml::Mark;

/// An entry of `ingress`.
pub(super) fn ingress(mark: Mark, rule: &IngressRule, context: Context<'_>) -> Option<Rule> {
    self::rule(mark, &rule.description, ("from", &rule.from), &rule.ports, context)
}

/// An entry of `egress`.
pub(super) fn egress(mark: Mark, rule: &EgressRule, context: Context<'_>) -> Option<Rule> {
    self::rule(mark, &rule.description, ("to", &rule.to), &rule.ports, context)
}

fn rule(
    mark: Mark,
    description: &Field<String>,
    (side, entries): (&str, &Field<Vec<Field<PeerEntry>>>),
    entries_of_ports: &Field<Vec<Field<PortEntry>>>,
    context: Context<'_>,
) -> Option<Rule> {
    let anyone = || format!("for anyone, write `{side}: [{{cidr: 0.0.0.0/0}}, {{cidr: \"::/0\"}}]`");
    if entries.is_absent() {
        context.report.add(mark, format!("this rule has no `{side}`: it would match nobody"), anyone());
    }
    let peers = peers(side, entries, anyone, context);
    let ports = ports(entries_of_ports, context);
    Some(Rule {
        description: description.get().cloned(),
        peers: peers?,
        ports: ports?,
        named: Vec::new(),
        origin: context.report.origin(mark),
    })
}

/// The peers of one list, each once; `None` where there is no list. `anyone` is how to write that.
pub(super) fn peers(
    side: &str,
    entries: &Field<Vec<Field<PeerEntry>>>,
    anyone: impl FnOnce() -> String,
    context: Context<'_>,
) -> Option<Vec<Peer>> {
    let (mark, entries) = entries.marked()?;
    if entries.is_empty() {
        context.report.add(mark, format!("`{side}` is empty: it would match nobody"), anyone());
    }
    let mut peers = Vec::with_capacity(entries.len());
    for (mark, entry) in entries.iter().filter_map(|entry| entry.marked()) {
        peer(side, mark, entry, context, &mut peers);
    }
    Some(once(peers))
}

/// Adds what one entry names: an AddressGroup may be many.
fn peer(side: &str, mark: Mark, entry: &PeerEntry, context: Context<'_>, peers: &mut Vec<Peer>) {
    let given = [
        ("group", entry.group.mark()),
        ("cidr", entry.cidr.mark()),
        ("addresses", entry.addresses.mark()),
        ("entity", entry.entity.mark()),
    ];
    let mut given = given.iter().filter_map(|(name, mark)| Some((*name, (*mark)?)));
    match (given.next(), given.next()) {
        (Some(_), None) => {}
        (None, _) => {
            let cure =
                "write one of {group: NAME}, {cidr: PREFIX}, {addresses: NAME} and {entity: world} or {entity: host}";
            context.report.add(mark, format!("this entry of `{side}` names nobody"), cure);
        }
        (Some((first, _)), Some((second, place))) => {
            let message = format!("an entry of `{side}` has one peer, and this one has both `{first}` and `{second}`");
            context.report.add(place, message, "make two entries of it");
        }
    }
    if let Some((mark, group)) = entry.group.marked() {
        peers.extend(self::group(mark, group, context).map(Peer::Group));
    }
    if let Some((mark, text)) = entry.cidr.marked() {
        match parse_cidr(text) {
            Ok(cidr) => peers.push(Peer::Cidr(cidr)),
            Err((message, cure)) => context.report.add(mark, message, cure),
        }
    }
    if let Some((mark, name)) = entry.addresses.marked() {
        peers.extend(addresses(mark, name, context).iter().copied().map(Peer::Cidr));
    }
    match entry.entity.get() {
        Some(Entity::World) => peers.push(Peer::World),
        Some(Entity::Host) => peers.push(Peer::Host),
        Some(Entity::RemoteHost) => peers.push(Peer::RemoteHost),
        None => {}
    }
}

/// A group by name, which must be defined; or by ID, which need not: another network may own it.
fn group(mark: Mark, group: &NameOrNumber, context: Context<'_>) -> Option<GroupId> {
    match group {
        NameOrNumber::Number(number) => {
            let id = u32::try_from(*number).ok().filter(|id| *id != 0);
            if id.is_none() {
                let cure = format!("write a number from 1 to {}, or the group's name", u32::MAX);
                context.report.add(mark, format!("{number} is no group's ID"), cure);
            }
            id.map(GroupId)
        }
        NameOrNumber::Name(name) => {
            let id = context.index.groups.get(name).copied();
            if id.is_none() && context.index.complete {
                let cure = match nearest(name, context.index.groups.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if name.parse::<u32>().is_ok() => {
                        format!("for the group with this ID, write {name} without quotes")
                    }
                    None => {
                        "define it with a SecurityGroup document, or name it by its ID where another network owns it"
                            .to_owned()
                    }
                };
                context.report.add(mark, format!("no SecurityGroup is named `{}`", shorten(name)), cure);
            }
            id
        }
    }
}

fn addresses<'a>(mark: Mark, name: &str, context: Context<'a>) -> &'a [ipnet::IpNet] {
    let cidrs = context.index.addresses.get(name);
    if cidrs.is_none() && context.index.complete {
        let cure = match nearest(name, context.index.addresses.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if context.index.groups.contains_key(name) => {
                format!("write `{{group: {name}}}` for the SecurityGroup")
            }
            None => "define it with an AddressGroup document".to_owned(),
        };
        context.report.add(mark, format!("no AddressGroup is named `{}`", shorten(name)), cure);
    }
    cidrs.map(Vec::as_slice).unwrap_or_default()
}
