//! tc on the host's end of a workload's link: everything for what has no cgroup here, the wall behind the cgroup hooks for
//! the rest.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use bulkhead_ebpf::abi::{Direction, Hook, Reason, Verdict};
use bulkhead_ebpf::judge::{self, Judgement, Local, Seen};
use bulkhead_ebpf::packet::{self, Frame};

use super::bytes::SkbBytes;
use super::report;
use super::tables::{self, Kernel};

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

#[inline(always)]
fn handle(ctx: &TcContext, hook: Hook, direction: Direction) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context pointer is the one the program was called with.
    let (interface, length) = unsafe { ((*skb).ifindex, (*skb).len) };
    let bytes = SkbBytes(skb);
    let seen = Seen::Interface(interface);
    let frame = packet::network(&bytes);
    let parsed = match frame {
        Some(Frame::Ip(network, at)) => packet::parse(&bytes, at, network),
        Some(Frame::Arp) => {
            report::count(hook, &Judgement::never_cut(direction), length);
            return NEXT;
        }
        Some(Frame::Other) => Err(Reason::NotIp),
        None => Err(Reason::Malformed),
    };
    if let Ok(packet) = &parsed
        && let Some(judgement) = judge::known(&Kernel, packet, seen, direction)
    {
        report::count(hook, &judgement, packet.length);
        return NEXT;
    }
    let local = tables::interface(interface).map_or(Local::unnamed(seen), |place| Local::at(place, seen));
    let judgement = match &parsed {
        Ok(packet) => judge::judge(&Kernel, &bytes, *packet, &local, direction),
        Err(reason) => judge::undecidable(&Kernel, &local, direction, *reason),
    };
    report::report(ctx, hook, parsed.as_ref().ok(), &local, &judgement, interface, length);
    if judgement.verdict == Verdict::Deny { TC_ACT_SHOT } else { NEXT }
}
