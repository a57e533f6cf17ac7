//! What a load of the policy tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::Controller;
use crate::policy::model::PolicySet;
use crate::policy::objects::{ObjectName, Refusal};
use crate::policy::problem::Problem;
use crate::policy::warnings::crowded;
use crate::source::policy_objects::Mark;

/// The outcome of reading the policy files.
#[derive(Debug)]
pub struct PolicyLoad {
    /// When the change was seen.
    pub seen: Instant,
    /// The policy, or every problem with it.
    pub result: Result<PolicySet, Vec<Problem>>,
    /// What became of objects of the Kubernetes API.
    pub objects: OfObjects,
}

/// A policy as it was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The policy, or every problem with it.
    pub result: Result<PolicySet, Vec<Problem>>,
    /// What became of objects of the Kubernetes API.
    pub objects: OfObjects,
}

impl From<Result<PolicySet, Vec<Problem>>> for Loaded {
    fn from(result: Result<PolicySet, Vec<Problem>>) -> Self {
        Self { result, objects: OfObjects::default() }
    }
}

/// What became of objects of the Kubernetes API in a policy.
#[derive(Clone, Debug, Default)]
pub struct OfObjects {
    /// Counts the judgements; what was judged earlier than what is in force is passed over.
    pub order: u64,
    /// The objects that are not in force as they were written.
    pub refused: BTreeMap<ObjectName, Refusal>,
    /// Problems of the files since they were right: what is in force has them as they were then.
    pub standing: Vec<Problem>,
    /// Is given back once the policy is in force.
    pub receipt: Receipt,
}

/// The objects that are in force as they were written.
pub type InForce = Arc<BTreeSet<Mark>>;

/// Says which objects are in force as they were written, once they are.
#[derive(Clone, Debug, Default)]
pub struct Receipt(Option<(watch::Sender<Option<InForce>>, InForce)>);

impl Receipt {
    /// `objects` will be in force, and `told` hears of it then.
    #[must_use]
    pub const fn new(told: watch::Sender<Option<InForce>>, objects: InForce) -> Self {
        Self(Some((told, objects)))
    }

    /// They are in force. Said once, whoever calls again.
    pub fn give(&mut self) {
        if let Some((told, objects)) = self.0.take() {
            told.send_if_modified(|known| {
                let differs = known.as_ref() != Some(&objects);
                *known = Some(objects);
                differs
            });
        }
    }
}

impl Controller {
    /// Tells of the objects that are refused, of each once for as long as it says the same. Returns the problems that stand
    /// although the policy takes force; `None` where what is in force was judged later.
    pub fn note_objects(&mut self, objects: OfObjects) -> Option<Vec<String>> {
        if objects.order < self.objects.order {
            return None;
        }
        self.audience.metrics.set_refused_objects(&objects.refused);
        for (name, refusal) in &objects.refused {
            if self.objects.refused.get(name) != Some(refusal) {
                let standing = refusal.standing.as_str();
                for problem in &refusal.problems {
                    let problem = problem.to_string();
                    tracing::warn!(target: "bulkhead::policy", problem, standing, "an object is refused");
                }
            }
        }
        self.objects = objects;
        Some(self.objects.standing.iter().map(ToString::to_string).collect())
    }

    /// Tells of a policy that is refused whole; the one in force stays.
    pub(super) fn refuse(&mut self, problems: Vec<String>) {
        self.refusals += 1;
        self.objects.receipt = Receipt::default();
        self.audience.metrics.policy_refused(problems.len());
        for problem in &problems {
            tracing::error!(target: "bulkhead::policy", problem, "the policy files are refused, and the policy in force stays");
        }
        self.trail_refused(&problems);
        self.problems = problems;
    }

    /// Tells whoever judges policy of ports that pods name; `seen` is when the first word of them came.
    pub(super) fn tell_ports(&mut self, seen: Option<&Instant>) {
        if let Some(policies) = &self.audience.policies
            && let Some(numbers) = self.registry.take_new_port_numbers()
        {
            policies.tell_ports(seen.copied().unwrap_or_else(Instant::now), numbers);
        }
    }

    /// Tells of names of ports that have more numbers than the policy uses, where that is new since `before`.
    pub(super) fn tell_crowded(&self, before: &PolicySet) {
        for name in self.policy.crowded_names.difference(&before.crowded_names) {
            let problem = crowded(name).to_string();
            tracing::warn!(target: "bulkhead::policy", problem, "some ports are allowed nothing by their name");
        }
    }
}
