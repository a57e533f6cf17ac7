//! What the flow log wants to know: how much each end of a flow sent, and whose socket it was.
//!
//! [`LOGS_FLOWS`] is set when the programs are loaded. Where it is 0 the verifier takes out all that depends on it: a log that is off
//! costs a packet nothing.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_socket_cookie};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use bulkhead_ebpf::abi::{
    COMM, FLOWS as MAX_FLOWS, FlowCounts, FlowKey, Hook, PROCESSES as MAX_PROCESSES, SOCKETS as MAX_SOCKETS, counted_at,
};
use bulkhead_ebpf::packet::Packet;

use super::report::add;

/// Whether there is a log: 0 or 1.
#[unsafe(no_mangle)]
static LOGS_FLOWS: u32 = 0;

#[map]
static FLOW_COUNTS: LruHashMap<FlowKey, FlowCounts> = LruHashMap::with_max_entries(MAX_FLOWS, 0);
#[map]
static SOCKETS: LruHashMap<u64, u32> = LruHashMap::with_max_entries(MAX_SOCKETS, 0);
#[map]
static PROCESSES: LruHashMap<u32, [u8; COMM]> = LruHashMap::with_max_entries(MAX_PROCESSES, 0);

/// A new flow's counts, from where the kernel's helper copies them: a program's stack is small.
static ZERO: FlowCounts = FlowCounts::ZERO;

/// Whether there is a log.
#[inline(always)]
pub(super) fn is_on() -> bool {
    // SAFETY: valid and aligned as a static is; volatile, as the agent's value is not the compiler's.
    unsafe { (&raw const LOGS_FLOWS).read_volatile() != 0 }
}

/// Counts a packet that passes for its flow.
#[inline(always)]
pub(super) fn count(hook: Hook, packet: &Packet) {
    if !is_on() {
        return;
    }
    let Some(index) = counted_at(hook) else { return };
    // Where they are: neither has room on the stack once more.
    let (key, zero) = (&packet.key, &ZERO);
    if FLOW_COUNTS.get_ptr_mut(key).is_none() {
        // Where another CPU was faster, its entry stays.
        let _ = FLOW_COUNTS.insert(key, zero, u64::from(aya_ebpf::bindings::BPF_NOEXIST));
    }
    let Some(counts) = FLOW_COUNTS.get_ptr_mut(key) else { return };
    // SAFETY: the map's own memory, aligned as Count is; the index is a constant, and an end is 0 or 1.
    unsafe {
        let sent = (&raw mut (*counts).counts[index]).cast::<bulkhead_ebpf::abi::Count>();
        let count = sent.add(packet.sender() as usize & 1);
        add(&raw mut (*count).packets, 1);
        add(&raw mut (*count).bytes, u64::from(packet.length));
    }
}

/// Notes who makes a system call on a socket, once for each socket.
#[inline(always)]
pub(super) fn remember<C: EbpfContext>(ctx: &C) {
    if !is_on() {
        return;
    }
    // SAFETY: the context is the one the program was called with.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if SOCKETS.get_ptr(cookie).is_some() {
        return;
    }
    // SAFETY: the helper takes nothing and returns a number.
    let process = unsafe { (bpf_get_current_pid_tgid() >> 32) as u32 };
    let mut name = [0u8; COMM];
    // SAFETY: the helper writes no more than it is told that there is room for, and ends it with a 0.
    if unsafe { bpf_get_current_comm(name.as_mut_ptr().cast(), COMM as u32) } == 0 {
        let _ = PROCESSES.insert(process, name, 0);
    }
    let _ = SOCKETS.insert(cookie, process, 0);
}

/// The process that [`remember`] noted for a packet's socket; 0 for none.
#[inline(always)]
pub(super) fn process(skb: *mut __sk_buff) -> u32 {
    if !is_on() {
        return 0;
    }
    // SAFETY: the context pointer is the one the program was called with.
    let cookie = unsafe { bpf_get_socket_cookie(skb.cast()) };
    // SAFETY: an entry is one word.
    SOCKETS.get_ptr(cookie).map_or(0, |process| unsafe { process.read_volatile() })
}
