//! An entry of the trail, and how entries are chained.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hash;

/// What stands for the hash before the first entry.
pub const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One line of the trail. Its text is just what these fields come to, in this order: a line that says the same in another way was edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1, without gaps.
    pub sequence: u64,
    /// When it was in force, or happened (RFC 3339, UTC).
    pub time: String,
    /// `agent`, `policy`, `membership`, `kernel` or `trail`.
    pub kind: String,
    /// What happened.
    pub what: String,
    /// What caused it.
    pub cause: String,
    /// Hash of what held before, where something is replaced.
    pub old: Option<String>,
    /// Hash of what holds from then on.
    pub new: Option<String>,
    /// Generation of the policy in force.
    pub generation: Option<u32>,
    /// The hash of the entry before.
    pub previous: String,
    /// SHA-256 of this entry's text with an empty `hash`.
    pub hash: String,
}

impl Entry {
    /// An entry behind another one.
    #[must_use]
    pub fn after(sequence: u64, previous: &str, time: Timestamp) -> Self {
        Self {
            sequence: sequence + 1,
            time: time.to_string(),
            kind: String::new(),
            what: String::new(),
            cause: String::new(),
            old: None,
            new: None,
            generation: None,
            previous: previous.to_owned(),
            hash: String::new(),
        }
    }

    /// The same with its hash.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.hash = self.own_hash();
        self
    }

    /// The hash that it should have.
    #[must_use]
    pub fn own_hash(&self) -> String {
        hash(Self { hash: String::new(), ..self.clone() }.text().as_bytes())
    }

    /// Its line, without the end of the line.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("an entry is plain data")
    }
}
