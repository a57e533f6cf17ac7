//! Workload documents.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::Read;
use super::cidr::parse_address;
use super::index::Taken;
use super::names::Wrong;
use crate::policy::document::{Field, WorkloadSpec, shorten};
use crate::policy::model::Origin;
use crate::policy::problem::Reporter;
use crate::workload::{DeclaredWorkload, Labels};

/// Longest name of an interface, in bytes: the kernel's `IFNAMSIZ` without the final zero.
const MAX_INTERFACE: usize = 15;

/// Every workload, and what several of them claim.
pub(super) fn workloads(reads: &[Read<'_, WorkloadSpec>]) -> Vec<DeclaredWorkload> {
    let mut names = Taken::default();
    let mut cgroups = Claims { what: "cgroup", taken: HashMap::new() };
    let mut interfaces = Claims { what: "interface", taken: HashMap::new() };
    let mut workloads = Vec::new();
    for read in reads {
        let report = read.report;
        if let Some((mark, name)) = read.name() {
            names.take("Workload", name, mark, report);
        }
        let Some((mark, spec)) = read.document.spec.marked() else { continue };
        if spec.cgroup.is_absent() && spec.interface.is_absent() && spec.addresses.is_absent() {
            let cure = "add `cgroup` or `interface` for a local one, or `addresses` for a remote one";
            report.add(mark, "this Workload can't be told from others", cure);
        }
        let name = read.name().map_or("", |(_, name)| name);
        let cgroup = checked(&spec.cgroup, check_cgroup, report);
        let interface = checked(&spec.interface, check_interface, report);
        cgroups.claim(&spec.cgroup, name, report);
        interfaces.claim(&spec.interface, name, report);
        let Some(metadata) = read.document.metadata.get() else { continue };
        let labels: Labels = metadata
            .labels
            .get()
            .map(|texts| texts.0.as_slice())
            .unwrap_or_default()
            .iter()
            .filter_map(|(key, value)| Some((key.get()?.clone(), value.get()?.clone())))
            .collect();
        workloads.push(DeclaredWorkload {
            name: name.to_owned(),
            labels,
            cgroup,
            interface,
            addresses: addresses(&spec.addresses, report),
            origin: report.origin(read.mark),
        });
    }
    workloads
}

fn checked(field: &Field<String>, check: fn(&str) -> Result<(), Wrong>, report: Reporter<'_>) -> Option<String> {
    let (mark, text) = field.marked()?;
    match check(text) {
        Ok(()) => Some(text.clone()),
        Err((message, cure)) => {
            report.add(mark, message, cure);
            None
        }
    }
}

fn check_cgroup(path: &str) -> Result<(), Wrong> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err((
            format!("the cgroup path `{}` leads upwards", shorten(path)),
            "write the path below the cgroup root, without `..`".to_owned(),
        ));
    }
    if path.contains('\0') || parts.is_empty() {
        return Err((
            format!("`{}` is no path of a cgroup", shorten(path)),
            "write the path below the cgroup root, such as shop/web-1".to_owned(),
        ));
    }
    let plain = parts.join("/");
    if plain == path {
        return Ok(());
    }
    let mut cure = format!("write `{plain}`");
    // The path as ls shows it, with the mount point.
    if let Some(below) = plain.strip_prefix("sys/fs/cgroup/") {
        cure = format!("write `{}`", below.strip_prefix("unified/").unwrap_or(below));
    }
    Err((format!("the cgroup path `{}` is not one below the cgroup root", shorten(path)), cure))
}

/// As the kernel's `dev_valid_name` has it.
fn check_interface(name: &str) -> Result<(), Wrong> {
    if name.len() > MAX_INTERFACE {
        return Err((
            format!("the interface name `{}` has {} bytes", shorten(name), name.len()),
            format!("the kernel's names have {MAX_INTERFACE} at most: see `ip link` for the right one"),
        ));
    }
    let bad = |byte: u8| byte == b'/' || byte == b':' || byte == 0 || byte.is_ascii_whitespace() || byte == 0x0b;
    if name.is_empty() || name == "." || name == ".." || name.bytes().any(bad) {
        return Err((
            format!("`{name}` is no name of an interface"),
            "see `ip link` for the right one, without what follows `@` or `:`".to_owned(),
        ));
    }
    Ok(())
}

fn addresses(field: &Field<Vec<Field<String>>>, report: Reporter<'_>) -> Arc<[IpAddr]> {
    let Some((mark, entries)) = field.marked() else { return Arc::default() };
    if entries.is_empty() {
        report.add(mark, "`addresses` is empty", "list at least one address, or leave it out");
    }
    let mut addresses = BTreeSet::new();
    for (mark, text) in entries.iter().filter_map(|entry| entry.marked()) {
        match parse_address(text) {
            Ok(address) if addresses.insert(address) => {}
            Ok(address) => report.add(mark, format!("address {address} is listed twice"), "keep one of the two"),
            Err((message, cure)) => report.add(mark, message, cure),
        }
    }
    addresses.into_iter().collect()
}

/// What only one workload may claim.
struct Claims {
    what: &'static str,
    /// Who has claimed it, and where.
    taken: HashMap<String, (String, Origin)>,
}

impl Claims {
    fn claim(&mut self, field: &Field<String>, name: &str, report: Reporter<'_>) {
        let Some((mark, thing)) = field.marked() else { return };
        let Some((other, origin)) = self.taken.get(thing) else {
            self.taken.insert(thing.clone(), (name.to_owned(), report.origin(mark)));
            return;
        };
        let what = self.what;
        let thing = shorten(thing);
        let message = format!("{what} `{thing}` is claimed twice: here by `{name}` and at {origin} by `{other}`");
        report.add(mark, message, format!("give each workload its own {what}"));
    }
}
