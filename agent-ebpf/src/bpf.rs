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

use bulkhead_ebpf::abi::Direction;
use bulkhead_ebpf::judge::{self, Judgement, Local};
use bulkhead_ebpf::packet::{Bytes, Packet};

use tables::Kernel;

/// The helpers for tracing and socket look-ups are for programs under a GPL-compatible licence; this is one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The full decision, with a stack frame of its own.
#[inline(never)]
fn decide(is_related: bool, packet: &mut Packet, local: &Local, direction: Direction, outcome: &mut Judgement) {
    *outcome = judge::judge_in_place(&Kernel, is_related, packet, local, direction);
}

/// [`judge::judge`] in its two steps.
#[inline(always)]
fn judge_packet<B: Bytes>(
    bytes: &B,
    packet: &mut Packet,
    local: &Local,
    direction: Direction,
    outcome: &mut Judgement,
) {
    let is_related = packet.quote != 0 && judge::is_related(&Kernel, bytes, packet, local, direction);
    decide(is_related, packet, local, direction, outcome);
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // No code path panics: the verifier would refuse this loop.
    loop {}
}
