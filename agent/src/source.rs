//! What tells the agent of the world: files, cgroups and netlink.
//!
//! Each source sends what it sees as [`Fact`]s. All are level-triggered: after an overflow, a restart or any doubt a source
//! sends a `Resync` with everything that exists, and what is not in it is gone.

pub mod cgroup;
pub mod file;
mod inotify;
pub mod netlink;
#[cfg(test)]
mod netns;
mod restart;
pub mod uplink;

use std::net::IpAddr;
use std::time::Instant;

/// One observation. `seen` is when the kernel told of it, for the histogram of event to map.
#[derive(Clone, Debug)]
pub struct Fact {
    /// When it was seen.
    pub seen: Instant,
    /// What was seen.
    pub change: Change,
}

/// What a source saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All cgroups that exist below the cgroup root.
    CgroupResync(Vec<CgroupFact>),
    /// A cgroup appeared.
    CgroupAppeared(CgroupFact),
    /// A cgroup went (by its path).
    CgroupGone(String),
    /// All links that exist, with their addresses.
    LinkResync(Vec<LinkFact>),
    /// A link appeared, or its name, alias or addresses changed.
    LinkChanged(LinkFact),
    /// A link went (by its index).
    LinkGone(u32),
}

/// A cgroup that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupFact {
    /// Path below the cgroup root, without slashes at the ends.
    pub path: String,
    /// The inode number of its directory, which is the kernel's cgroup ID.
    pub id: u64,
}

/// A link that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFact {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias (`ip link set NAME alias TEXT`).
    pub alias: Option<String>,
    /// The host's own addresses on it.
    pub host_addresses: Vec<IpAddr>,
    /// Addresses behind it: the peers of point-to-point addresses, and the targets of host routes (/32, /128) through it.
    pub peer_addresses: Vec<IpAddr>,
}
