//! Reading packets: through the kernel's copying helpers, which check bounds and reach bytes outside the linear area.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use bulkhead_ebpf::packet::Bytes;

/// A socket buffer, at cgroup and tc hooks.
pub(super) struct SkbBytes(pub(super) *mut __sk_buff);

/// A frame, at XDP.
pub(super) struct XdpBytes(pub(super) *mut xdp_md);

impl Bytes for SkbBytes {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let mut words = MaybeUninit::<[u32; N]>::uninit();
        // SAFETY: the context pointer is the one the program was called with; the helper writes all N words or fails.
        unsafe {
            let result = bpf_skb_load_bytes(self.0.cast(), at, words.as_mut_ptr().cast(), N as u32 * 4);
            (result == 0).then(|| words.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context pointer is the one the program was called with.
        unsafe { (*self.0).len }
    }
}

impl Bytes for XdpBytes {
    #[inline(always)]
    fn words<const N: usize>(&self, at: u32) -> Option<[u32; N]> {
        let mut words = MaybeUninit::<[u32; N]>::uninit();
        // SAFETY: the context pointer is the one the program was called with; the helper writes all N words or fails.
        unsafe {
            let result = bpf_xdp_load_bytes(self.0, at, words.as_mut_ptr().cast(), N as u32 * 4);
            (result == 0).then(|| words.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context pointer is the one the program was called with.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }
}
