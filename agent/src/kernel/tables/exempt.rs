//! The agent's own cgroup, which is the host's whatever else the tables are told.

use std::io;
use std::path::Path;

use aya::maps::{HashMap, Map, MapData, MapError};
use bulkhead_ebpf::abi::Place;

use super::Tables;
use crate::kernel::error::KernelError;
use crate::kernel::pin::Pins;

/// Only where there is no entry (`BPF_NOEXIST` in include/uapi/linux/bpf.h).
const NO_EXIST: u64 = 1;

impl Tables {
    /// Has a cgroup that the tables don't know be the host's own, now and whatever [`Self::apply`] is told. Where an agent of an
    /// older layout is still enforced, in its tables too, as far as they can be written to.
    ///
    /// # Errors
    /// [`KernelError::Full`], [`KernelError::Map`].
    pub fn exempt(&mut self, pins: &Pins, cgroup: u64) -> Result<(), KernelError> {
        for map in pins.older_maps("CGROUPS") {
            if let Err(error) = exempt_in(&map, cgroup) {
                tracing::warn!(
                    "{} can't be told of this agent: {error}; where that denies what nobody knows, the agent may not reach the \
                     Kubernetes API until `bulkhead detach` has taken away what an older version enforces",
                    map.display()
                );
            }
        }
        self.exempt = Some(cgroup);
        if !self.cgroups.content().contains_key(&cgroup) {
            self.cgroups.set_all([(cgroup, Place::HOST)])?;
        }
        Ok(())
    }
}

fn exempt_in(map: &Path, cgroup: u64) -> Result<(), MapError> {
    let map = MapData::from_pin(map).and_then(Map::from_map_data)?;
    // Refused where a place has another size there.
    let mut cgroups: HashMap<_, u64, Place> = map.try_into()?;
    match cgroups.insert(cgroup, Place::HOST, NO_EXIST) {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}
