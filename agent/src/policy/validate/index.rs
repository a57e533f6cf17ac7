//! What names and IDs stand for, over all files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipnet::IpNet;

use super::cidr::parse_cidr;
use super::{Documents, Read, group_id};
use crate::policy::document::AddressGroupSpec;
use crate::policy::model::{GroupId, Origin};
use crate::policy::problem::Reporter;
use crate::policy::yaml::Mark;

/// Groups and address groups by name.
pub(super) struct Index {
    pub(super) groups: BTreeMap<String, GroupId>,
    pub(super) addresses: BTreeMap<String, Vec<IpNet>>,
    /// Whether a name that is not here is defined nowhere.
    pub(super) complete: bool,
}

impl Index {
    /// Collects names and IDs, and reports those that are taken twice.
    pub(super) fn new(documents: &Documents<'_>, complete: bool) -> Self {
        let mut index = Self { groups: BTreeMap::new(), addresses: BTreeMap::new(), complete };
        let mut names = Taken::default();
        let mut ids = BTreeMap::new();
        for read in &documents.groups {
            let Some((mark, name)) = read.name() else { continue };
            if !names.take("SecurityGroup", name, mark, read.report) {
                continue;
            }
            let given = read.document.spec.get().and_then(|spec| spec.id.marked());
            let valid = given.filter(|(_, id)| (1..=group_id::MAX_GIVEN).contains(*id));
            let (place, id) = match valid.and_then(|(mark, id)| Some((mark, GroupId(u32::try_from(*id).ok()?)))) {
                Some(given) => given,
                None => (mark, group_id::derived(name)),
            };
            if take_id(&mut ids, id, name, place, read.report) {
                index.groups.insert(name.to_owned(), id);
            } else if let Entry::Vacant(free) = ids.entry(group_id::derived(name)) {
                // So that whoever names it does not get the other's members.
                index.groups.insert(name.to_owned(), *free.key());
                free.insert((name.to_owned(), read.report.origin(mark)));
            }
        }
        let mut names = Taken::default();
        for read in &documents.addresses {
            let cidrs = cidrs(read);
            let Some((mark, name)) = read.name() else { continue };
            if names.take("AddressGroup", name, mark, read.report) {
                index.addresses.insert(name.to_owned(), cidrs);
            }
        }
        index
    }
}

/// Names of one kind that are taken, and where.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<String, Origin>);

impl Taken {
    /// Takes a name; where it is taken, reports both places.
    pub(super) fn take(&mut self, kind: &str, name: &str, mark: Mark, report: Reporter<'_>) -> bool {
        match self.0.entry(name.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(report.origin(mark));
                true
            }
            Entry::Occupied(entry) => {
                let message = format!("{kind} `{name}` is defined twice: here and at {}", entry.get());
                report.add(mark, message, "rename one of them, or remove it");
                false
            }
        }
    }
}

/// Takes an ID; where it is taken, reports both places.
fn take_id(
    ids: &mut BTreeMap<GroupId, (String, Origin)>,
    id: GroupId,
    name: &str,
    mark: Mark,
    report: Reporter<'_>,
) -> bool {
    let Some((other, origin)) = ids.get(&id) else {
        ids.insert(id, (name.to_owned(), report.origin(mark)));
        return true;
    };
    if i64::from(id.0) > group_id::MAX_GIVEN {
        let message = format!("the IDs derived from the names `{name}` and `{other}` (at {origin}) are both {id}");
        report.add(mark, message, "give one of the two groups an `id` of its own");
    } else {
        let message = format!("ID {id} is given twice: here to `{name}` and at {origin} to `{other}`");
        report.add(mark, message, "give one of the two groups another `id`");
    }
    false
}

fn cidrs(read: &Read<'_, AddressGroupSpec>) -> Vec<IpNet> {
    let Some((mark, spec)) = read.document.spec.marked() else { return Vec::new() };
    let Some((list, entries)) = spec.cidrs.marked() else {
        if spec.cidrs.is_absent() {
            read.report.add(mark, "this AddressGroup has no `cidrs`", "add `cidrs: [10.0.0.0/8]` with its prefixes");
        }
        return Vec::new();
    };
    if entries.is_empty() {
        read.report.add(list, "`cidrs` is empty: a rule that names it would match nothing", "list at least one prefix");
    }
    let mut cidrs = Vec::new();
    for (mark, text) in entries.iter().filter_map(|entry| entry.marked()) {
        match parse_cidr(text) {
            Ok(cidr) => cidrs.push(cidr),
            Err((message, cure)) => read.report.add(mark, message, cure),
        }
    }
    cidrs
}
