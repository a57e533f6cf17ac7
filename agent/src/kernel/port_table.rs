//! `PORT_CLASSES` through shared memory: a whole copy is a `memcpy`, where one system call an entry would take 80,000.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::slice;

use aya::maps::MapData;
use bulkhead_ebpf::abi::PORT_INDEXES;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::error::KernelError;
use super::pin::file;

/// Classes of one copy.
const CLASSES: usize = PORT_INDEXES as usize;

/// Both copies, mapped.
#[derive(Debug)]
pub struct PortTable {
    memory: NonNull<u16>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for PortTable {}

impl PortTable {
    /// Maps the map.
    ///
    /// # Errors
    /// [`KernelError::File`].
    pub fn map(data: &MapData) -> Result<Self, KernelError> {
        let length = NonZeroUsize::new(2 * CLASSES * size_of::<u16>()).expect("a constant above zero");
        // SAFETY: a new shared mapping at an address of the kernel's choice, of the map's own length.
        let memory = unsafe {
            mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, data.fd().as_fd(), 0)
        }
        .map_err(|errno| file("mapping", std::path::Path::new("PORT_CLASSES"), errno.into()))?;
        Ok(Self { memory: memory.cast(), length })
    }

    /// Writes the copy that no packet reads.
    pub fn write(&mut self, copy: u32, table: &[u16]) {
        assert_eq!(table.len(), CLASSES, "a table of one copy");
        let start = copy as usize * CLASSES;
        // SAFETY: the mapping holds two copies, `copy` is 0 or 1, and nothing else refers to it.
        let target = unsafe { slice::from_raw_parts_mut(self.memory.as_ptr().add(start), CLASSES) };
        if target != table {
            target.copy_from_slice(table);
        }
    }
}

impl Drop for PortTable {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and not used after this.
        let unmapped = unsafe { munmap(self.memory.cast(), self.length.get()) };
        debug_assert!(unmapped.is_ok());
    }
}
