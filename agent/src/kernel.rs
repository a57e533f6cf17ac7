//! The kernel's side: loading and attaching the programs, writing and reading the maps.

pub mod attach;
mod batch;
mod bpf;
pub mod clock;
pub mod counts;
pub mod error;
pub mod events;
mod grace;
mod identity_table;
pub mod load;
pub mod mirror;
pub mod pin;
pub mod readings;
pub mod shared;
pub mod tables;

use bulkhead_ebpf::abi::{Count, Hook, Reason, Verdict};

use crate::view::MapView;

/// What metrics and `status` read out of the kernel; cheap enough for every scrape.
pub trait Readings: Send + Sync {
    /// Sums over all CPUs, by hook, verdict and reason; zeros left out.
    fn counts(&self) -> Vec<(Hook, Verdict, Reason, Count)>;
    /// Hits by rule number; zeros left out.
    fn rule_hits(&self) -> Vec<(u32, u64)>;
    /// Entries and capacity of each map.
    fn maps(&self) -> Vec<MapView>;
    /// Events that the kernel could not hand over (a full ring buffer, or more than the limit a second).
    fn events_lost(&self) -> u64;
}
