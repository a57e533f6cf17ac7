//! The policy: from YAML documents to what the kernel's tables hold.

pub mod model;
pub mod problem;
