//! What the programs keep for the flow log: how much each end of a flow sent, and processes' names.

use std::io;

use aya::Ebpf;
use aya::maps::{HashMap as KernelHash, Map, MapData};
use bulkhead_ebpf::abi::{COMM, Count, End, FlowCounts, FlowKey};

use super::batch::{BatchMap, Walk};
use super::error::KernelError;
use super::mirror::Store;
use super::readings::{KernelReadings, Standing};

/// The flow log's maps.
pub struct LogMaps {
    counts: BatchMap<FlowKey, FlowCounts>,
    processes: KernelHash<MapData, u32, [u8; COMM]>,
}

impl std::fmt::Debug for LogMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogMaps").finish_non_exhaustive()
    }
}

/// A flow that ended, as far as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The flow.
    pub key: FlowKey,
    /// What each end sent.
    pub sent: [Count; 2],
    /// The end that opened it, where the table of flows still knew.
    pub initiator: Option<End>,
    /// How it ended.
    pub how: Standing,
}

impl LogMaps {
    /// Takes the maps out of the object that holds them.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let mut data = |map: &'static str| match ebpf.take_map(map) {
            Some(Map::LruHashMap(data) | Map::HashMap(data)) => Ok(data),
            _ => Err(KernelError::Missing(map)),
        };
        let (counts, processes) = (data("FLOW_COUNTS")?, data("PROCESSES")?);
        let failed = |map, source| KernelError::Map { map, operation: "opening", source };
        Ok(Self {
            counts: BatchMap::new(counts).map_err(|error| failed("FLOW_COUNTS", error.into()))?,
            processes: KernelHash::try_from(Map::LruHashMap(processes)).map_err(|error| failed("PROCESSES", error))?,
        })
    }

    /// The name that a process had when it made a call on a socket.
    #[must_use]
    pub fn process(&self, process: u32) -> Option<String> {
        let name = self.processes.get(&process, 0).ok()?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Some(String::from_utf8_lossy(&name[..end]).into_owned())
    }

    /// Flows that ended since this was last asked. Their counts are taken out.
    ///
    /// # Errors
    /// The kernel refuses to read or to delete.
    pub fn ended(&self, readings: &KernelReadings) -> io::Result<Vec<Ended>> {
        let standing = readings.standing()?;
        let (mut walk, mut ended) = (Walk::default(), Vec::new());
        loop {
            for (key, counts) in self.counts.some(&mut walk)? {
                let (how, initiator) = standing.of(&key);
                if how != Standing::Lives {
                    ended.push(Ended { key, sent: sent(&counts), initiator, how });
                }
            }
            if walk.is_over() {
                break;
            }
        }
        let keys: Vec<FlowKey> = ended.iter().map(|ended| ended.key).collect();
        self.counts.delete(&keys)?;
        Ok(ended)
    }
}

/// What each end sent: by the first hook that saw any of it, as [`bulkhead_ebpf::abi::counted_at`] orders them.
fn sent(counts: &FlowCounts) -> [Count; 2] {
    [0, 1]
        .map(|end| counts.counts.iter().map(|of_hook| of_hook[end]).find(|count| count.packets > 0).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_hooks_that_saw_a_packet_the_senders_own_counts() {
        let mut counts = FlowCounts::ZERO;
        let count = |packets| Count { packets, bytes: packets * 100 };
        counts.counts[0][0] = count(5);
        counts.counts[1][0] = count(5);
        counts.counts[2][0] = count(4);
        counts.counts[2][1] = count(7);
        counts.counts[3][1] = count(7);
        assert_eq!(sent(&counts), [count(5), count(7)]);
        assert_eq!(sent(&FlowCounts::ZERO), [Count::default(); 2]);
    }
}
