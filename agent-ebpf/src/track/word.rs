//! A 64-bit word that several CPUs read and write, one at a time and without order.
//!
//! On the host this is a relaxed atomic. For BPF, `core` has none that change a word, and LLVM no loads and stores below
//! `-mcpu=v4`; there an aligned 64-bit access is one instruction, and volatile keeps the compiler from splitting, merging or
//! repeating it.

#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module.
#[repr(transparent)]
#[derive(Debug)]
pub(super) struct Word(
    #[cfg(not(target_arch = "bpf"))] AtomicU64,
    #[cfg(target_arch = "bpf")] core::cell::UnsafeCell<u64>,
);

#[cfg(not(target_arch = "bpf"))]
impl Word {
    pub(super) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub(super) fn load(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn store(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(super) fn swap(&self, value: u64) -> u64 {
        self.0.swap(value, Relaxed)
    }
}

#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "core has no atomics for this target")]
impl Word {
    pub(super) const fn new(value: u64) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) fn load(&self) -> u64 {
        // SAFETY: valid and aligned as a reference is; one instruction on this target, so never torn.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    pub(super) fn store(&self, value: u64) {
        // SAFETY: as above; the cell allows writes through a shared reference.
        unsafe { self.0.get().write_volatile(value) }
    }

    #[inline(always)]
    pub(super) fn swap(&self, value: u64) -> u64 {
        let mut word = value;
        // SAFETY: valid and aligned as above; the kernel's atomic exchange, since 5.12.
        unsafe {
            core::arch::asm!("{word} = xchg_64({at} + 0, {word})", at = in(reg) self.0.get(), word = inout(reg) word);
        }
        word
    }
}
