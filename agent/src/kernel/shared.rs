//! Arrays through shared memory: writing many entries is a `memcpy`, where one system call an entry would take thousands.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::NonNull;
use std::slice;

use aya::Pod;
use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::error::KernelError;
use super::pin::{Pins, file};

/// A whole array of the kernel's, mapped.
#[derive(Debug)]
pub struct Shared<T> {
    memory: NonNull<T>,
    length: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Pod + PartialEq> Shared<T> {
    /// Maps a pinned array that holds this many `T`.
    ///
    /// # Errors
    /// [`KernelError::Map`], [`KernelError::File`].
    pub fn open(pins: &Pins, name: &'static str, entries: usize) -> Result<Self, KernelError> {
        let data = MapData::from_pin(pins.map(name)).map_err(|source| KernelError::Map {
            map: name,
            operation: "opening",
            source,
        })?;
        let length = NonZeroUsize::new(entries * size_of::<T>()).expect("arrays have entries");
        // SAFETY: a new shared mapping at an address of the kernel's choice; the kernel refuses one beyond the map's end.
        let memory = unsafe {
            mmap(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, data.fd().as_fd(), 0)
        }
        .map_err(|errno| file("mapping", Path::new(name), errno.into()))?;
        Ok(Self { memory: memory.cast(), length })
    }

    /// Writes entries from `start` on where they differ, and returns whether any did. What packets read meanwhile is old or new,
    /// entry by entry.
    pub fn write(&mut self, start: usize, values: &[T]) -> bool {
        let entries = self.length.get() / size_of::<T>();
        assert!(start + values.len() <= entries, "{} entries from {start} of {entries}", values.len());
        // SAFETY: within the mapping, as just checked, and nothing else here refers to it.
        let target = unsafe { slice::from_raw_parts_mut(self.memory.as_ptr().add(start), values.len()) };
        let differs = target != values;
        if differs {
            target.copy_from_slice(values);
        }
        differs
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `open` with this length, and not used after this.
        let unmapped = unsafe { munmap(self.memory.cast(), self.length.get()) };
        debug_assert!(unmapped.is_ok());
    }
}
