//! `cgroup_skb` at the root of the cgroup tree: the sender's egress and the receiver's ingress, by cgroup.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use bulkhead_ebpf::abi::{Direction, Hook, Reason, Verdict};
use bulkhead_ebpf::judge::{self, Judgement, Seen};
use bulkhead_ebpf::packet::{self, Network, Packet};

use super::bytes::{Linear, SkbBytes};
use super::tables::Kernel;
use super::{cgroup, judge_packet, report};

/// The index of `lo`, which is the first device of every network namespace.
const LOOPBACK: u32 = 1;
const ETH_P_IP: u32 = (0x0800u16).to_be() as u32;

const PASS: i32 = 1;
const DROP: i32 = 0;

#[cgroup_skb(egress)]
fn cgroup_egress(ctx: SkBuffContext) -> i32 {
    handle(&ctx, Hook::CgroupEgress, Direction::Egress)
}

#[cgroup_skb(ingress)]
fn cgroup_ingress(ctx: SkBuffContext) -> i32 {
    handle(&ctx, Hook::CgroupIngress, Direction::Ingress)
}

/// The established path, as a function of its own that the verifier goes through once: its key takes no room on the stack of
/// the rest.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cgroup_known(skb: *mut __sk_buff, is_v4: u32, cgroup: u64, is_egress: u32) -> u32 {
    let network = if is_v4 != 0 { Network::Ip4 } else { Network::Ip6 };
    let (hook, direction) = match is_egress {
        0 => (Hook::CgroupIngress, Direction::Ingress),
        _ => (Hook::CgroupEgress, Direction::Egress),
    };
    let Some(plain) = packet::plain(&Linear::of_skb(skb), 0, network) else { return 0 };
    let Some(judgement) = judge::known(&Kernel, &plain, Seen::Cgroup(cgroup), direction) else { return 0 };
    report::count(hook, &judgement, plain.length);
    1
}

#[inline(always)]
fn handle(ctx: &SkBuffContext, hook: Hook, direction: Direction) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context pointer is the one the program was called with.
    let (interface, protocol, length) = unsafe { ((*skb).ifindex, (*skb).protocol, (*skb).len) };
    if interface == LOOPBACK {
        report::count(hook, &Judgement::loopback(direction), length);
        return PASS;
    }
    let bytes = SkbBytes(skb);
    let id = cgroup::of_packet(skb);
    let network = if protocol == ETH_P_IP { Network::Ip4 } else { Network::Ip6 };
    let (is_v4, is_egress) = (u32::from(network == Network::Ip4), u32::from(direction == Direction::Egress));
    if cgroup_known(skb, is_v4, id, is_egress) != 0 {
        return PASS;
    }
    let mut packet = Packet::EMPTY;
    let is_whole = bytes.parse(0, network, &mut packet);
    let local = cgroup::owner_of_packet(skb, id);
    let mut judgement = Judgement::deferred(direction);
    let is_denied = if is_whole {
        judge_packet(&bytes, &mut packet, &local, direction, &mut judgement)
    } else {
        judgement = judge::undecidable(&Kernel, &local, direction, Reason::Malformed);
        judgement.verdict == Verdict::Deny
    };
    report::report(ctx, hook, is_whole.then_some(&packet), &local, &judgement, interface, length);
    if is_denied { DROP } else { PASS }
}
