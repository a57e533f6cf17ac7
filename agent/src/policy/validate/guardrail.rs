//! Guardrail documents.

use super::index::{Index, Taken};
use super::port::ports;
use super::rule::peers;
use super::{Context, Read};
use crate::policy::document::{DenyRule, Field, GuardrailSpec};
use crate::policy::model::{DenyEntry, Guardrail};
use crate::policy::yaml::Mark;

/// Every guardrail of which enough is right to have one.
pub(super) fn guardrails(reads: &[Read<'_, GuardrailSpec>], index: &Index) -> Vec<Guardrail> {
    let mut names = Taken::default();
    let mut guardrails = Vec::new();
    for read in reads {
        let context = Context { report: read.report, index };
        if let Some((mark, name)) = read.name() {
            names.take("Guardrail", name, mark, read.report);
        }
        let Some((mark, spec)) = read.document.spec.marked() else { continue };
        let entries = entries(mark, spec, context);
        let Some((_, name)) = read.name() else { continue };
        guardrails.push(Guardrail {
            name: name.to_owned(),
            description: spec.description.get().cloned(),
            entries,
            origin: read.report.origin(read.mark),
        });
    }
    guardrails
}

fn entries(spec: Mark, guardrail: &GuardrailSpec, context: Context<'_>) -> Vec<DenyEntry> {
    let cure =
        "add at least one entry, such as `deny: [{from: [{entity: world}], ports: [{protocol: tcp, port: 22}]}]`";
    match &guardrail.deny {
        Field::Absent => context.report.add(spec, "this Guardrail has no `deny`", cure),
        Field::Is(mark, entries) if entries.is_empty() => {
            context.report.add(*mark, "`deny` is empty: the guardrail denies nothing", cure);
        }
        Field::Refused(_) | Field::Is(..) => {}
    }
    let entry = |field: &Field<DenyRule>| {
        let read = field.marked().and_then(|(mark, entry)| deny(mark, entry, context));
        read.unwrap_or_else(|| DenyEntry::nobody(context.report.origin(field.mark().unwrap_or_default())))
    };
    guardrail.deny.get().into_iter().flatten().map(entry).collect()
}

/// One entry; `None` where it is wrong.
fn deny(mark: Mark, entry: &DenyRule, context: Context<'_>) -> Option<DenyEntry> {
    let anyone = |side: &'static str| move || format!("leave `{side}` out for anyone, or list at least one");
    if entry.from.is_absent() && entry.to.is_absent() && entry.ports.is_absent() {
        let cure = "say what is denied, with `from`, `to` or `ports`; to deny all the same, write `from: [{cidr: 0.0.0.0/0}, \
                    {cidr: \"::/0\"}]`";
        context.report.add(mark, "this entry of `deny` would deny everything", cure);
    }
    let from = peers("from", &entry.from, anyone("from"), context);
    let to = peers("to", &entry.to, anyone("to"), context);
    Some(DenyEntry {
        description: entry.description.get().cloned(),
        from,
        to,
        ports: ports(&entry.ports, context)?,
        origin: context.report.origin(mark),
    })
}
