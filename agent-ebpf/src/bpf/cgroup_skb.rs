//! `cgroup_skb` at the root of the cgroup tree: the sender's egress and the receiver's ingress, by cgroup.

use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use bulkhead_ebpf::abi::{Direction, Hook, Verdict};
use bulkhead_ebpf::judge::{self, Judgement, Seen};
use bulkhead_ebpf::packet::{self, Network};

use super::bytes::SkbBytes;
use super::tables::Kernel;
use super::{cgroup, report};

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
    let seen = Seen::Cgroup(cgroup::of_packet(skb));
    let network = if protocol == ETH_P_IP { Network::Ip4 } else { Network::Ip6 };
    let parsed = packet::parse(&bytes, 0, network);
    if let Ok(packet) = &parsed
        && let Some(judgement) = judge::known(&Kernel, packet, seen, direction)
    {
        report::count(hook, &judgement, packet.length);
        return PASS;
    }
    let Seen::Cgroup(id) = seen else { return DROP };
    let local = cgroup::owner_of_packet(skb, id);
    let judgement = match &parsed {
        Ok(packet) => judge::judge(&Kernel, &bytes, *packet, &local, direction),
        Err(reason) => judge::undecidable(&Kernel, &local, direction, *reason),
    };
    report::report(ctx, hook, parsed.as_ref().ok(), &local, &judgement, interface, length);
    if judgement.verdict == Verdict::Deny { DROP } else { PASS }
}
