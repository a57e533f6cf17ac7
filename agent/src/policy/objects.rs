//! Policy from the Kubernetes API, judged together with the policy files.
//!
//! Files are one work of one hand: all of them hold, or none. Objects of the API come one by one from many hands: each is judged
//! for itself, and what is wrong with one neither blocks the others nor the files, nor opens anything. See [`Standing`] for what
//! becomes of one that is refused.

mod blame;
mod object;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::model::{DenyEntry, GroupId, Origin, PolicySet, Rule, SecurityGroup};
use super::problem::Problem;
use super::validate::network_policy::{PREFIX, node};
use super::validate::{PolicyFile, group_id, read_in_part};
use crate::workload::port::PortNumbers;
use blame::Blame;
pub use object::{ApiObject, Condition, Counted, NotAnObject, ObjectKind, ObjectName};

/// Texts of objects in which nothing was wrong when they were last judged.
pub type Accepted = BTreeMap<ObjectName, Arc<str>>;

/// Files and objects together.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// What is to be in force.
    pub policy: PolicySet,
    /// The objects that are not in force as they were written.
    pub refused: BTreeMap<ObjectName, Refusal>,
    /// For the next time.
    pub accepted: Accepted,
}

/// What is wrong with an object, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is in force in its place.
    pub standing: Standing,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// What is in force in place of an object that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All of it but the rules, peers or deny entries that are wrong, which allow and deny nothing.
    InPart,
    /// Whom it selects, without a rule: they are denied what no other group allows.
    Closed,
    /// Its last version that was accepted while this agent ran.
    Former,
    /// Nothing: whom it is about can't be read, and no former version is known.
    Nothing,
}

impl Standing {
    /// In one word, as a condition's reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InPart => "InForceInPart",
            Self::Closed => "MembersDenied",
            Self::Former => "FormerVersionInForce",
            Self::Nothing => "NotInForce",
        }
    }
}

/// Judges `objects` together with `files`, which are right by themselves. `before` is what was accepted so far, `ports`
/// the numbers that pods have for names of ports.
///
/// Where a name or an ID is taken twice, files win over objects, and of two objects the older one wins.
#[must_use]
pub fn judge_with_objects(
    files: &[PolicyFile],
    objects: &[ApiObject],
    before: &Accepted,
    ports: &PortNumbers,
) -> Judged {
    let mut ordered: Vec<&ApiObject> = objects.iter().collect();
    ordered.sort_by(|one, other| (&one.created, &one.name).cmp(&(&other.created, &other.name)));
    let texts = ordered.iter().map(|object| Some(object.text.clone())).collect();
    let mut reading = Reading::new(files, &ordered, texts, ports);
    let mut refused = BTreeMap::new();
    let mut texts = Vec::with_capacity(ordered.len());
    for (at, object) in ordered.iter().enumerate() {
        let text = if reading.is_lost(at, object) {
            let former = before.get(&object.name).filter(|text| **text != object.text).cloned();
            let standing = if former.is_some() { Standing::Former } else { Standing::Nothing };
            if former.is_none() && object.name.kind == ObjectKind::Guardrail {
                // What it denies in part is better than nothing.
                Some(object.text.clone())
            } else {
                refused.insert(object.name.clone(), Refusal { standing, problems: reading.told(at) });
                former
            }
        } else {
            Some(object.text.clone())
        };
        texts.push(text);
    }
    if !refused.is_empty() {
        // Once more, without those: nobody may be taken for their member, and whoever names one has to be told.
        reading = Reading::new(files, &ordered, texts, ports);
    }
    let standings = reading.mend(&ordered);
    let mut accepted = Accepted::new();
    for (at, object) in ordered.iter().enumerate() {
        if let Some(standing) = standings[at] {
            refused.entry(object.name.clone()).or_insert_with(|| Refusal { standing, problems: reading.told(at) });
        }
        let text = if refused.contains_key(&object.name) { before.get(&object.name) } else { Some(&object.text) };
        accepted.extend(text.map(|text| (object.name.clone(), text.clone())));
    }
    Judged { policy: reading.policy, refused, accepted }
}

/// Files and objects, read together, and the problems of each object.
struct Reading {
    policy: PolicySet,
    blames: Vec<Vec<Blame>>,
    /// The group or guardrail that each object is, by its index.
    groups: HashMap<usize, usize>,
    guardrails: HashMap<usize, usize>,
}

