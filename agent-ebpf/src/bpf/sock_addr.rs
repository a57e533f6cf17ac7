//! `connect` and `sendmsg`: the egress decision before there is a packet, so that a program gets EPERM at once instead of a
//! time-out.

use aya_ebpf::bindings::{bpf_sock_addr, sk_action::SK_DROP, sk_action::SK_PASS};
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use bulkhead_ebpf::abi::{Address, Direction, Hook, Verdict};
use bulkhead_ebpf::judge::{self, Judgement};
use bulkhead_ebpf::packet::{Packet, protocol};

use super::tables::Kernel;
use super::{cgroup, log, report};

#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    let destination = destination4(ctx.sock_addr);
    handle(&ctx, Hook::Connect, destination)
}

#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    let destination = destination6(ctx.sock_addr);
    handle(&ctx, Hook::Connect, destination)
}

#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let destination = destination4(ctx.sock_addr);
    handle(&ctx, Hook::Sendmsg, destination)
}

#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    let destination = destination6(ctx.sock_addr);
    handle(&ctx, Hook::Sendmsg, destination)
}

#[inline(always)]
fn destination4(ctx: *mut bpf_sock_addr) -> Address {
    // SAFETY: the context pointer is the one the program was called with.
    Address::v4(unsafe { (*ctx).user_ip4 }.to_ne_bytes())
}

#[inline(always)]
fn destination6(ctx: *mut bpf_sock_addr) -> Address {
    // SAFETY: as above; the kernel allows reads of single words only.
    unsafe {
        let words = &raw const (*ctx).user_ip6;
        Address::from_words([
            words.cast::<u32>().read_volatile(),
            words.cast::<u32>().add(1).read_volatile(),
            words.cast::<u32>().add(2).read_volatile(),
            words.cast::<u32>().add(3).read_volatile(),
        ])
    }
}

#[inline(always)]
fn handle(ctx: &SockAddrContext, hook: Hook, destination: Address) -> i32 {
    // SAFETY: the context pointer is the one the program was called with.
    let (user_port, protocol_number) = unsafe { ((*ctx.sock_addr).user_port as u16, (*ctx.sock_addr).protocol as u8) };
    log::remember(ctx);
    // Nearly every datagram's call: nothing is looked up for it.
    if destination.is_loopback() || !is_decidable(ctx, protocol_number) {
        report::count(hook, &Judgement::deferred(Direction::Egress), 0);
        return SK_PASS as i32;
    }
    let detail = u16::from_be(user_port);
    let packet = Packet::new(protocol_number, (&Address::default(), 0), (&destination, user_port), detail);
    let local = cgroup::owner_of_call();
    let judgement = judge::judge_call(&Kernel, &destination, &packet, &local);
    if judgement.verdict != Verdict::Deny {
        // The packets that follow are counted and reported; an audit here would be counted twice.
        let quiet =
            if judgement.verdict == Verdict::Allow { judgement } else { Judgement::deferred(Direction::Egress) };
        report::count(hook, &quiet, 0);
        return SK_PASS as i32;
    }
    // SAFETY: the helper takes nothing and returns a number.
    let process = unsafe { (bpf_get_current_pid_tgid() >> 32) as u32 };
    report::report_call(ctx, hook, &packet, &local, &judgement, process);
    SK_DROP as i32
}

/// Whether this call can only open a flow of the caller's own. A UDP socket with a port may be answering somebody: only its
/// packet tells. Other protocols' packets say more than their sockets (an ICMP type).
#[inline(always)]
fn is_decidable(ctx: &SockAddrContext, protocol_number: u8) -> bool {
    match protocol_number {
        protocol::TCP => true,
        // SAFETY: the context's socket is never null, and its port may be read.
        protocol::UDP => unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).src_port == 0 },
        _ => false,
    }
}
