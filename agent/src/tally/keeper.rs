//! Has the sums outlive the agent: `tally.json` in the state directory, written whole each minute and at the end.
//!
//! A directory that can't be written costs the sums of an earlier agent and nothing else: they are then kept in memory, and the log
//! says so once.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::flow::record::Recorder;
use crate::kernel::Readings;
use crate::view::talk::TalksView;

/// The file's name.
const FILE: &str = "tally.json";
/// How often rules' hits are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the sums are written, in looks.
const WRITE: u32 = 30;

/// Seconds since the Unix epoch.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Where the sums are kept.
#[derive(Clone, Debug)]
pub struct Keeper {
    path: PathBuf,
}

impl Keeper {
    /// Prepares the directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        // What is in it is nobody else's business.
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(directory) {
            tracing::warn!(
                "cannot make the state directory {}: {error}; what `bulkhead audit` and `suggest` know is lost with this agent; give \
                 --state a directory that can be written",
                directory.display()
            );
        }
        Self { path: directory.join(FILE) }
    }

    /// What an earlier agent wrote.
    #[must_use]
    pub fn read(&self) -> Option<TalksView> {
        let told = |error: &dyn std::fmt::Display| {
            tracing::warn!("{}: {error}; the sums begin anew", self.path.display());
        };
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| told(&error)).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                told(&error);
                None
            }
        }
    }

    fn write(&self, view: &TalksView) -> io::Result<()> {
        let staged = self.path.with_extension("json.new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&staged)?;
        file.write_all(&serde_json::to_vec(view).expect("a view is plain data"))?;
        fs::rename(&staged, &self.path)
    }

    /// Looks and writes until `stopped`, and once more then.
    pub async fn run(self, recorder: Arc<Recorder>, readings: Arc<dyn Readings>, mut stopped: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looks, mut said) = (0, false);
        loop {
            let ends = tokio::select! {
                _ = tick.tick() => false,
                _ = stopped.wait_for(|stopped| *stopped) => true,
            };
            let (keeper, of, from) = (self.clone(), recorder.clone(), readings.clone());
            looks = (looks + 1) % WRITE;
            let writes = ends || looks == 0;
            // Neither the kernel's counters nor the disk may hold anybody up.
            let written = tokio::task::spawn_blocking(move || {
                of.note_hits(&from.rule_hits());
                of.note_lost(from.events_lost());
                if writes && of.tally().take_news() { keeper.write(&of.talks()) } else { Ok(()) }
            });
            if let Ok(Err(error)) = written.await
                && !std::mem::replace(&mut said, true)
            {
                tracing::warn!(
                    "cannot write {}: {error}; what `bulkhead audit` and `suggest` know is kept in memory",
                    self.path.display()
                );
            }
            if ends {
                return;
            }
        }
    }
}
