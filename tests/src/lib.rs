//! Bulkhead's tests in the kernel: a lab of namespaces, links and cgroups with the real agent in it, and real sockets.
//!
//! The demo and the bench use the same lab.

pub mod bench;
pub mod case;
pub mod check;
pub mod document;
pub mod frame;
pub mod lab;
pub mod packet;
