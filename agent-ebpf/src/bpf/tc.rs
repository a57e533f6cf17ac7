//! tc on the host's end of a workload's link: everything for what has no cgroup here, the wall behind the cgroup hooks for
//! the rest.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::TcContext;
use bulkhead_ebpf::abi::{Direction, Hook, Reason};
use bulkhead_ebpf::judge::{self, Judgement, Known, Local, Seen};
use bulkhead_ebpf::packet::{self, Frame, Network, Packet};
use bulkhead_ebpf::tables::Tables;

use super::bytes::{Linear, SkbBytes};
use super::tables::{self, Kernel};
use super::{ETH_P_IP, judge_skb, log, note, report};

#[map]
static TC_EGRESS_JUDGE: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static TC_INGRESS_JUDGE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: later programs and filters run.
const NEXT: i32 = -1;

/// What the workload sends arrives at the host's end.
#[classifier]
fn tc_egress(ctx: TcContext) -> i32 {
    pass_or(&ctx, Hook::TcEgress, Direction::Egress, &TC_EGRESS_JUDGE)
}

#[classifier]
fn tc_egress_judge(ctx: TcContext) -> i32 {
    handle(&ctx, Hook::TcEgress, Direction::Egress)
}

/// What the workload receives leaves by the host's end.
#[classifier]
fn tc_ingress(ctx: TcContext) -> i32 {
    pass_or(&ctx, Hook::TcIngress, Direction::Ingress, &TC_INGRESS_JUDGE)
}

#[classifier]
fn tc_ingress_judge(ctx: TcContext) -> i32 {
    handle(&ctx, Hook::TcIngress, Direction::Ingress)
}

/// Lets pass what is known, and hands the rest over to `judge`.
#[inline(always)]
fn pass_or(ctx: &TcContext, hook: Hook, direction: Direction, judge: &ProgramArray) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context pointer is the one the program was called with.
    let (interface, protocol) = unsafe { ((*skb).ifindex, (*skb).protocol) };
    let is_known = match protocol {
        ETH_P_IP => known(skb, Network::Ip4, interface, hook, direction),
        _ => known(skb, Network::Ip6, interface, hook, direction),
    };
    if is_known {
        return NEXT;
    }
    // SAFETY: nothing here has to be dropped.
    unsafe { judge.tail_call(ctx, 0) };
    // The agent has set it before this is attached.
    TC_ACT_SHOT
}

/// The established path, once for each IP version: the compiler then knows half of each address of IPv4.
#[inline(always)]
fn known(skb: *mut __sk_buff, network: Network, interface: u32, hook: Hook, direction: Direction) -> bool {
    let Some(plain) = Linear::of_skb(skb).plain_frame_of(network) else {
        note(skb, Known::Unsure);
        return false;
    };
    let known = judge::known(&Kernel, &plain, Seen::Interface(interface), direction);
    let Some(judgement) = known.passes() else {
        note(skb, known);
        return false;
    };
    report::count(hook, &judgement, plain.length);
    log::count(hook, &plain);
    true
}

#[inline(always)]
fn handle(ctx: &TcContext, hook: Hook, direction: Direction) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context pointer is the one the program was called with.
    let (interface, length) = unsafe { ((*skb).ifindex, (*skb).len) };
    let bytes = SkbBytes(skb);
    let seen = Seen::Interface(interface);
    let mut packet = Packet::EMPTY;
    let parsed = if bytes.plain_frame(&mut packet) {
        Ok(&mut packet)
    } else {
        match packet::network(&bytes) {
            Some(Frame::Ip(network, at)) if bytes.parse(at, network, &mut packet) => Ok(&mut packet),
            Some(Frame::Arp) => {
                report::count(hook, &Judgement::never_cut(direction), length);
                return NEXT;
            }
            Some(Frame::Other) => Err(Reason::NotIp),
            Some(Frame::Ip(..)) | None => Err(Reason::Malformed),
        }
    };
    let generation = Kernel.generation();
    let place = tables::interface(interface);
    let local = place.map_or(Local::unnamed(generation, seen), |place| Local::at(generation, place, seen));
    if judge_skb(ctx, (hook, direction), &bytes, parsed, &local, (interface, length)) { TC_ACT_SHOT } else { NEXT }
}
