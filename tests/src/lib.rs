//! Bulkhead's tests in the kernel: a lab of namespaces, links and cgroups with the real agent in it, and real sockets.
//!
//! The demo and the bench use the same lab.
//!
//! - [`apiserver`]: a server of the Kubernetes API, for one test
//! - [`crowd`]: a cluster with a hundred thousand pods, seen from one node
//! - [`page`]: a page of the documentation, run
//! - [`model`]: what a policy means, written apart from the implementation
//! - [`soak`]: what must hold on the worst day, for as long as one likes
//! - [`world`]: random worlds and what happens in them
//! - [`equivalence`]: model, user-space decision and the programs in the kernel, held against each other

pub mod apiserver;
pub mod bench;
pub mod case;
pub mod check;
pub mod crowd;
pub mod document;
pub mod equivalence;
pub mod frame;
pub mod lab;
pub mod model;
pub mod packet;
pub mod page;
pub mod pod;
pub mod soak;
pub mod world;
