//! Least privilege: what the agent keeps of root once it has what only root can get.
//!
//! Root's capabilities belong to threads, and a thread begins with those of the one that starts it. So they are given up
//! while there is one thread, before anything is loaded, and no later thread has ever had more.

mod seccomp;

use std::collections::BTreeSet;
use std::fs;

use caps::{CapSet, Capability, CapsHashSet};

use crate::exit::{Exit, Failure};

/// What the agent keeps; docs/security.md gives the reason for each.
pub const KEPT: [Capability; 4] =
    [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON, Capability::CAP_BPF];

/// Refuses where something is missing that the agent needs.
///
/// # Errors
/// A capability that root was not given, by a container runtime or by a systemd unit.
pub fn require() -> Result<(), Failure> {
    let has = caps::read(None, CapSet::Permitted).map_err(unknown)?;
    let missing: Vec<String> = KEPT.iter().filter(|it| !has.contains(it)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::message(
        Exit::NoPerm,
        format!("root lacks {} here", missing.join(", ")),
        "grant it: CapabilityBoundingSet= of a systemd unit, `--cap-add` or capabilities.add of a container",
    ))
}

/// Gives up everything but [`KEPT`], and the system calls that only others make, for this thread and those that it starts.
///
/// # Errors
/// There are threads already, or the system refuses.
pub fn drop() -> Result<(), Failure> {
    let threads = fs::read_dir("/proc/self/task").map_err(unknown)?.count();
    if threads != 1 {
        let message = format!("privileges are dropped too late: {threads} threads run");
        return Err(Failure::message(Exit::Software, message, "please report this as a fault in Bulkhead"));
    }
    let kept: CapsHashSet = KEPT.into_iter().collect();
    shrink_bounding_set(&kept)?;
    caps::clear(None, CapSet::Ambient).map_err(unknown)?;
    caps::clear(None, CapSet::Inheritable).map_err(unknown)?;
    caps::set(None, CapSet::Effective, &kept).map_err(unknown)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(unknown)?;
    nix::sys::prctl::set_no_new_privs().map_err(unknown)?;
    if let Err(error) = seccomp::install() {
        tracing::warn!("no system call is denied to the agent: {error:#}");
    }
    let names: BTreeSet<String> = KEPT.iter().map(ToString::to_string).collect();
    tracing::debug!(kept = names.into_iter().collect::<Vec<_>>().join(","), "dropped all other privileges");
    Ok(())
}

/// The bounding set is what a program can gain by execve(2). To take something out of it needs a capability itself.
fn shrink_bounding_set(kept: &CapsHashSet) -> Result<(), Failure> {
    let bounding = caps::read(None, CapSet::Bounding).map_err(unknown)?;
    let surplus: Vec<Capability> = bounding.difference(kept).copied().collect();
    if surplus.is_empty() {
        return Ok(());
    }
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(unknown)? {
        tracing::warn!(
            "the bounding set keeps {} capabilities that the agent can't drop without CAP_SETPCAP; \
             no_new_privs keeps them out of reach all the same",
            surplus.len()
        );
        return Ok(());
    }
    surplus.into_iter().try_for_each(|capability| caps::drop(None, CapSet::Bounding, capability)).map_err(unknown)
}

fn unknown(error: impl Into<anyhow::Error>) -> Failure {
    let error = error.into().context("privileges cannot be read or dropped");
    Failure::new(
        Exit::OsErr,
        error,
        "see whether /proc is mounted, and whether a seccomp filter forbids capset or prctl",
    )
}
