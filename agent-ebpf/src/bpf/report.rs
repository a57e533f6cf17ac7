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
        // SAFETY: this CPU's own slot; a program that interrupts this one may lose a count of it, never more.
        unsafe {
            (*count).packets += 1;
            (*count).bytes += u64::from(length);
        }
    }
}

/// Counts a packet and its rule, and sends an event where it is news.
#[inline(always)]
pub(super) fn report<C: EbpfContext>(
    ctx: &C,
    hook: Hook,
    packet: Option<&Packet>,
    local: &Local,
    judgement: &Judgement,
    interface: u32,
    length: u32,
) {
    count(hook, judgement, packet.map_or(length, |packet| packet.length));
    if judgement.is_news {
        send(ctx, hook, packet, local, judgement, interface, 0);
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
    send(ctx, hook, Some(packet), local, judgement, 0, process);
}

#[inline(always)]
fn send<C: EbpfContext>(
    ctx: &C,
    hook: Hook,
    packet: Option<&Packet>,
    local: &Local,
    judgement: &Judgement,
    interface: u32,
    process: u32,
) {
    if judgement.rule != RULE_NONE
        && let Some(hits) = tables::rule_hits(judgement.rule)
    {
        // SAFETY: this CPU's own slot; a program that interrupts this one may lose a count of it, never more.
        unsafe { *hits += 1 };
    }
    if !may_send() {
        return;
    }
    if judgement.reason == Reason::TableFull {
        warn!(ctx, "a table is full: workload {} is denied; see the metric bulkhead_map_entries", local.workload);
    }
    let Some(mut entry) = tables::events().reserve::<Event>(0) else {
        lose();
        return;
    };
    let has_ports = packet.is_some_and(|packet| !matches!(packet.protocol, protocol::ICMP | protocol::ICMPV6));
    entry.write(Event {
        source: packet.map_or(Address::default(), |packet| packet.source),
        destination: packet.map_or(Address::default(), |packet| packet.destination),
        source_port: packet.filter(|_| has_ports).map_or(0, |packet| u16::from_be(packet.source_port)),
        destination_port: packet
            .map_or(0, |packet| if has_ports { u16::from_be(packet.destination_port) } else { packet.detail }),
        protocol: packet.map_or(0, |packet| packet.protocol),
        tcp_flags: packet.map_or(0, |packet| packet.tcp_flags),
        hook: hook as u8,
        direction: judgement.role as u8,
        verdict: judgement.verdict as u8,
        reason: judgement.reason as u8,
        reserved: 0,
        workload: local.workload,
        peer_workload: judgement.peer_workload,
        rule: judgement.rule,
        generation: Kernel.control().generation,
        interface,
        process,
    });
    entry.submit(0);
}

/// Whether this CPU may send another event this second: a flood must not cost more than it has to.
#[inline(always)]
fn may_send() -> bool {
    let settings = &Kernel.control().settings;
    let Some(budget) = tables::event_budget() else { return false };
    let second = if settings.hz == 0 { 0 } else { (Kernel.now() / u64::from(settings.hz)) as u32 };
    // SAFETY: this CPU's own slot; an interrupting program may make the count wrong by one.
    unsafe {
        if (*budget).second != second {
            (*budget).second = second;
            (*budget).sent = 0;
        }
        if (*budget).sent >= settings.events_per_second {
            (*budget).lost += 1;
            return false;
        }
        (*budget).sent += 1;
    }
    true
}

#[inline(always)]
fn lose() {
    if let Some(budget) = tables::event_budget() {
        // SAFETY: as above.
        unsafe { (*budget).lost += 1 };
    }
}
