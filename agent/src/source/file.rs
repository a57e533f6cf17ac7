//! The file source: policy files and directories, read again when what they say may have changed.
//!
//! Any notice from the kernel near them only leads to a look at their contents; without a difference nothing happens. All
//! directories on the way to a file are watched, through symbolic links too, so that it does not matter how it is replaced:
//! written in place, renamed over, made again with its directory, or by the swap of a link as Kubernetes does it.

mod contents;
mod route;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::controller::{Event, Loaded, PolicyLoad};
use crate::source::restart::{Closed, keep_running};

use contents::Contents;
use route::{Expects, Route};

/// A program's burst of changes, each of which leaves a whole file, is over when it has been quiet for so long.
const SETTLED: Duration = Duration::from_millis(5);
/// The same where more is to be expected: a file that went may come again, one that is new may be filled.
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
    pub async fn watch<F, L>(self, load: F, events: mpsc::Sender<Event>, stop: watch::Receiver<bool>)
    where
        F: Fn(&[PathBuf]) -> L + Send + Sync + 'static,
        L: Into<Loaded> + 'static,
    {
        let paths: Arc<[PathBuf]> = self.paths.into();
        let last = tokio::sync::Mutex::new(self.contents);
        let load = Arc::new(load);
        keep_running("file", &events, stop, || async { run(&paths, &mut *last.lock().await, &load, &events).await })
            .await;
    }
}

async fn run<F, L>(
    paths: &Arc<[PathBuf]>,
    last: &mut Contents,
    load: &Arc<F>,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<Closed>
where
    F: Fn(&[PathBuf]) -> L + Send + Sync + 'static,
    L: Into<Loaded> + 'static,
{
    let mut seen = Instant::now();
    loop {
        // Watched first and read second: what changes in between has a notice.
        let mut route = Route::watched(paths)?;
        let contents = elsewhere(paths, Contents::of).await?;
        if contents != *last {
            let load = Arc::clone(load);
            let Loaded { result, objects } = elsewhere(paths, move |paths| load(paths).into()).await?;
            // Half of an edit is no reason for alarm while the other half is coming.
            if result.is_err() && more(&mut route, seen, QUIET).await? {
                quiet(&mut route, seen).await?;
                continue;
            }
            *last = contents;
            let outcome = PolicyLoad { seen: seen.into_std(), result, objects };
            if events.send(Event::Policy(outcome)).await.is_err() {
                return Ok(Closed);
            }
        }
        tokio::select! {
            notice = route.notice() => notice?,
            () = sleep_until(Instant::now() + SAFETY_NET) => {}
        }
        seen = Instant::now();
        quiet(&mut route, seen).await?;
    }
}

/// Waits for the end of a burst that began when it was `seen`: what is half written may well be valid, and mean something
/// else.
async fn quiet(route: &mut Route, seen: Instant) -> anyhow::Result<()> {
    loop {
        let patience = match route.expects() {
            Expects::Nothing => SETTLED,
            Expects::More => QUIET,
            Expects::TheEnd => LONGEST_BURST,
        };
        if !more(route, seen, patience).await? {
            return Ok(());
        }
    }
}

/// Whether there is another notice within `patience`, and before the longest burst is over.
async fn more(route: &mut Route, seen: Instant, patience: Duration) -> anyhow::Result<bool> {
    let until = (Instant::now() + patience).min(seen + LONGEST_BURST);
    match timeout_at(until, route.notice()).await {
        Ok(notice) => notice.map(|()| true),
        Err(_elapsed) => Ok(false),
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

#[cfg(test)]
mod tests;
