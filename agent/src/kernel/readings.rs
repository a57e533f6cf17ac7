//! Reading counters and sizes out of the maps, through handles of their own.

use std::collections::HashMap;

use aya::maps::{Array, HashMap as KernelHash, IterableMap, MapData, PerCpuArray};
use bulkhead_ebpf::abi::{self, COUNTERS, Count, Hook, Reason, Verdict, counter_parts};

use super::Readings;
use super::error::KernelError;
use super::pin::Pins;
use super::tables::open;
use crate::view::MapView;

/// The kernel's counters.
pub struct KernelReadings {
    counters: PerCpuArray<MapData, Count>,
    rule_hits: PerCpuArray<MapData, u64>,
    budget: PerCpuArray<MapData, [u64; 2]>,
    sizes: Vec<(&'static str, MapData, u32)>,
    /// How many rule numbers were given so far; the map has room for many more.
    rules: std::sync::atomic::AtomicU32,
}
