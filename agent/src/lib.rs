//! The Bulkhead agent: from YAML and workloads to the kernel's maps.

pub mod controller;
pub mod desired;
pub mod flow;
pub mod kernel;
pub mod policy;
pub mod source;
pub mod view;
pub mod workload;
