//! Whose packet or system call it is: the nearest known ancestor of a cgroup.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
};
use bulkhead_ebpf::abi::Place;
use bulkhead_ebpf::judge::{Local, Seen};
use bulkhead_ebpf::tables::Tables;

use super::tables::{self, Kernel};

/// Levels below the root that are searched. A workload's own cgroup must lie within them; what it makes below may lie
/// deeper.
const DEPTH: i32 = 16;

/// The cgroup of the packet's socket.
#[inline(always)]
pub(super) fn of_packet(skb: *mut __sk_buff) -> u64 {
    // SAFETY: the context pointer is the one the program was called with.
    unsafe { bpf_skb_cgroup_id(skb) }
}

/// The workload of the packet's socket.
#[inline(always)]
pub(super) fn owner_of_packet(skb: *mut __sk_buff, cgroup: u64) -> Local {
    let generation = Kernel.generation();
    let place = Place::unpack(place_of_packet(skb, cgroup));
    Local::at(generation, place, Seen::Cgroup(cgroup))
}

/// The workload of the process that makes a system call.
#[inline(always)]
pub(super) fn owner_of_call() -> Local {
    // SAFETY: the helper takes nothing and returns a number; at these hooks the current process makes the call.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let generation = Kernel.generation();
    let place = Place::unpack(place_of_call(cgroup));
    Local::at(generation, place, Seen::Cgroup(cgroup))
}

/// A function of its own: with a number for an answer the verifier walks through it once, and not with each ending anew
/// through what comes after it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn place_of_packet(skb: *mut __sk_buff, cgroup: u64) -> u64 {
    // SAFETY: the context pointer is the one the program was called with.
    nearest(cgroup, |level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) })
}

/// As [`place_of_packet`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn place_of_call(cgroup: u64) -> u64 {
    // SAFETY: the helper takes a number and returns one.
    nearest(cgroup, |level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
}

/// The place of a cgroup or of the nearest ancestor that is known; the host's own where none is.
#[inline(always)]
fn nearest(cgroup: u64, ancestor: impl Fn(i32) -> u64) -> u64 {
    if let Some(place) = tables::cgroup(cgroup) {
        return place.of_itself().pack();
    }
    let mut nearest = Place::HOST.pack();
    let mut level = 1;
    while level <= DEPTH {
        let id = ancestor(level);
        if id == 0 || id == cgroup {
            break;
        }
        if let Some(place) = tables::cgroup(id) {
            nearest = place.of_below().pack();
        }
        level += 1;
    }
    nearest
}
