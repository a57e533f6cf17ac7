//! Flow events: from the kernel's records to lines with names.

use std::collections::HashMap;

use crate::view::FlowRule;

/// What turns the numbers in a record into names. The controller publishes a new one with every change.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Workloads, by number.
    pub workloads: HashMap<u32, Named>,
    /// Rules, by number.
    pub rules: HashMap<u32, FlowRule>,
}

/// A workload's name and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Names of its groups.
    pub groups: Vec<String>,
}
