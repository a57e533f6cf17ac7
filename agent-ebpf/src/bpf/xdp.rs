//! XDP on uplinks: drops early what a local workload's ingress does not allow. It vouches for nothing: what passes here is
//! judged again by the hooks behind it.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::XdpContext;
use bulkhead_ebpf::abi::{Direction, Hook, Party};
use bulkhead_ebpf::judge::{self, Judgement, Local, Seen};
use bulkhead_ebpf::packet::{self, ETHERNET, Frame, Network, Packet, Part};
use bulkhead_ebpf::tables::Tables;

use super::bytes::{Linear, XdpBytes};
use super::tables::Kernel;
use super::{judge_packet, report};

#[map]
static UPLINK_JUDGE: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[xdp(frags)]
fn uplink(ctx: XdpContext) -> u32 {
    let is_known = match packet::network_untagged(&Linear::of_xdp(ctx.ctx)) {
        Some(Frame::Ip(Network::Ip4, _)) => known(ctx.ctx, Network::Ip4),
        Some(Frame::Ip(Network::Ip6, _)) => known(ctx.ctx, Network::Ip6),
        _ => false,
    };
    if is_known {
        return XDP_PASS;
    }
    // SAFETY: nothing here has to be dropped.
    unsafe { UPLINK_JUDGE.tail_call(&ctx, 0) };
    // The agent has set it before this is attached.
    XDP_DROP
}

#[xdp(frags)]
fn uplink_judge(ctx: XdpContext) -> u32 {
    let bytes = XdpBytes(ctx.ctx);
    let mut packet = Packet::EMPTY;
    if !bytes.plain_frame(&mut packet) {
        // Neither IP nor whole: for whom it is can't be seen or can't be trusted. The stack and the hooks behind decide.
        let Some(Frame::Ip(network, at)) = packet::network(&bytes) else { return XDP_PASS };
        if !bytes.parse(at, network, &mut packet) {
            return XDP_PASS;
        }
    }
    let generation = Kernel.generation();
    let receiver = Kernel.party(packet.destination());
    let local = Local::behind(generation, &receiver);
    let mut judgement = Judgement::not_local(Direction::Ingress);
    let mut is_denied = false;
    if receiver.flags & Party::LOCAL != 0 {
        if packet.part == Part::Later {
            // Whether the first one came is known where the datagram is put together again.
            judgement = Judgement::deferred(Direction::Ingress);
        } else {
            is_denied = judge_packet(&bytes, &mut packet, &local, Direction::Ingress, &mut judgement);
        }
    }
    // SAFETY: the context pointer is the one the program was called with.
    let interface = unsafe { (*ctx.ctx).ingress_ifindex };
    report::report(&ctx, Hook::Xdp, Some(&packet), &local, &judgement, (interface, 0), packet.length);
    if is_denied { XDP_DROP } else { XDP_PASS }
}

/// The established path, once for each IP version: the compiler then knows half of each address of IPv4.
#[inline(always)]
fn known(frame: *mut xdp_md, network: Network) -> bool {
    let Some(plain) = packet::plain(&Linear::of_xdp(frame), ETHERNET, network) else { return false };
    let known = judge::known(&Kernel, &plain, Seen::Address, Direction::Ingress);
    let Some(judgement) = known.passes() else { return false };
    report::count(Hook::Xdp, &judgement, plain.length);
    true
}
