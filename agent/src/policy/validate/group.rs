//! SecurityGroup documents.

use super::index::Index;
use super::{Context, Read, group_id, rule, selector};
use crate::policy::document::{EstablishedName, Field, ModeName, SecurityGroupSpec};
use crate::policy::model::{Established, Mode, Rule, SecurityGroup};
use crate::policy::problem::Reporter;
use crate::policy::yaml::Mark;

/// The group, where enough of it is right to have one.
pub(super) fn group(read: &Read<'_, SecurityGroupSpec>, index: &Index) -> Option<SecurityGroup> {
    let context = Context { report: read.report, index };
    let (mark, spec) = read.document.spec.marked()?;
    check_id(spec, context);
    let selector = selector::selector(&spec.selector, mark, context);
    let ingress = list(&spec.ingress, read.report, |mark, rule| rule::ingress(mark, rule, context));
    let egress = list(&spec.egress, read.report, |mark, rule| rule::egress(mark, rule, context));
    let (_, name) = read.name()?;
    Some(SecurityGroup {
        name: name.to_owned(),
        id: *index.groups.get(name)?,
        description: spec.description.get().cloned(),
        selector: selector?,
        ingress: Some(ingress.unwrap_or_default()),
        egress,
        mode: match spec.mode.get() {
            Some(ModeName::Audit) => Mode::Audit,
            Some(ModeName::Enforce) | None => Mode::Enforce,
        },
        established: match spec.established.get() {
            Some(EstablishedName::Keep) => Established::Keep,
            Some(EstablishedName::Revoke) | None => Established::Revoke,
        },
        origin: read.report.origin(read.mark),
    })
}

fn check_id(spec: &SecurityGroupSpec, context: Context<'_>) {
    let Some((mark, id)) = spec.id.marked() else { return };
    let most = group_id::MAX_GIVEN;
    if *id == 0 {
        let cure = format!("write a number from 1 to {most}, or leave `id` out to have it derived from the name");
        context.report.add(mark, "ID 0 stands for no group", cure);
    } else if !(1..=most).contains(id) {
        let cure = format!("write a number from 1 to {most}: those above are for IDs that are derived from names");
        context.report.add(mark, format!("ID {id} is out of range"), cure);
    }
}

/// The rules of one direction, a wrong one without peers; `None` where the group does not mention it.
fn list<R>(
    rules: &Field<Vec<Field<R>>>,
    report: Reporter<'_>,
    mut read: impl FnMut(Mark, &R) -> Option<Rule>,
) -> Option<Vec<Rule>> {
    let rule = |field: &Field<R>| {
        let read = field.marked().and_then(|(mark, rule)| read(mark, rule));
        read.unwrap_or_else(|| Rule::nobody(report.origin(field.mark().unwrap_or_default())))
    };
    Some(rules.get()?.iter().map(rule).collect())
}
