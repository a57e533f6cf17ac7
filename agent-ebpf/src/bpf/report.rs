//! Counters and events: what the agent learns of a judgement.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::warn;
use bulkhead_ebpf::abi::{Address, Event, Hook, RULE_NONE, Reason, counter_index};
use bulkhead_ebpf::judge::{Judgement, Local};
use bulkhead_ebpf::packet::{Packet, protocol};
use bulkhead_ebpf::tables::Tables;

use super::tables::{self, Kernel};

/// Counts one packet, or one system call of length 0.
#[inline(always)]
pub(super) fn count(hook: Hook, judgement: &Judgement, length: u32) {
    if let Some(count) = tables::counter(counter_index(hook, judgement.verdict, judgement.reason)) {
        // SAFETY: the map's own memory, aligned as Count is.
        unsafe {
            add(&raw mut (*count).packets, 1);
            add(&raw mut (*count).bytes, u64::from(length));
        }
    }
}

/// Adds to a count of this CPU's own, in one instruction: a program that runs in an interrupt may count in the same slot.
///
/// # Safety
/// `count` is valid and aligned.
#[inline(always)]
pub(super) unsafe fn add(count: *mut u64, number: u64) {
    // SAFETY: the caller's.
    unsafe { core::arch::asm!("lock *(u64 *)({at} + 0) += {number}", at = in(reg) count, number = in(reg) number) };
}

/// Counts a packet and its rule, and sends an event where it is news.
#[inline(always)]
pub(super) fn report<C: EbpfContext>(
    ctx: &C,
    hook: Hook,
    packet: Option<&Packet>,
    local: &Local,
    judgement: &Judgement,
    (interface, process): (u32, u32),
    length: u32,
) {
    count(hook, judgement, packet.map_or(length, |packet| packet.length));
    if judgement.is_news {
        count_hit(judgement);
        send(ctx, packet, local, judgement, &Sighting { hook, interface, process });
    }
}

/// Counts a denied system call and sends its event.
#[inline(always)]
pub(super) fn report_call<C: EbpfContext>(
    ctx: &C,
    hook: Hook,
    packet: &Packet,
    local: &Local,
    judgement: &Judgement,
    process: u32,
) {
    count(hook, judgement, 0);
    count_hit(judgement);
    send(ctx, Some(packet), local, judgement, &Sighting { hook, interface: 0, process });
}

/// Counts a hit of the rule that decided; what a hit is, [`Judgement::is_news`] says. Hits are counted whether or not their
/// event may be sent.
#[inline(always)]
fn count_hit(judgement: &Judgement) {
    if judgement.rule != RULE_NONE
        && let Some(hits) = tables::rule_hits(judgement.rule)
    {
        // SAFETY: the map's own memory, aligned as u64 is.
        unsafe { add(hits, 1) };
    }
}

/// Where and by whom something was seen.
struct Sighting {
    hook: Hook,
    interface: u32,
    process: u32,
}

/// Sends an event. It has a stack frame of its own, as the event is larger than what the caller has left.
#[inline(never)]
fn send<C: EbpfContext>(ctx: &C, packet: Option<&Packet>, local: &Local, judgement: &Judgement, sighting: &Sighting) {
    if !may_send() {
        return;
    }
    if judgement.reason == Reason::TableFull {
        warn_full(ctx, local.workload);
    }
    let Some(mut entry) = tables::events().reserve::<Event>(0) else {
        lose();
        return;
    };
    let has_ports = packet.is_some_and(|packet| !matches!(packet.protocol(), protocol::ICMP | protocol::ICMPV6));
    entry.write(Event {
        source: packet.map_or(Address::default(), |packet| *packet.source()),
        destination: packet.map_or(Address::default(), |packet| *packet.destination()),
        source_port: packet.filter(|_| has_ports).map_or(0, |packet| u16::from_be(packet.source_port())),
        destination_port: packet
            .map_or(0, |packet| if has_ports { u16::from_be(packet.destination_port()) } else { packet.detail }),
        protocol: packet.map_or(0, |packet| packet.protocol()),
        tcp_flags: packet.map_or(0, |packet| packet.tcp_flags),
        hook: sighting.hook as u8,
        direction: judgement.role as u8,
        verdict: judgement.verdict as u8,
        reason: judgement.reason as u8,
        reserved: 0,
        workload: local.workload,
        peer_workload: judgement.peer_workload,
        rule: judgement.rule,
        generation: local.generation,
        interface: sighting.interface,
        process: sighting.process,
    });
    entry.submit(0);
}

#[inline(never)]
fn warn_full<C: EbpfContext>(ctx: &C, workload: u32) {
    warn!(ctx, "a table is full: workload {} is denied; see the metric bulkhead_map_entries", workload);
}

/// Whether this CPU may send another event this second: a flood must not cost more than it has to.
#[inline(always)]
fn may_send() -> bool {
    let settings = &Kernel.control().settings;
    if settings.events_per_second == 0 {
        return false;
    }
    let Some(budget) = tables::event_budget() else { return false };
    let now = Kernel.now() as u32;
    // SAFETY: this CPU's own slot; a program in an interrupt may make the budget wrong by one, the losses never.
    unsafe {
        if now.wrapping_sub((*budget).since) >= settings.hz {
            (*budget).since = now;
            (*budget).sent = 0;
        }
        if (*budget).sent >= settings.events_per_second {
            add(&raw mut (*budget).lost, 1);
            return false;
        }
        (*budget).sent += 1;
    }
    true
}

#[inline(always)]
fn lose() {
    if let Some(budget) = tables::event_budget() {
        // SAFETY: the map's own memory, aligned as Budget is.
        unsafe { add(&raw mut (*budget).lost, 1) };
    }
}
