//! Flow events: from the kernel's records to lines with names.

mod ends;
pub mod filter;
pub mod journal;
mod limit;
pub mod record;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::view::FlowRule;
use crate::workload::Labels;

/// What turns the numbers in a record into names. The controller publishes a new one with every change.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Workloads, by number.
    pub workloads: HashMap<u32, Named>,
    /// Rules, by number.
    pub rules: HashMap<u32, FlowRule>,
    /// What each rule says, as a number: where it changes, the rule is another one.
    pub meanings: HashMap<u32, u64>,
}

/// A workload's name, labels and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Names of its groups.
    pub groups: Vec<String>,
}

/// The names that hold now: the controller writes, the recorder and the metrics read.
#[derive(Clone, Debug, Default)]
pub struct SharedNames(Arc<RwLock<Names>>);

impl SharedNames {
    /// Replaces all names at once.
    pub fn publish(&self, names: Names) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Changes some names.
    pub fn update(&self, change: impl FnOnce(&mut Names)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The names that hold now. Writers wait for as long as they are looked at.
    pub fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
