//! Addresses that have left their workload, until the flows to and from them are dead.
//!
//! Such an address is nobody's: in no group, covered by CIDRs as ever, and not `world`. Packets of its former holder that are
//! still under way, and whoever takes the address without being named yet, get nothing that the former holder had, and nothing
//! that is meant for strangers. It ends when the longest time-out is over, or when a workload or the host has the address.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Tombstones at most; beyond that the oldest gives way.
pub const TOMBSTONES: usize = 65_536;

/// The tombstones, oldest first. Time is whatever the caller says, from any beginning.
#[derive(Debug, Default)]
pub struct Tombstones {
    lasting: Duration,
    room: usize,
    now: Duration,
    until: HashMap<IpAddr, Duration>,
    /// With entries of addresses that were claimed since, whose time differs or is gone above.
    queue: VecDeque<(Duration, IpAddr)>,
    dropped: Vec<IpAddr>,
}

impl Tombstones {
    /// Room for `room` tombstones that last this long. By default there is none.
    #[must_use]
    pub fn new(lasting: Duration, room: usize) -> Self {
        Self { lasting, room, ..Self::default() }
    }

    /// Lets time pass, and returns the addresses whose tombstones are gone since the last time.
    pub fn advance(&mut self, now: Duration) -> Vec<IpAddr> {
        self.now = now;
        while self.queue.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
        std::mem::take(&mut self.dropped)
    }

    /// Notes that an address has left its workload just now.
    pub fn bury(&mut self, address: IpAddr) {
        if self.room == 0 {
            return;
        }
        while self.queue.len() >= self.room {
            self.drop_oldest();
        }
        let until = self.now + self.lasting;
        self.until.insert(address, until);
        self.queue.push_back((until, address));
    }

    /// Notes that somebody has the address.
    pub fn claim(&mut self, address: &IpAddr) {
        self.until.remove(address);
    }

    /// Whether the address has a tombstone.
    #[must_use]
    pub fn holds(&self, address: &IpAddr) -> bool {
        self.until.contains_key(address)
    }

    /// Every address with a tombstone, in no order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.until.keys().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    fn drop_oldest(&mut self) {
        let Some((until, address)) = self.queue.pop_front() else { return };
        if self.until.get(&address) == Some(&until) {
            self.until.remove(&address);
            self.dropped.push(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_tombstone_lasts_its_time_or_until_somebody_has_the_address() {
        let mut stones = Tombstones::new(at(600), 10);
        stones.bury(ip(1));
        stones.bury(ip(2));
        assert!(stones.advance(at(599)).is_empty() && stones.holds(&ip(1)));
        stones.claim(&ip(1));
        stones.bury(ip(1));
        assert_eq!(stones.advance(at(600)), [ip(2)], "the other one was buried again");
        assert!(stones.holds(&ip(1)) && stones.len() == 1);
        assert_eq!(stones.advance(at(1_199)), [ip(1)]);
        assert!(stones.is_empty());
    }

    #[test]
    fn beyond_their_number_the_oldest_gives_way() {
        let mut stones = Tombstones::new(at(600), 2);
        (1..=3).for_each(|last| stones.bury(ip(last)));
        assert_eq!(stones.advance(at(0)), [ip(1)]);
        assert_eq!(stones.len(), 2);
        let mut none = Tombstones::default();
        none.bury(ip(1));
        assert!(none.is_empty());
    }
}
