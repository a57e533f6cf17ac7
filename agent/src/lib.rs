//! The Bulkhead agent: from YAML and workloads to the kernel's maps.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod client;
pub mod config;
pub mod controller;
pub mod desired;
pub mod exit;
pub mod explain;
pub mod flow;
mod http;
pub mod kernel;
pub mod log;
#[cfg(test)]
mod manual;
pub mod metrics;
pub mod plan;
pub mod policy;
pub mod print;
pub mod privilege;
pub mod propose;
pub mod snapshot;
pub mod source;
pub mod start;
pub mod surface;
pub mod tally;
pub mod trail;
pub mod trial;
pub mod view;
pub mod workload;
