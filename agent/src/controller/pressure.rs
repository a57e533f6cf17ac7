//! Tables that are full of flows, events that are lost, and file descriptors that run out: said in the log when it begins and when
//! it is over, and in the status in between.
//!
//! Flows that are forgotten stay in their table until their room is needed, so that a table with an entry in every place is how
//! it should be: full it is where they are all remembered.
//!
//! Tables that the agent writes are not looked at: there the kernel refuses what does not fit, which is told at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kernel::Readings;
use crate::kernel::readings::KernelReadings;
use crate::metrics::process::{most_files, open_files};
use crate::view::MapView;

/// How often it is looked: a full table takes a long walk.
const PERIOD: Duration = Duration::from_secs(5);

/// The tables in which an entry gives way to a new one, and what that means.
const GIVING_WAY: [(&str, &str); 2] = [
    ("flows", "flows that were idle longest are judged again, as if they were new; give --max-flows more"),
    (
        "embryonic_flows",
        "flows that nobody has answered give way to others, established ones do not; somebody may flood this host",
    ),
];

/// File descriptors that are few: a listener and a link or two need as many at once.
const FEW_FILES: u64 = 4;
/// Entries that each CPU keeps free of a full table, for itself (`LOCAL_FREE_TARGET` in kernel/bpf/bpf_lru_list.c).
const FREE_PER_CPU: u64 = 128;

/// What presses.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    last: Option<Instant>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    is_looking: bool,
    lost: Option<u64>,
    warnings: BTreeMap<&'static str, String>,
}

impl Pressure {
    /// What there is to say in the status.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).warnings.values().cloned().collect()
    }

    /// Looks, if it is time, on a thread that may wait.
    pub(super) fn look(&mut self, readings: &Arc<KernelReadings>) {
        if self.last.is_some_and(|last| last.elapsed() < PERIOD) {
            return;
        }
        self.last = Some(Instant::now());
        if std::mem::replace(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_looking, true) {
            return;
        }
        let (readings, seen) = (readings.clone(), self.seen.clone());
        tokio::task::spawn_blocking(move || {
            let (flows, lost) = (readings.remembered(), readings.events_lost());
            let files = files(open_files(), most_files());
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match flows {
                Ok(flows) => seen.take(&flows, lost, aya::util::nr_cpus().map_or(1, |cpus| cpus as u64), files),
                Err(error) => tracing::warn!(%error, "the kernel does not say how full the tables of flows are"),
            }
            seen.is_looking = false;
        });
    }
}

impl Seen {
    fn take(&mut self, maps: &[MapView], lost: u64, cpus: u64, files: Option<String>) {
        let mut warnings = BTreeMap::new();
        warnings.extend(files.map(|warning| ("files", warning)));
        for (name, meaning) in GIVING_WAY {
            if let Some(map) = maps.iter().find(|map| map.map == name && is_full(map, cpus)) {
                warnings.insert(name, format!("the table {name} is full ({} entries): {meaning}", map.capacity));
            }
        }
        let before = self.lost.replace(lost).unwrap_or(lost);
        if lost > before {
            let text = format!(
                "events are lost, {} in the last seconds: there are more than the agent is told of; verdicts and counters are \
                 not touched",
                lost - before
            );
            warnings.insert("events", text);
        }
        for (_, warning) in warnings.iter().filter(|(what, _)| !self.warnings.contains_key(*what)) {
            tracing::warn!("{warning}");
        }
        for what in self.warnings.keys().filter(|what| !warnings.contains_key(*what)) {
            tracing::info!("{what}: there is room again, none are lost or missing");
        }
        self.warnings = warnings;
    }
}

/// What there is to say where no more than a few file descriptors are left.
fn files(open: io::Result<u64>, most: io::Result<u64>) -> Option<String> {
    let few = match (open, most) {
        (Ok(open), Ok(most)) => most.saturating_sub(open) < FEW_FILES,
        (Err(error), _) => error.raw_os_error() == Some(libc::EMFILE),
        _ => false,
    };
    few.then(|| {
        "file descriptors run out: what is enforced stays so, but who asks may wait, and a new link may get no program; give the \
         agent more (LimitNOFILE=), and see who holds its connections"
            .to_owned()
    })
}

/// Whether entries give way, as far as the number of entries says. Of a small table half may be kept free.
fn is_full(map: &MapView, cpus: u64) -> bool {
    let free = map.capacity / 100 + cpus * FREE_PER_CPU;
    map.entries >= map.capacity.saturating_sub(free).max(map.capacity / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str, entries: u64, capacity: u64) -> MapView {
        MapView { map: name.to_owned(), entries, capacity }
    }

    #[test]
    fn a_table_that_is_full_is_told_of_until_it_has_room() {
        let mut seen = Seen::default();
        seen.take(&[map("flows", 99_000, 100_000), map("embryonic_flows", 10, 50_000)], 0, 2, None);
        assert!(seen.warnings["flows"].contains("is full"), "{seen:?}");
        assert_eq!(seen.warnings.len(), 1, "{seen:?}");
        seen.take(&[map("flows", 90_000, 100_000)], 0, 2, None);
        assert!(seen.warnings.is_empty(), "{seen:?}");
    }

    #[test]
    fn file_descriptors_that_run_out_are_told_of_also_where_none_is_left_to_look_with() {
        assert!(files(Ok(10), Ok(1_024)).is_none());
        assert!(files(Ok(1_022), Ok(1_024)).is_some_and(|warning| warning.contains("LimitNOFILE")));
        assert!(files(Err(io::Error::from_raw_os_error(libc::EMFILE)), Ok(1_024)).is_some());
        assert!(files(Err(io::ErrorKind::NotFound.into()), Ok(1_024)).is_none());
    }

    #[test]
    fn each_cpu_keeps_entries_free_but_never_more_than_half_of_the_table() {
        assert!(is_full(&map("flows", 800, 1_024), 2));
        assert!(!is_full(&map("flows", 400, 1_024), 64));
        assert!(is_full(&map("flows", 600, 1_024), 64));
    }

    #[test]
    fn events_are_lost_as_long_as_their_number_grows_and_not_for_what_an_earlier_agent_lost() {
        let mut seen = Seen::default();
        seen.take(&[], 70, 2, None);
        assert!(seen.warnings.is_empty());
        seen.take(&[], 75, 2, None);
        assert!(seen.warnings["events"].contains("lost, 5 in"), "{seen:?}");
        seen.take(&[], 75, 2, None);
        assert!(seen.warnings.is_empty());
    }
}
