//! The contract between the packet path and the agent: keys and values of every map, defined once.
//!
//! Every type is `repr(C)`, without implicit padding, and `Copy`. Numbers are in the host's byte order unless a field says
//! otherwise.

mod address;
mod config;
mod counter;
mod event;
mod flow;
mod fragment;
mod identity;
mod log;
mod policy;
mod service;
mod verdict;

pub use address::Address;
pub use config::{Control, LAYOUT, Settings};
pub use counter::{COUNTERS, Count, MAX_RULES, RULE_NONE, counter_index, counter_parts};
pub use event::Event;
pub use flow::{Course, EMBRYOS, End, FLOWS, Flow, FlowKey, Side, Stamp, State};
pub use fragment::{FRAGMENTS, Fragment, FragmentKey};
pub use identity::{
    ADDRESSES, CGROUPS, CIDRS, DENY_ENTRIES, Denied, IDENTITIES, IDENTITY_NONE, IDENTITY_WORLD, INTERFACES, Identity,
    IdentityKey, MAX_IDENTITY, MAX_IDENTITY_SLOTS, MAX_WORKLOAD, Party, Place,
};
pub use log::{COMM, FlowCounts, PROCESSES, SOCKETS, counted_at};
pub use policy::{
    CLASS_ANY, FAILSAFE, PORT_INDEXES, PortIndex, ROW_BITS, ROWS, RULE_REFS, Row, RowKey, RuleKey, RuleRef, SLOT_HOST,
    SLOT_REMOTE_HOST, SLOT_WORLD, SLOTS,
};
pub use service::{Backends, Frontend, SERVICES};
pub use verdict::{Direction, Hook, Reason, Verdict};

/// Marks types as safe to copy to and from the kernel's maps.
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya::Pod is an unsafe marker trait")]
mod pod {
    use super::*;

    macro_rules! pod {
        ($($name:ty),+ $(,)?) => {$(
            // SAFETY: repr(C), Copy, no padding (asserted beside each type), every bit pattern valid.
            unsafe impl aya::Pod for $name {}
        )+};
    }

    pod!(
        Address,
        Backends,
        Control,
        Settings,
        Count,
        Flow,
        FlowCounts,
        FlowKey,
        Fragment,
        FragmentKey,
        Frontend,
        Identity,
        IdentityKey,
        Party,
        Place,
        Row,
        RowKey,
        RuleKey,
        RuleRef,
    );
}
