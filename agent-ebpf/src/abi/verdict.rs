//! What can be decided, where, and why: the one place that names every reason.

/// Generates an enum of consecutive numbers together with its names, so that metric, log and CLI agree.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in metrics, logs and the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value with this number, if there is one.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }
    };
}

named! {
    /// What happens to a packet.
    Verdict {
        /// It passes.
        Allow = "allow",
        /// It is dropped, or the system call fails.
        Deny = "deny",
        /// It would have been denied; every group that governs the direction is in audit, so it passes.
        Audit = "audit",
    }
}

named! {
    /// A direction as seen by the local workload.
    Direction {
        /// Towards the workload.
        Ingress = "ingress",
        /// From the workload.
        Egress = "egress",
    }
}

impl Direction {
    /// The same packet as seen from its other end.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }
}

named! {
    /// The place in the kernel at which a packet or a system call was judged.
    Hook {
        /// `cgroup_skb/ingress` at the root of the cgroup tree.
        CgroupIngress = "cgroup_ingress",
        /// `cgroup_skb/egress` at the root of the cgroup tree.
        CgroupEgress = "cgroup_egress",
        /// `cgroup/connect4` and `connect6`.
        Connect = "connect",
        /// `cgroup/sendmsg4` and `sendmsg6`.
        Sendmsg = "sendmsg",
        /// XDP on an uplink.
        Xdp = "xdp",
        /// tc on the host's end of a workload's link, for what the workload sends.
        TcEgress = "tc_egress",
        /// tc on the host's end of a workload's link, for what the workload receives.
        TcIngress = "tc_ingress",
    }
}

named! {
    /// Why a verdict is as it is.
    Reason {
        /// A rule allows it.
        Rule = "rule",
        /// The flow was judged before, under the generation in force.
        Established = "established",
        /// None of the workload's groups mentions egress: everything may go out.
        OpenEgress = "open_egress",
        /// The local workload is in no group.
        Ungoverned = "ungoverned",
        /// An ICMP error that quotes an allowed flow.
        Related = "related",
        /// Loopback inside one network namespace.
        Loopback = "loopback",
        /// A workload with itself.
        SameWorkload = "same_workload",
        /// ARP, neighbour discovery, DHCP and the ICMPv6 messages of RFC 4890 section 4.4.1.
        NeverCut = "never_cut",
        /// The receiver is no workload of this host.
        NotLocal = "not_local",
        /// This hook can't decide; a later one will.
        Deferred = "deferred",
        /// A cgroup below a managed scope that no source has named yet: the scope decides. Or a link that the tables don't
        /// name: denied.
        Unidentified = "unidentified",
        /// No rule of the workload's groups allows it.
        NoRule = "no_rule",
        /// Truncated, contradictory or impossible headers.
        Malformed = "malformed",
        /// A later fragment whose first fragment was not seen.
        FragmentUnseen = "fragment_unseen",
        /// The source address is not the sending workload's.
        Spoofed = "spoofed",
        /// Neither IP nor ARP, on a governed workload's link.
        NotIp = "not_ip",
        /// A table had no room for what this packet needs.
        TableFull = "table_full",
        /// A TCP segment of no known flow that opens none, where the agent is told to deny those.
        Midstream = "midstream",
        /// A guardrail denies it, whatever rules say.
        Guardrail = "guardrail",
        /// It would have been denied, but a failsafe port of the host's own traffic allows it.
        Failsafe = "failsafe",
        /// None of the workload's groups mentions ingress, though one mentions egress: everything may come in.
        OpenIngress = "open_ingress",
    }
}
