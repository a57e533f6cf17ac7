//! Who reaches whom, as a table: each row is tried by IPv4 and IPv6, the rows of different senders at the same time.

use std::thread;
use std::time::Duration;

use crate::check::Differences;
use crate::lab::probe::PATIENCE;
use crate::lab::protocol::{Outcome, Request};
use crate::lab::{Version, Workload};

/// How long to wait for an answer that is to come: a busy machine fails no test.
const GENEROUS: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A TCP connection to a port.
    Tcp(u16),
    /// A datagram to a port, from a socket that has no port yet: `sendmsg` can tell that it opens a flow.
    Udp(u16),
    /// A datagram to a port, from a socket that is bound: only the packet tells.
    BoundUdp(u16),
    /// An ICMP or ICMPv6 echo request.
    Echo,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    from: &'a Workload,
    way: Way,
    to: &'a Workload,
    expected: Expected,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// An answer comes.
    Reached,
    /// The sender's system call fails with EPERM.
    Refused,
    /// Nothing comes.
    Silent,
}

/// A row whose answer comes.
#[must_use]
pub const fn reaches<'a>(from: &'a Workload, way: Way, to: &'a Workload) -> Case<'a> {
    Case { from, way, to, expected: Expected::Reached }
}

/// A row that is denied on the sender's side, where its cgroup is known.
#[must_use]
pub const fn is_refused<'a>(from: &'a Workload, way: Way, to: &'a Workload) -> Case<'a> {
    Case { from, way, to, expected: Expected::Refused }
}

/// A row that is dropped on the way.
#[must_use]
pub const fn is_dropped<'a>(from: &'a Workload, way: Way, to: &'a Workload) -> Case<'a> {
    Case { from, way, to, expected: Expected::Silent }
}

impl Case<'_> {
    fn attempt(&self, version: Version) -> Outcome {
        let patience = if self.expected == Expected::Reached { GENEROUS } else { PATIENCE };
        let patience = u64::try_from(patience.as_millis()).expect("seconds");
        let datagram =
            |port, from| Request::Datagram { to: self.to.at(version, port), from, connected: false, patience };
        self.from.attempt(&match self.way {
            Way::Tcp(port) => Request::Connect { to: self.to.at(version, port), from: None, keep: false, patience },
            Way::Udp(port) => datagram(port, None),
            // The port is chosen by the system, but by bind, not by the first send.
            Way::BoundUdp(port) => datagram(port, Some(self.from.at(version, 0))),
            Way::Echo => Request::Echo { to: self.to.address(version), patience },
        })
    }

    fn expected(&self, version: Version) -> Outcome {
        match self.expected {
            Expected::Reached => Outcome::Reached,
            // The kernel keeps the error of an ICMPv6 packet to itself (net/ipv6/raw.c and ping.c:
            // icmpv6_push_pending_frames returns 0 whatever became of the packet).
            Expected::Refused if self.way == Way::Echo && version == Version::V6 => Outcome::Silent,
            Expected::Refused => Outcome::Refused,
            Expected::Silent => Outcome::Silent,
        }
    }
}

/// Tries all rows.
///
/// # Panics
/// A probe fails.
#[must_use]
pub fn tried(cases: &[Case<'_>]) -> Differences {
    let mut senders: Vec<u32> = cases.iter().map(|case| case.from.pid()).collect();
    senders.sort_unstable();
    senders.dedup();
    let attempts = thread::scope(|scope| {
        let of_sender = |sender| {
            let rows = cases.iter().filter(move |case| case.from.pid() == sender);
            let rows = rows.flat_map(|case| Version::BOTH.map(|version| (case, version)));
            scope.spawn(move || rows.map(|(case, version)| (case, version, case.attempt(version))).collect::<Vec<_>>())
        };
        let threads: Vec<_> = senders.into_iter().map(of_sender).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("the probes answer")).collect::<Vec<_>>()
    });
    let mut differences = Differences::default();
    for (case, version, seen) in attempts {
        let what = format!("{} to {} by {version:?}, {:?}", case.from.name, case.to.name, case.way);
        differences.case(what, &case.expected(version), &seen);
    }
    differences
}
