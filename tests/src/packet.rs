//! Packets for tests: the packet path's own builder.

pub use bulkhead_ebpf::packet::build::*;
