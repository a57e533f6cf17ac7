//! The kernel's side: entry points, the maps, and the helpers behind safe functions.

mod bytes;
mod cgroup;
mod cgroup_skb;
mod clock;
mod report;
mod sock_addr;
mod tables;
mod tc;
mod xdp;

/// The helpers for tracing and socket look-ups are for programs under a GPL-compatible licence; this is one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // No code path panics: the verifier would refuse this loop.
    loop {}
}
