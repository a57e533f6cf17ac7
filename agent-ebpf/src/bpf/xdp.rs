//! XDP on uplinks: drops early what a local workload's ingress does not allow. It vouches for nothing: what passes here is
//! judged again by the hooks behind it.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use bulkhead_ebpf::abi::{Direction, Hook, Party, Verdict};
use bulkhead_ebpf::judge::{self, Judgement, Local, Seen};
use bulkhead_ebpf::packet::{self, Bytes, Frame, Packet, Part};
use bulkhead_ebpf::tables::Tables;

use super::bytes::XdpBytes;
use super::report;
use super::tables::Kernel;

#[xdp]
fn uplink(ctx: XdpContext) -> u32 {
    let bytes = XdpBytes(ctx.ctx);
    let parsed = match packet::network(&bytes) {
        Some(Frame::Ip(network, at)) => packet::parse(&bytes, at, network),
        // Not for a workload of this host, as far as can be seen: the stack and the hooks behind decide.
        Some(Frame::Arp | Frame::Other) | None => return XDP_PASS,
    };
    // Whom a malformed packet is for can't be trusted; the receiver's own hook denies it where it is governed.
    let Ok(packet) = &parsed else { return XDP_PASS };
    if let Some(judgement) = judge::known(&Kernel, packet, Seen::Address, Direction::Ingress) {
        report::count(Hook::Xdp, &judgement, packet.length);
        return XDP_PASS;
    }
    let (local, judgement) = decide(&bytes, packet);
    // SAFETY: the context pointer is the one the program was called with.
    let interface = unsafe { (*ctx.ctx).ingress_ifindex };
    report::report(&ctx, Hook::Xdp, Some(packet), &local, &judgement, interface, packet.length);
    if judgement.verdict == Verdict::Deny { XDP_DROP } else { XDP_PASS }
}

#[inline(always)]
fn decide<B: Bytes>(bytes: &B, packet: &Packet) -> (Local, Judgement) {
    let receiver = Kernel.party(&packet.destination);
    let local = Local { workload: receiver.workload, identity: receiver.identity, flags: 0, seen: Seen::Address };
    if receiver.flags & Party::LOCAL == 0 {
        return (local, Judgement::not_local(Direction::Ingress));
    }
    if packet.part == Part::Later {
        // Whether the first one came is known where the datagram is put together again.
        return (local, Judgement::deferred(Direction::Ingress));
    }
    (local, judge::judge(&Kernel, bytes, *packet, &local, Direction::Ingress))
}
