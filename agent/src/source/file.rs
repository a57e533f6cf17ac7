//! The file source: policy files and directories, read again when what they say may have changed.
//!
//! Any notice from the kernel near them only leads to a look at their contents; without a difference nothing happens. All
//! directories on the way to a file are watched, through symbolic links too, so that it does not matter how it is replaced:
//! written in place, renamed over, made again with its directory, or by the swap of a link as Kubernetes does it.

mod contents;
mod route;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::controller::{Event, PolicyLoad};
use crate::policy::model::PolicySet;
use crate::policy::problem::Problem;
use crate::source::restart::{Closed, keep_running};

use contents::Contents;
use route::Route;

/// An editor's burst of changes is over when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(50);
/// A burst without an end is looked at all the same.
const LONGEST_BURST: Duration = Duration::from_millis(500);
/// How often the contents are looked at without a notice: a write through another path to the same file has none.
const SAFETY_NET: Duration = Duration::from_secs(30);

/// Policy files and directories, and what they said when they were last read.
#[derive(Debug)]
pub struct PolicyFiles {
    paths: Vec<PathBuf>,
    contents: Contents,
}

impl PolicyFiles {
    /// Notes what the files say now. To miss no edit, call it before their first load.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let contents = Contents::of(&paths);
        Self { paths, contents }
    }

    /// Loads the files whenever what they say has changed, and tells of the outcome, until `stop` turns true or nobody listens
    /// any more.
    pub async fn watch<F>(self, load: F, events: mpsc::Sender<Event>, stop: watch::Receiver<bool>)
    where
        F: Fn(&[PathBuf]) -> Result<PolicySet, Vec<Problem>> + Send + Sync + 'static,
    {
        let paths: Arc<[PathBuf]> = self.paths.into();
        let last = tokio::sync::Mutex::new(self.contents);
        let load = Arc::new(load);
        keep_running("file", &events, stop, || async { run(&paths, &mut *last.lock().await, &load, &events).await })
            .await;
    }
}

async fn run<F>(
    paths: &Arc<[PathBuf]>,
    last: &mut Contents,
    load: &Arc<F>,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<Closed>
where
    F: Fn(&[PathBuf]) -> Result<PolicySet, Vec<Problem>> + Send + Sync + 'static,
{
    let mut seen = Instant::now();
    loop {
        // Watched first and read second: what changes in between has a notice.
        let mut route = Route::watched(paths)?;
        let contents = elsewhere(paths, Contents::of).await?;
        if contents != *last {
            *last = contents;
            let load = Arc::clone(load);
            let result = elsewhere(paths, move |paths| load(paths)).await?;
            let outcome = PolicyLoad { seen: seen.into_std(), result };
            if events.send(Event::Policy(outcome)).await.is_err() {
                return Ok(Closed);
            }
        }
        tokio::select! {
            notice = route.notice() => notice?,
            () = sleep_until(Instant::now() + SAFETY_NET) => {}
        }
        seen = Instant::now();
        loop {
            // What is half written may well be valid, and mean something else.
            let quiet = if route.is_being_written() { LONGEST_BURST } else { QUIET };
            let Ok(notice) = timeout_at((Instant::now() + quiet).min(seen + LONGEST_BURST), route.notice()).await
            else {
                break;
            };
            notice?;
        }
    }
}

/// Reading files may wait for a disk, and loading them takes its time.
async fn elsewhere<T: Send + 'static>(
    paths: &Arc<[PathBuf]>,
    work: impl FnOnce(&[PathBuf]) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let paths = Arc::clone(paths);
    spawn_blocking(move || work(&paths)).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => anyhow::Error::from(error).context("reading the policy was cut short"),
    })
}

/// The path itself, or what it is below the working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
