//! Bulkhead's packet path as a pure library: what a packet says, who its ends are, and whether it may pass.
//!
//! Nothing here calls an eBPF helper, allocates or keeps time. The eBPF programs (`main.rs`) run this code in the kernel
//! over the kernel's maps; the agent, its unit tests and its fuzzers run the very same code over tables in memory.
//!
//! - [`abi`]: keys and values of every map, and the records that cross from the kernel to the agent
//! - [`packet`]: bytes to [`packet::Packet`]
//! - [`tables`]: the look-ups that a decision needs
//! - [`judge`]: packet, local workload and tables to a verdict with its reason
//! - [`track`]: the states and time-outs of a flow
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![deny(unsafe_code)]

#[cfg(any(test, feature = "user"))]
extern crate std;

pub mod abi;
pub mod judge;
pub mod packet;
pub mod tables;
pub mod track;
