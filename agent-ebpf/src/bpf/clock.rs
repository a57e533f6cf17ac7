//! The kernel's clock, for the agent: how many jiffies make a second is nowhere to be read in user space.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Returns the lower half of the jiffies. Never attached: the agent runs it once by `BPF_PROG_TEST_RUN`.
#[xdp]
fn clock(_ctx: XdpContext) -> u32 {
    // SAFETY: the helper takes nothing and returns a number.
    unsafe { bpf_jiffies64() as u32 }
}
