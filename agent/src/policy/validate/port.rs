//! Entries of `ports`.

use super::{Context, once};
use crate::policy::document::{Field, NameOrNumber, PortEntry, shorten};
use crate::policy::model::PortMatch;
use crate::policy::suggest::nearest;
use crate::policy::yaml::Mark;
use crate::workload::port::PROTOCOLS as WITH_PORTS;

/// Protocols with type and code, by name.
const WITH_TYPES: [(&str, u8); 2] = [("icmp", 1), ("icmpv6", 58)];

/// The whole list; `None` where something is wrong with it, which is reported.
pub(super) fn ports(entries: &Field<Vec<Field<PortEntry>>>, context: Context<'_>) -> Option<Option<Vec<PortMatch>>> {
    let (mark, entries) = match entries {
        Field::Absent => return Some(None),
        Field::Refused(_) => return None,
        Field::Is(mark, entries) => (*mark, entries),
    };
    if entries.is_empty() {
        let cure = "leave `ports` out for every protocol and port, or list what is allowed";
        context.report.add(mark, "`ports` is empty: it allows nothing", cure);
        return None;
    }
    let mut ports = Vec::with_capacity(entries.len());
    for entry in entries {
        ports.extend(entry.marked().and_then(|(mark, entry)| port(mark, entry, context)));
    }
    if ports.len() < entries.len() {
        return None;
    }
    Some(Some(once(ports)))
}

fn port(mark: Mark, entry: &PortEntry, context: Context<'_>) -> Option<PortMatch> {
    let Some((at, protocol)) = entry.protocol.marked() else {
        if entry.protocol.is_absent() {
            let cure = "add `protocol: tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number";
            context.report.add(mark, "this entry of `ports` has no `protocol`", cure);
        }
        return None;
    };
    match protocol {
        NameOrNumber::Number(number) => numbered(at, *number, entry, context),
        NameOrNumber::Name(name) => {
            let find = |table: &[(&str, u8)]| table.iter().find(|(known, _)| known == name).map(|(_, number)| *number);
            if let Some(number) = find(&WITH_PORTS) {
                misfits(name, [("type", &entry.kind), ("code", &entry.code)], "`port` and `endPort`", context)?;
                return range(number, entry, context);
            }
            if let Some(number) = find(&WITH_TYPES) {
                misfits(name, [("port", &entry.port), ("endPort", &entry.end_port)], "`type` and `code`", context)?;
                return icmp(number, entry, context);
            }
            let names = WITH_PORTS.iter().chain(&WITH_TYPES).map(|(name, _)| *name);
            let cure = match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if name.parse::<u8>().is_ok() => format!("write the number without quotes: {name}"),
                None => "write `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or the protocol's number".to_owned(),
            };
            context.report.add(at, format!("`{}` is no protocol that has a name here", shorten(name)), cure);
            None
        }
    }
}

/// A protocol by its number: all of it. One that has a name means the same as its name alone.
fn numbered(mark: Mark, number: i64, entry: &PortEntry, context: Context<'_>) -> Option<PortMatch> {
    let Ok(protocol) = u8::try_from(number) else {
        context.report.add(mark, format!("{number} is no IP protocol"), "write a number from 0 to 255");
        return None;
    };
    let named = WITH_PORTS.iter().chain(&WITH_TYPES).find(|(_, known)| *known == protocol);
    let fields = [("port", &entry.port), ("endPort", &entry.end_port), ("type", &entry.kind), ("code", &entry.code)];
    let mut fits = true;
    for (field, value) in fields {
        if let Some(at) = value.mark() {
            let cure = match named {
                Some((name, _)) => format!("write `protocol: {name}`, or leave `{field}` out to allow all of it"),
                None => format!("leave `{field}` out: all of protocol {protocol} is allowed"),
            };
            context.report.add(at, format!("a protocol by number has no `{field}`"), cure);
            fits = false;
        }
    }
    fits.then_some(match protocol {
        6 | 17 | 132 => PortMatch::Ports { protocol, first: 0, last: u16::MAX },
        1 | 58 => PortMatch::Icmp { protocol, kind: None, code: None },
        _ => PortMatch::Protocol(protocol),
    })
}

/// Reports fields that the protocol does not have.
fn misfits(protocol: &str, fields: [(&str, &Field<i64>); 2], has: &str, context: Context<'_>) -> Option<()> {
    let mut fits = Some(());
    for (field, value) in fields {
        if let Some(mark) = value.mark() {
            let cure = format!("remove it: `{protocol}` has {has}");
            context.report.add(mark, format!("`{protocol}` has no `{field}`"), cure);
            fits = None;
        }
    }
    fits
}

fn range(protocol: u8, entry: &PortEntry, context: Context<'_>) -> Option<PortMatch> {
    let first = number(&entry.port, "port", 1, u16::MAX, context);
    let last = number(&entry.end_port, "endPort", 1, u16::MAX, context);
    let (first, last) = (first?, last?);
    match (first, last) {
        (None, None) => Some(PortMatch::Ports { protocol, first: 0, last: u16::MAX }),
        (Some(port), None) => Some(PortMatch::Ports { protocol, first: port, last: port }),
        (Some(first), Some(last)) if first <= last => Some(PortMatch::Ports { protocol, first, last }),
        (Some(first), Some(last)) => {
            let mark = entry.end_port.mark().unwrap_or_default();
            let cure = format!("write `port: {last}` and `endPort: {first}`");
            context.report.add(mark, format!("the range ends at {last}, before it begins at {first}"), cure);
            None
        }
        (None, Some(last)) => {
            let mark = entry.end_port.mark().unwrap_or_default();
            let cure = format!("add `port`, the first port of the range, or write `port: {last}` alone");
            context.report.add(mark, "`endPort` without `port`", cure);
            None
        }
    }
}

fn icmp(protocol: u8, entry: &PortEntry, context: Context<'_>) -> Option<PortMatch> {
    let kind = number(&entry.kind, "type", 0, u8::MAX, context);
    let code = number(&entry.code, "code", 0, u8::MAX, context);
    let (kind, code) = (kind?, code?);
    if kind.is_none() && code.is_some() {
        let mark = entry.code.mark().unwrap_or_default();
        context.report.add(mark, "`code` without `type`", "add the `type` that the code belongs to, or remove `code`");
        return None;
    }
    Some(PortMatch::Icmp { protocol, kind, code })
}

/// A number within its range: `None` where it is wrong, `Some(None)` where it is absent.
fn number<N>(field: &Field<i64>, name: &str, least: N, most: N, context: Context<'_>) -> Option<Option<N>>
where
    N: TryFrom<i64> + Into<i64> + Copy,
{
    let (mark, number) = match field {
        Field::Absent => return Some(None),
        Field::Refused(_) => return None,
        Field::Is(mark, number) => (*mark, *number),
    };
    let (least, most) = (least.into(), most.into());
    if !(least..=most).contains(&number) {
        let mut cure = format!("write a number from {least} to {most}");
        if name == "port" && number == 0 {
            cure = "write a port from 1 to 65535, or leave `port` out for all of them".to_owned();
        }
        context.report.add(mark, format!("`{name}` {number} is out of range"), cure);
        return None;
    }
    N::try_from(number).ok().map(Some)
}
