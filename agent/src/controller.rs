//! The one owner of the desired state: every input is an [`Event`] of one loop, and only this loop writes the kernel's maps.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::policy::model::PolicySet;
use crate::policy::problem::Problem;
use crate::source::Fact;
use crate::view::{GroupView, StatusView, WorkloadView};

/// Everything that can happen to the agent.
#[derive(Debug)]
pub enum Event {
    /// A source saw something.
    Fact(Fact),
    /// The policy files were read.
    Policy(PolicyLoad),
    /// Somebody asks over the admin socket.
    Query(Query),
    /// The agent shall stop.
    Shutdown,
}

/// The outcome of reading the policy files.
#[derive(Debug)]
pub struct PolicyLoad {
    /// When the change was seen.
    pub seen: Instant,
    /// The policy, or every problem with it.
    pub result: Result<PolicySet, Vec<Problem>>,
}

/// A question over the admin socket. A dropped sender means that the agent is stopping.
#[derive(Debug)]
pub enum Query {
    /// `bulkhead status`.
    Status(oneshot::Sender<StatusView>),
    /// `bulkhead workloads`.
    Workloads(oneshot::Sender<Vec<WorkloadView>>),
    /// `bulkhead groups`.
    Groups(oneshot::Sender<Vec<GroupView>>),
}
