//! `cgroup_skb` at the root of the cgroup tree: the sender's egress and the receiver's ingress, by cgroup.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::{cgroup_skb, map};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::SkBuffContext;
use bulkhead_ebpf::abi::{Direction, Hook, Reason};
use bulkhead_ebpf::judge::{self, Judgement, Known, Seen};
use bulkhead_ebpf::packet::{self, Network, Packet};

use super::bytes::{Linear, SkbBytes};
use super::tables::Kernel;
use super::{ETH_P_IP, cgroup, judge_skb, log, note, report};

#[map]
static CGROUP_EGRESS_JUDGE: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static CGROUP_INGRESS_JUDGE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The index of `lo`, which is the first device of every network namespace.
const LOOPBACK: u32 = 1;

const PASS: i32 = 1;
const DROP: i32 = 0;

#[cgroup_skb(egress)]
fn cgroup_egress(ctx: SkBuffContext) -> i32 {
    pass_or(&ctx, Hook::CgroupEgress, Direction::Egress, &CGROUP_EGRESS_JUDGE)
}

#[cgroup_skb(egress)]
fn cgroup_egress_judge(ctx: SkBuffContext) -> i32 {
    handle(&ctx, Hook::CgroupEgress, Direction::Egress)
}

#[cgroup_skb(ingress)]
fn cgroup_ingress(ctx: SkBuffContext) -> i32 {
    pass_or(&ctx, Hook::CgroupIngress, Direction::Ingress, &CGROUP_INGRESS_JUDGE)
}

#[cgroup_skb(ingress)]
fn cgroup_ingress_judge(ctx: SkBuffContext) -> i32 {
    handle(&ctx, Hook::CgroupIngress, Direction::Ingress)
}

/// Lets pass what is known, and hands the rest over to `judge`.
#[inline(always)]
fn pass_or(ctx: &SkBuffContext, hook: Hook, direction: Direction, judge: &ProgramArray) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context pointer is the one the program was called with.
    let (interface, protocol, length) = unsafe { ((*skb).ifindex, (*skb).protocol, (*skb).len) };
    if interface == LOOPBACK {
        report::count(hook, &Judgement::loopback(direction), length);
        return PASS;
    }
    let id = cgroup::of_packet(skb);
    let is_known = match protocol {
        ETH_P_IP => known(skb, Network::Ip4, id, hook, direction),
        _ => known(skb, Network::Ip6, id, hook, direction),
    };
    if is_known {
        return PASS;
    }
    // SAFETY: nothing here has to be dropped.
    unsafe { judge.tail_call(ctx, 0) };
    // The agent has set it before this is attached.
    DROP
}

/// The established path, once for each IP version: the compiler then knows half of each address of IPv4.
#[inline(always)]
fn known(skb: *mut __sk_buff, network: Network, cgroup: u64, hook: Hook, direction: Direction) -> bool {
    let Some(plain) = packet::plain(&Linear::of_skb(skb), 0, network) else {
        note(skb, Known::Unsure);
        return false;
    };
    let known = judge::known(&Kernel, &plain, Seen::Cgroup(cgroup), direction);
    let Some(judgement) = known.passes() else {
        note(skb, known);
        return false;
    };
    report::count(hook, &judgement, plain.length);
    log::count(hook, &plain);
    true
}

#[inline(always)]
fn handle(ctx: &SkBuffContext, hook: Hook, direction: Direction) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context pointer is the one the program was called with.
    let (interface, protocol, length) = unsafe { ((*skb).ifindex, (*skb).protocol, (*skb).len) };
    let bytes = SkbBytes(skb);
    let id = cgroup::of_packet(skb);
    let network = if protocol == ETH_P_IP { Network::Ip4 } else { Network::Ip6 };
    let mut packet = Packet::EMPTY;
    let is_whole = bytes.plain(network, &mut packet) || bytes.parse(0, network, &mut packet);
    let parsed = if is_whole { Ok(&mut packet) } else { Err(Reason::Malformed) };
    let local = cgroup::owner_of_packet(skb, id);
    if judge_skb(ctx, (hook, direction), &bytes, parsed, &local, (interface, length)) { DROP } else { PASS }
}
