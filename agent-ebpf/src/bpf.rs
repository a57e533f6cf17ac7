//! The kernel's side: entry points, the maps, and the helpers behind safe functions.
//!
//! Each hook that sees packets has two programs. The first lets pass what belongs to a flow that is known, which most packets
//! do; it is short and calls no function. What is not known it hands over, by a tail call, to the second, whose name ends in
//! `_judge`: a stack of its own, of which it takes most. The array with the second bears its name.

mod bytes;
mod cgroup;
mod cgroup_skb;
mod clock;
mod log;
mod report;
mod sock_addr;
mod tables;
mod tc;
mod xdp;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use bulkhead_ebpf::abi::{Direction, Hook, Reason, Verdict};
use bulkhead_ebpf::judge::{self, Judgement, Kin, Known, Local};
use bulkhead_ebpf::packet::{Bytes, Packet};

use bytes::SkbBytes;
use tables::Kernel;

/// `skb->protocol` of IPv4.
const ETH_P_IP: u32 = (0x0800u16).to_be() as u32;

/// The helpers for tracing and socket look-ups are for programs under a GPL-compatible licence; this is one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The full decision, with a stack frame of its own. It returns the verdict as a number, which its caller has to use: a
/// function that returns nothing may leave a pointer to the stack where the verifier looks for what it returns, which it
/// refuses.
#[inline(never)]
fn decide(kin: Kin, packet: &mut Packet, local: &Local, direction: Direction, outcome: &mut Judgement) -> u32 {
    *outcome = judge::judge_in_place(&Kernel, kin, packet, local, direction);
    outcome.verdict as u32
}

/// [`judge::judge`] in its two steps; true where the packet is denied.
#[inline(always)]
fn judge_packet<B: Bytes>(
    bytes: &B,
    packet: &mut Packet,
    local: &Local,
    direction: Direction,
    outcome: &mut Judgement,
) -> bool {
    let kin = judge::kin(&Kernel, bytes, packet, local, direction);
    decide(kin, packet, local, direction, outcome) == Verdict::Deny as u32
}

/// Notes in the socket buffer, for the program that judges, what the first one found out. Written each time, as a program of
/// somebody else's may have left something there.
#[inline(always)]
fn note(skb: *mut __sk_buff, known: Known) {
    // SAFETY: the context pointer is the one the program was called with; this field may be written at these hooks.
    unsafe { (&raw mut (*skb).cb[0]).write_volatile(u32::from(known == Known::NoEmbryo)) };
}

/// What [`note`] noted: not 0 where there was no embryo.
#[inline(always)]
fn noted(skb: *mut __sk_buff) -> u16 {
    // SAFETY: the context pointer is the one the program was called with.
    unsafe { (&raw const (*skb).cb[0]).read_volatile() as u16 }
}

/// What the socket buffer's hooks do once a packet is read, or was found to be none: judges and reports it. True where it is
/// denied.
#[inline(always)]
fn judge_skb<C: EbpfContext>(
    ctx: &C,
    (hook, direction): (Hook, Direction),
    bytes: &SkbBytes,
    packet: Result<&mut Packet, Reason>,
    local: &Local,
    (interface, length): (u32, u32),
) -> bool {
    let mut judgement = Judgement::deferred(direction);
    match packet {
        Ok(packet) => {
            packet.no_embryo = noted(bytes.0);
            let is_denied = judge_packet(bytes, packet, local, direction, &mut judgement);
            let process =
                if hook as u32 == Hook::CgroupEgress as u32 && judgement.is_news { log::process(bytes.0) } else { 0 };
            report::report(ctx, hook, Some(packet), local, &judgement, (interface, process), length);
            if !is_denied {
                log::count(hook, packet);
            }
            is_denied
        }
        Err(reason) => {
            judgement = judge::undecidable(&Kernel, local, direction, reason);
            report::report(ctx, hook, None, local, &judgement, (interface, 0), length);
            judgement.verdict == Verdict::Deny
        }
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // No code path panics: the verifier would refuse this loop.
    loop {}
}
