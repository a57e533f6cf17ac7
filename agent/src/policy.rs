//! The policy: from YAML documents to what the kernel's tables hold.

pub mod compile;
pub mod model;
pub mod port_class;
pub mod problem;
