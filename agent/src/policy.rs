//! The policy: from YAML documents to what the kernel's tables hold.

pub mod compile;
pub mod document;
pub mod load;
pub mod model;
pub mod objects;
pub mod port_class;
pub mod problem;
mod suggest;
pub mod validate;
pub mod warnings;
mod yaml;
