//! What is kept for the flow log alone, in maps that are not pinned: where there is no log they have one entry, and no program
//! looks at them.

use super::{Count, Hook};

/// Entries of the map `SOCKETS`, from a socket's cookie to its process. When it is full, the one that was not looked for longest
/// gives way, and its flows have no process in the log.
pub const SOCKETS: u32 = 65_536;
/// Entries of the map `PROCESSES`, from a process to its name, likewise.
pub const PROCESSES: u32 = 16_384;
/// Bytes of a process' name, the last of them 0 (`TASK_COMM_LEN` in include/linux/sched.h).
pub const COMM: usize = 16;

/// Value of the map `FLOW_COUNTS`, whose keys and entries are those of `FLOWS`: what each end sent, as each hook saw it.
///
/// A packet between two workloads of one host is seen up to four times. Which hook's count is the flow's is for user space to say.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// By hook ([`counted_at`]) and sending end.
    pub counts: [[Count; 2]; 4],
}

const _: () = assert!(size_of::<FlowCounts>() == 128);

impl FlowCounts {
    /// Nothing.
    pub const ZERO: Self = Self { counts: [[Count { packets: 0, bytes: 0 }; 2]; 4] };
}

/// The index of a hook in [`FlowCounts`], in the order in which a flow's counts are to be trusted: the sender's own hooks see all that
/// it sends. `None` for a hook that does not count.
#[inline(always)]
#[must_use]
pub const fn counted_at(hook: Hook) -> Option<usize> {
    match hook {
        Hook::CgroupEgress => Some(0),
        Hook::TcEgress => Some(1),
        Hook::CgroupIngress => Some(2),
        Hook::TcIngress => Some(3),
        Hook::Connect | Hook::Sendmsg | Hook::Xdp => None,
    }
}
