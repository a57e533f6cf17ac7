//! What the agent tells the packet path: the generation in force, and the switches set at load time.

/// Version of everything in [`crate::abi`]. It names the directory of the pins: an agent never adopts maps of another
/// layout. Raise it with every change of a key, a value, a capacity or an enum's numbers.
pub const LAYOUT: u32 = if cfg!(feature = "successor") { 8 } else { 7 };

/// The one word that makes a policy change atomic (the map `CONTROL`, one entry).
///
/// Policy rows, rule references, identities and port classes are kept twice. The lowest bit of the generation says which
/// copy holds. A flow remembers the generation that allowed it; a different one has its next packet judged again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Number of the compiled policy in force. It grows by one when the other copy takes over, by two when the same copy
    /// stays but flows must be judged again (a workload changed).
    ///
    /// The kernel copies it byte by byte on some machines. A torn read still has the lowest bit of either the old or the
    /// new number, so it names a whole copy, and the flow it is stamped on is judged again.
    pub generation: u32,
    /// Time-outs.
    pub settings: Settings,
}

const _: () = assert!(size_of::<Control>() == size_of::<Settings>() + 4);

impl Control {
    /// Which copy of the tables holds: 0 or 1.
    #[inline(always)]
    #[must_use]
    pub const fn copy(&self) -> u32 {
        self.generation & 1
    }
}

/// Time-outs and limits. They stand beside the generation, which every packet reads anyhow.
///
/// Times are in jiffies: reading the clock in jiffies is free, in nanoseconds it costs as much as a map look-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Jiffies in a second (the kernel's CONFIG_HZ).
    pub hz: u32,
    /// Idle time-out of an embryonic TCP flow.
    pub tcp_embryonic: u32,
    /// Idle time-out of an established TCP flow.
    pub tcp_established: u32,
    /// Idle time-out of a TCP flow that saw FIN, or RST and nothing to the contrary since.
    pub tcp_closing: u32,
    /// Idle time-out of a UDP flow that saw packets one way.
    pub udp_one_way: u32,
    /// Idle time-out of a UDP flow that saw packets both ways.
    pub udp_stream: u32,
    /// Idle time-out of an ICMP or ICMPv6 flow.
    pub icmp: u32,
    /// Idle time-out of any other flow.
    pub other: u32,
    /// Events a second that one CPU may send to the agent; more are counted as lost. 0 switches events off.
    pub events_per_second: u32,
    /// Whether a TCP segment that opens nothing and belongs to no known flow is denied: 0 or 1.
    pub denies_midstream: u32,
    /// By this the successor's layout differs: in what every packet reads.
    #[cfg(feature = "successor")]
    pub spare: u32,
}

const _: () = assert!(size_of::<Settings>() == if cfg!(feature = "successor") { 44 } else { 40 });

impl Settings {
    /// The defaults for a kernel with this many jiffies in a second.
    ///
    /// Established TCP, UDP and other: AWS security groups' connection tracking (Amazon EC2 User Guide, "Idle connection
    /// tracking timeout"). Handshake, closing and ICMP: Linux `nf_conntrack` (net/netfilter/nf_conntrack_proto_tcp.c and
    /// nf_conntrack_proto_icmp.c).
    #[must_use]
    pub const fn defaults(hz: u32) -> Self {
        Self {
            hz,
            tcp_embryonic: 120 * hz,
            tcp_established: 350 * hz,
            tcp_closing: 120 * hz,
            udp_one_way: 30 * hz,
            udp_stream: 180 * hz,
            icmp: 30 * hz,
            other: 600 * hz,
            events_per_second: 1_000,
            denies_midstream: 0,
            #[cfg(feature = "successor")]
            spare: 0,
        }
    }
}
