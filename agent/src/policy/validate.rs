//! From documents to a [`PolicySet`], or to every problem that they have.
//!
//! Each document is read for itself first, then names are resolved over all of them: a rule may name a group of another file.

mod cidr;
mod group;
pub(super) mod group_id;
mod guardrail;
mod index;
mod names;
pub(super) mod network_policy;
mod port;
mod rule;
mod selector;
mod workload;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;

use self::network_policy::{Names, ReadPolicy, groups};
use super::document::network_policy as kubernetes;
use super::document::{
    API_VERSION, AddressGroupSpec, Document, Field, GuardrailSpec, Metadata, SecurityGroupSpec, Texts, WorkloadSpec,
    decode, shorten,
};
use super::model::PolicySet;
use super::problem::{Problem, Reporter};
use super::suggest::{listed, nearest};
use super::yaml::{Flaw, Mark, Node, Tree, Value};
use crate::workload::port::PortNumbers;
use index::Index;

/// A policy file and what stands in it.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Its path, as problems shall name it.
    pub path: Arc<PathBuf>,
    /// Its text.
    pub text: String,
}

/// Validates all files together.
///
/// # Errors
/// Every problem, by file, line and column.
pub fn validate(files: &[PolicyFile]) -> Result<PolicySet, Vec<Problem>> {
    validate_after(files, Vec::new())
}

/// As [`validate`], where `found` is what was wrong before there were texts.
pub(super) fn validate_after(files: &[PolicyFile], found: Vec<Problem>) -> Result<PolicySet, Vec<Problem>> {
    let (policy, problems) = read_in_part(files, found, &PortNumbers::default());
    if problems.is_empty() { Ok(policy) } else { Err(problems) }
}

/// Every problem, as [`validate_after`] has it, beside what is right: a rule that is wrong stands at its index without peers, a
/// deny entry without anyone who sends. What else a document with a problem says may be wider than what was meant. `ports` are the
/// numbers that names of ports have beside those of `Workload` documents.
pub(super) fn read_in_part(
    files: &[PolicyFile],
    found: Vec<Problem>,
    ports: &PortNumbers,
) -> (PolicySet, Vec<Problem>) {
    let complete = found.is_empty();
    let problems = RefCell::new(found);
    let policy = Set { problems: &problems, complete }.validate(files, ports.clone());
    let mut problems = problems.into_inner();
    problems.sort_by(|one, other| one.origin.cmp(&other.origin));
    (policy, problems)
}

/// A document that has been read, and where it stands.
struct Read<'a, S> {
    mark: Mark,
    report: Reporter<'a>,
    document: Document<S>,
}

/// Every document, by kind.
#[derive(Default)]
struct Documents<'a> {
    groups: Vec<Read<'a, SecurityGroupSpec>>,
    guardrails: Vec<Read<'a, GuardrailSpec>>,
    workloads: Vec<Read<'a, WorkloadSpec>>,
    addresses: Vec<Read<'a, AddressGroupSpec>>,
    network_policies: Vec<ReadPolicy<'a>>,
}

/// What the parts of a document are judged by.
#[derive(Clone, Copy)]
struct Context<'a> {
    report: Reporter<'a>,
    index: &'a Index,
}

struct Set<'a> {
    problems: &'a RefCell<Vec<Problem>>,
    /// Whether every document has been seen: names that are missing otherwise may stand in what could not be read.
    complete: bool,
}

impl Set<'_> {
    fn validate(mut self, files: &[PolicyFile], mut ports: PortNumbers) -> PolicySet {
        let mut trees = Vec::new();
        for file in files {
            let report = Reporter::new(&file.path, self.problems);
            match Tree::read(&file.text) {
                Ok(tree) => trees.push((report, tree)),
                Err(Flaw { mark, message, cure }) => {
                    report.add(mark, message, cure);
                    self.complete = false;
                }
            }
        }
        let nodes = || {
            trees.iter().flat_map(|(report, tree)| {
                tree.documents().flat_map(network_policy::listed).map(|node| (*report, node))
            })
        };
        // A file that an editor has emptied to write it anew must not set every workload free for that moment.
        if let (true, true, Some(file)) = (nodes().next().is_none(), self.complete, files.first()) {
            let cure = "add at least one document; to enforce nothing, stop the agent and use `bulkhead detach`";
            let start = Mark { line: 1, column: 1 };
            Reporter::new(&file.path, self.problems).add(start, "the policy has no documents at all", cure);
        }
        let mut documents = Documents::default();
        for (report, node) in nodes() {
            if read(node, report, &mut documents).is_none() {
                self.complete = false;
            }
        }
        let index = Index::new(&documents, self.complete);
        let mut policy = PolicySet {
            groups: documents.groups.iter().filter_map(|read| group::group(read, &index)).collect(),
            guardrails: guardrail::guardrails(&documents.guardrails, &index),
            workloads: workload::workloads(&documents.workloads),
            ..PolicySet::default()
        };
        policy.workloads.iter().for_each(|workload| ports.add(&workload.labels));
        let mut names = Names { numbers: &ports, asked: BTreeSet::new(), crowded: BTreeSet::new() };
        policy.groups.extend(groups(&documents.network_policies, &index, &mut names));
        (policy.port_names, policy.crowded_names) = (names.asked, names.crowded);
        policy.groups.sort_by(|one, other| one.name.cmp(&other.name));
        policy.guardrails.sort_by(|one, other| one.name.cmp(&other.name));
        policy.workloads.sort_by(|one, other| one.name.cmp(&other.name));
        policy
    }
}

