//! tc on the host's end of a workload's link: everything for what has no cgroup here, the wall behind the cgroup hooks for
//! the rest.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use bulkhead_ebpf::abi::{Direction, Hook, Reason, Verdict};
use bulkhead_ebpf::judge::{self, Judgement, Local, Seen};
use bulkhead_ebpf::packet::{self, Frame, Packet};
use bulkhead_ebpf::tables::Tables;

use super::bytes::{Linear, SkbBytes};
use super::tables::{self, Kernel};
use super::{judge_packet, report};

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: later programs and filters run.
const NEXT: i32 = -1;

/// What the workload sends arrives at the host's end.
#[classifier]
fn tc_egress(ctx: TcContext) -> i32 {
    handle(&ctx, Hook::TcEgress, Direction::Egress)
}

/// What the workload receives leaves by the host's end.
#[classifier]
fn tc_ingress(ctx: TcContext) -> i32 {
    handle(&ctx, Hook::TcIngress, Direction::Ingress)
}

/// The established path, as a function of its own that the verifier goes through once: its key takes no room on the stack of
/// the rest.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tc_known(skb: *mut __sk_buff, interface: u32, is_egress: u32) -> u32 {
    let (hook, direction) = match is_egress {
        0 => (Hook::TcIngress, Direction::Ingress),
        _ => (Hook::TcEgress, Direction::Egress),
    };
    let Some(plain) = Linear::of_skb(skb).plain_frame() else { return 0 };
    let Some(judgement) = judge::known(&Kernel, &plain, Seen::Interface(interface), direction) else { return 0 };
    report::count(hook, &judgement, plain.length);
    1
}

#[inline(always)]
fn handle(ctx: &TcContext, hook: Hook, direction: Direction) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context pointer is the one the program was called with.
    let (interface, length) = unsafe { ((*skb).ifindex, (*skb).len) };
    let bytes = SkbBytes(skb);
    let seen = Seen::Interface(interface);
    if tc_known(skb, interface, u32::from(direction == Direction::Egress)) != 0 {
        return NEXT;
    }
    let mut packet = Packet::EMPTY;
    let parsed = match packet::network(&bytes) {
        Some(Frame::Ip(network, at)) if bytes.parse(at, network, &mut packet) => Ok(()),
        Some(Frame::Arp) => {
            report::count(hook, &Judgement::never_cut(direction), length);
            return NEXT;
        }
        Some(Frame::Other) => Err(Reason::NotIp),
        Some(Frame::Ip(..)) | None => Err(Reason::Malformed),
    };
    let generation = Kernel.generation();
    let place = tables::interface(interface);
    let local = place.map_or(Local::unnamed(generation, seen), |place| Local::at(generation, place, seen));
    let mut judgement = Judgement::deferred(direction);
    let is_denied = match parsed {
        Ok(()) => judge_packet(&bytes, &mut packet, &local, direction, &mut judgement),
        Err(reason) => {
            judgement = judge::undecidable(&Kernel, &local, direction, reason);
            judgement.verdict == Verdict::Deny
        }
    };
    report::report(ctx, hook, parsed.is_ok().then_some(&packet), &local, &judgement, interface, length);
    if is_denied { TC_ACT_SHOT } else { NEXT }
}
