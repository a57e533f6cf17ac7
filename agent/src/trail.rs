//! The audit trail: every change of policy, membership and agent state, in a log that is only appended to and whose entries are chained
//! by hashes.
//!
//! - [`chain`]: an entry, and how it is chained
//! - [`writer`]: the one who appends
//! - [`verify`]: whether a trail is whole, and where it is not
//!
//! An entry's hash covers its text and the hash of the one before, so that nothing can be changed, taken out or moved without
//! everything behind it being written anew. A file beside the trail has the newest hash: without it a cut end would not show. Whoever is root
//! can write all of it anew; `bulkhead trail head` prints the hash that, kept elsewhere, tells that too.

pub mod chain;
pub mod verify;
pub mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::metrics::trail::TrailMetrics;
use crate::policy::model::PolicySet;

/// The file's name in the state directory.
pub const FILE: &str = "trail.jsonl";
/// What waits to be written.
pub const QUEUE: usize = 4_096;

/// Where the trail of a state directory is.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Happening {
    /// To the agent, the policy or the kernel: written as it is.
    Said(Said),
    /// Workloads joined or left groups: what comes within a second is one entry.
    Members(Members),
}

/// A happening in words.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// `agent`, `policy`, `kernel` or `trail`.
    pub kind: &'static str,
    /// What happened: `started`, `in_force`, `refused`, `repaired`, `stopped`, `detached` ...
    pub what: &'static str,
    /// What caused it.
    pub cause: String,
    /// Hash of what held before.
    pub old: Option<String>,
    /// Hash of what holds now.
    pub new: Option<String>,
    /// Generation in force.
    pub generation: Option<u32>,
}

/// A workload's groups before and after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Membership {
    /// Names of its groups; `None` where it was not there.
    pub before: Option<Vec<String>>,
    /// The same now; `None` where it is gone.
    pub after: Option<Vec<String>>,
    /// Who told of it.
    pub source: &'static str,
}

/// Changes of membership, by workload.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// The changes.
    pub changes: BTreeMap<Arc<str>, Membership>,
    /// Why: `workloads` that came, went or changed, or the `policy`.
    pub cause: &'static str,
    /// Generation in force.
    pub generation: u32,
}

/// The way to the trail.
#[derive(Clone, Debug)]
pub struct Trail {
    queue: SyncSender<Happening>,
    counts: TrailMetrics,
}

impl Trail {
    /// Has it written. Where there is no room it is counted, and the trail tells how many are missing.
    pub fn tell(&self, happening: Happening) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(happening) {
            self.counts.missed.inc();
        }
    }
}

/// The hash of a policy: SHA-256 of its JSON, in hexadecimal.
#[must_use]
pub fn hash_of_policy(policy: &PolicySet) -> String {
    hash(&serde_json::to_vec(policy).expect("a policy is plain data"))
}

/// SHA-256 (FIPS 180-4) in hexadecimal.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
