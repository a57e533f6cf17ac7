//! A sequence of packets at hooks: how each is read, and how the sequence is judged.
//!
//! The input's first byte chooses a world, records follow: two bytes say what happens, two how many bytes of packet follow. An
//! input that ends early is taken as far as it goes.

mod judging;
mod parsing;
mod reference;
pub mod seeds;

use bulkhead_tests::model::Spot;
use bulkhead_tests::world::Stage;

/// Worlds to choose from.
pub const WORLDS: u8 = 128;
/// A sequence has no more records: the flows of more would not fit the tables in memory.
const MOST_RECORDS: usize = 32;

/// Holds the parser against the reference, and the decision against the model.
///
/// # Panics
/// Something does not hold.
pub fn check(input: &[u8]) {
    let Some((world, mut rest)) = input.split_first() else { return };
    let stage = Stage::imagined();
    let mut records = Vec::new();
    while let Some((record, behind)) = Record::split(rest, &stage)
        && records.len() < MOST_RECORDS
    {
        records.push(record);
        rest = behind;
    }
    for record in &records {
        if let Record::Packet(spot, bytes) = record {
            parsing::check(bytes, has_ethernet(spot));
        }
    }
    judging::check(world % WORLDS, &records);
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A packet at a hook: from the IP header on at cgroups' hooks, an Ethernet frame elsewhere.
    Packet(Spot, Vec<u8>),
    /// Seconds pass.
    Wait(u64),
}

/// Seconds of a wait's second byte: 255 of them are beyond every time-out.
const WAIT: u64 = 3;

impl Record {
    fn split<'a>(bytes: &'a [u8], stage: &Stage) -> Option<(Self, &'a [u8])> {
        let ([what, which, high, low], rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (packet, rest) = rest.split_at(length);
        let cgroups: Vec<_> = stage.all_cgroups().collect();
        let cgroup = cgroups[usize::from(*which) % cgroups.len()].path.clone();
        let interface = stage.interfaces[usize::from(*which) % stage.interfaces.len()].index;
        let spot = match what % 6 {
            0 => Spot::CgroupEgress { cgroup, loopback: false },
            1 => Spot::CgroupIngress { cgroup, loopback: false },
            2 => Spot::TcEgress { interface },
            3 => Spot::TcIngress { interface },
            4 => Spot::Xdp,
            _ => return Some((Self::Wait(u64::from(*which) * WAIT), rest)),
        };
        Some((Self::Packet(spot, packet.to_vec()), rest))
    }

    /// As it stands in an input.
    fn write(&self, stage: &Stage, input: &mut Vec<u8>) {
        let of_cgroup = |path: &String| stage.all_cgroups().position(|cgroup| cgroup.path == *path);
        let of_link = |index: &u32| stage.interfaces.iter().position(|link| link.index == *index);
        let (what, which, packet) = match self {
            Self::Packet(Spot::CgroupEgress { cgroup, .. }, packet) => (0, of_cgroup(cgroup), packet.as_slice()),
            Self::Packet(Spot::CgroupIngress { cgroup, .. }, packet) => (1, of_cgroup(cgroup), packet.as_slice()),
            Self::Packet(Spot::TcEgress { interface }, packet) => (2, of_link(interface), packet.as_slice()),
            Self::Packet(Spot::TcIngress { interface }, packet) => (3, of_link(interface), packet.as_slice()),
            Self::Packet(Spot::Xdp, packet) => (4, Some(0), packet.as_slice()),
            Self::Wait(seconds) => (5, Some((seconds / WAIT) as usize), [].as_slice()),
        };
        input.extend([what, which.expect("it is of the stage") as u8]);
        input.extend((packet.len() as u16).to_be_bytes());
        input.extend(packet);
    }
}

const fn has_ethernet(spot: &Spot) -> bool {
    !matches!(spot, Spot::CgroupEgress { .. } | Spot::CgroupIngress { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let stage = Stage::imagined();
        let records = [
            Record::Packet(Spot::CgroupEgress { cgroup: "stage/w2".into(), loopback: false }, vec![1, 2, 3]),
            Record::Wait(30),
            Record::Packet(Spot::TcIngress { interface: 12 }, vec![0; 300]),
            Record::Packet(Spot::Xdp, Vec::new()),
        ];
        let mut input = Vec::new();
        records.iter().for_each(|record| record.write(&stage, &mut input));
        let mut rest = input.as_slice();
        for expected in &records {
            let (record, behind) = Record::split(rest, &stage).expect("there is one more");
            assert_eq!(record, *expected);
            rest = behind;
        }
        assert_eq!(Record::split(rest, &stage), None);
    }
}