impl Reading {
    /// An object without a text is left out.
    fn new(files: &[PolicyFile], objects: &[&ApiObject], texts: Vec<Option<Arc<str>>>, ports: &PortNumbers) -> Self {
        let of_objects = objects.iter().zip(texts).map(|(object, text)| {
            text.map(|text| PolicyFile { path: object.path.clone(), text: String::from(&*text) })
        });
        let of_objects: Vec<Option<PolicyFile>> = of_objects.collect();
        let all: Vec<PolicyFile> = files.iter().chain(of_objects.iter().flatten()).cloned().collect();
        let (policy, problems) = read_in_part(&all, Vec::new(), ports);
        let numbers: HashMap<&Path, usize> =
            objects.iter().enumerate().map(|(at, object)| (object.path.as_path(), at)).collect();
        let number = |origin: &Origin| numbers.get(origin.file.as_path()).copied();

        let mut by_object: BTreeMap<usize, Vec<Problem>> = BTreeMap::new();
        for problem in problems {
            if let Some(at) = problem.origin.as_ref().and_then(number) {
                by_object.entry(at).or_default().push(problem);
            }
        }
        let mut blames = vec![Vec::new(); objects.len()];
        for (at, problems) in by_object {
            let text = of_objects[at].as_ref().map_or("", |file| file.text.as_str());
            blames[at] = blame::blames(text, problems);
        }
        let own = |group: &&SecurityGroup| group.governs();
        let groups = policy.groups.iter().enumerate().filter(|(_, group)| own(group));
        let groups = groups.filter_map(|(index, group)| Some((number(&group.origin)?, index))).collect();
        let guardrails = policy.guardrails.iter().enumerate();
        let guardrails = guardrails.filter_map(|(index, rail)| Some((number(&rail.origin)?, index))).collect();
        Self { policy, blames, groups, guardrails }
    }

    /// Whether so much of an object is wrong that what is left of it may not be taken for it.
    fn is_lost(&self, at: usize, object: &ApiObject) -> bool {
        let blames = &self.blames[at];
        match object.name.kind {
            ObjectKind::SecurityGroup | ObjectKind::NetworkPolicy => {
                !blames.is_empty() && (!self.groups.contains_key(&at) || blames.iter().any(Blame::is_of_selector))
            }
            ObjectKind::AddressGroup => blames.iter().any(|blame| !blame.is_of_name()),
            ObjectKind::Guardrail => blames.iter().any(|blame| !blame.is_of_name() && !blame.is_of_one_peer()),
        }
    }

    /// The problems of an object, each with its place in it.
    fn told(&self, at: usize) -> Vec<Problem> {
        self.blames[at].iter().map(Blame::told).collect()
    }

    /// Makes what is wrong allow nothing, and says what became of each object.
    fn mend(&mut self, objects: &[&ApiObject]) -> Vec<Option<Standing>> {
        let mut ids: BTreeSet<GroupId> = self.policy.groups.iter().map(|group| group.id).collect();
        let mut lost = BTreeSet::new();
        let standings = objects.iter().enumerate().map(|(at, object)| {
            let blames = self.blames[at].as_slice();
            if blames.is_empty() {
                return None;
            }
            if let Some(index) = self.groups.get(&at) {
                let group = &mut self.policy.groups[*index];
                if blames.iter().any(Blame::is_of_selector) {
                    lost.insert(*index);
                    return Some(Standing::Nothing);
                }
                if blames.iter().any(Blame::is_of_name) && !group.name.starts_with(PREFIX) {
                    // Others mean the one that has the name.
                    group.name = object.path.display().to_string();
                    group.id = group_id::free(&group.name, &mut ids);
                }
                return Some(mend_group(group, blames, object.name.kind));
            }
            if let Some(index) = self.guardrails.get(&at) {
                let guardrail = &mut self.policy.guardrails[*index];
                if blames.iter().any(Blame::is_of_name) {
                    guardrail.name = object.path.display().to_string();
                }
                for at in blames.iter().filter_map(|blame| blame.entry_of("deny")) {
                    if let Some(entry) = guardrail.entries.get_mut(at) {
                        *entry = DenyEntry::nobody(entry.origin.clone());
                    }
                }
                return Some(Standing::InPart);
            }
            Some(Standing::Nothing)
        });
        let standings = standings.collect();
        let mut index = 0;
        self.policy.groups.retain(|_| {
            index += 1;
            !lost.contains(&(index - 1))
        });
        self.policy.groups.sort_by(|one, other| one.name.cmp(&other.name));
        self.policy.guardrails.sort_by(|one, other| one.name.cmp(&other.name));
        standings
    }
}

/// Takes from a group what is wrong with it; all of its rules where it can't be told which are meant.
fn mend_group(group: &mut SecurityGroup, blames: &[Blame], kind: ObjectKind) -> Standing {
    let mut standing = Standing::InPart;
    for blame in blames.iter().filter(|blame| !blame.is_of_one_peer()) {
        match (blame.entry_of("ingress"), blame.entry_of("egress")) {
            (Some(at), _) => close(&mut group.ingress, at),
            (_, Some(at)) => close(&mut group.egress, at),
            (None, None) => standing = Standing::Closed,
        }
    }
    if standing == Standing::Closed {
        // A pod and its node reach each other all the same.
        let none = || match kind {
            ObjectKind::NetworkPolicy => vec![node(group.origin.clone())],
            _ => Vec::new(),
        };
        // Nobody knows what a field that nobody knows says of a direction.
        let direction = |rules: &Option<Vec<Rule>>, name: &str| {
            (rules.is_some() || blames.iter().any(|blame| blame.may_be_of(name))).then(none)
        };
        let [ingress, egress] = [direction(&group.ingress, "ingress"), direction(&group.egress, "egress")];
        (group.ingress, group.egress) = (ingress, egress);
    }
    standing
}

fn close(rules: &mut Option<Vec<Rule>>, at: usize) {
    if let Some(rule) = rules.iter_mut().flatten().nth(at) {
        *rule = Rule::nobody(rule.origin.clone());
    }
}

#[cfg(test)]
mod tests;