const KINDS: [&str; 5] = ["SecurityGroup", "Guardrail", "AddressGroup", "Workload", kubernetes::KIND];

/// Reads one document into its kind's shape; `None` where it could not be told what it declares.
fn read<'a>(node: Node<'a>, report: Reporter<'a>, documents: &mut Documents<'a>) -> Option<()> {
    if node.value() != Value::Map {
        let cure = format!("begin it with `apiVersion: {API_VERSION}`, `kind`, `metadata` and `spec`");
        report.add(node.mark(), "a document must be a mapping of fields", cure);
        return None;
    }
    let field = |name: &str| node.fields().find(|(key, _)| key.raw() == name).map(|(_, value)| value);
    let is_kubernetes = field("kind").is_some_and(|kind| kind.raw() == kubernetes::KIND);
    let expected = if is_kubernetes { kubernetes::API_VERSION } else { API_VERSION };
    match field("apiVersion") {
        None => {
            report.add(node.mark(), "this document has no `apiVersion`", format!("add `apiVersion: {expected}`"));
        }
        Some(version) if version.value() == Value::Text && version.raw() != expected => {
            let whose =
                if is_kubernetes { "of NetworkPolicy that is understood" } else { "of Bulkhead's policy language" };
            let message = format!("`{}` is no version {whose}", shorten(version.raw()));
            report.add(version.mark(), message, format!("write `{expected}`"));
        }
        // Whatever it is instead, reading the document reports it.
        Some(_) => {}
    }
    let Some(kind) = field("kind") else {
        let cure = format!("add `kind`: {}", listed(KINDS, "or"));
        report.add(node.mark(), "this document has no `kind`", cure);
        return None;
    };
    match kind.raw() {
        "SecurityGroup" => documents.groups.push(outer(node, report, "selector: {}")?),
        "Guardrail" => documents.guardrails.push(outer(node, report, "deny")?),
        "Workload" => documents.workloads.push(outer(node, report, "cgroup, interface or addresses")?),
        kubernetes::KIND => {
            let document = decode(node, report)?;
            documents.network_policies.push(ReadPolicy { mark: node.mark(), report, document });
        }
        "AddressGroup" => documents.addresses.push(outer(node, report, "cidrs")?),
        other => {
            let cure = match nearest(other, KINDS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write {}", listed(KINDS, "or")),
            };
            report.add(kind.mark(), format!("`{}` is no kind of document", shorten(other)), cure);
            return None;
        }
    }
    Some(())
}

/// Reads a document whose kind is known; `needs` is the least that its spec says.
fn outer<'a, S>(node: Node<'a>, report: Reporter<'a>, needs: &str) -> Option<Read<'a, S>>
where
    Document<S>: serde::Deserialize<'a>,
{
    let document: Document<S> = decode(node, report)?;
    match &document.metadata {
        Field::Absent => report.add(node.mark(), "this document has no `metadata`", "add `metadata: {name: NAME}`"),
        Field::Refused(_) => {}
        Field::Is(mark, metadata) => check_metadata(*mark, metadata, report),
    }
    if document.spec.is_absent() {
        report.add(node.mark(), "this document has no `spec`", format!("add `spec` with {needs}"));
    }
    Some(Read { mark: node.mark(), report, document })
}

fn check_metadata(mark: Mark, metadata: &Metadata, report: Reporter<'_>) {
    match &metadata.name {
        Field::Absent => report.add(mark, "`metadata` has no `name`", "add `name: NAME`"),
        Field::Refused(_) => {}
        Field::Is(mark, name) => {
            if let Err((message, cure)) = names::check_name(name) {
                report.add(*mark, message, cure);
            }
        }
    }
    check_labels(&metadata.labels, report, names::check_value);
}

/// Each entry of a list once, the first of those that are the same.
fn once<T: Copy + Eq + Hash>(mut list: Vec<T>) -> Vec<T> {
    // Most have one.
    if list.len() > 1 {
        let mut seen = HashSet::new();
        list.retain(|entry| seen.insert(*entry));
    }
    list
}

/// Checks keys and values of labels.
fn check_labels(labels: &Field<Texts>, report: Reporter<'_>, check_value: fn(&str) -> Result<(), names::Wrong>) {
    for (key, value) in labels.get().map(|texts| texts.0.as_slice()).unwrap_or_default() {
        for (field, check) in [(key, names::check_key as fn(&str) -> _), (value, check_value)] {
            if let Some((mark, text)) = field.marked()
                && let Err((message, cure)) = check(text)
            {
                report.add(mark, message, cure);
            }
        }
    }
}

impl<S> Read<'_, S> {
    /// The name, and where it stands.
    fn name(&self) -> Option<(Mark, &str)> {
        let metadata = self.document.metadata.get()?;
        metadata.name.marked().map(|(mark, name)| (mark, name.as_str()))
    }
}

#[cfg(test)]
mod tests;
