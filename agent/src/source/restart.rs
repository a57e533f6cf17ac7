//! A source that fails is started again, and by its nature begins with a resync.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::controller::Event;
use crate::source::{Change, Fact, Told};
use crate::surface::stopped;

/// The wait before the first new attempt; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why a source ends: nobody listens any more.
#[derive(Debug)]
pub(super) struct Closed;

/// Sends one observation.
///
/// # Errors
/// Nobody listens any more.
pub(super) async fn tell(events: &mpsc::Sender<Event>, seen: std::time::Instant, change: Change) -> Result<(), Closed> {
    match &change {
        Change::CgroupResync(all) => tracing::debug!(cgroups = all.len(), "every cgroup is told of"),
        Change::LinkResync(all) => tracing::debug!(links = all.len(), "every link is told of"),
        Change::Pods(Told::All(all)) => tracing::debug!(pods = all.len(), "every pod is told of"),
        Change::Services(Told::All(all)) => tracing::debug!(services = all.len(), "every service is told of"),
        change => tracing::debug!(?change, "seen"),
    }
    events.send(Event::Fact(Fact { seen, change })).await.map_err(|_| Closed)
}

/// Runs a source until `stop` turns true or nobody listens any more, and again after each failure. Meanwhile what it told
/// last stays in force.
pub(super) async fn keep_running<F: Future<Output = anyhow::Result<Closed>>>(
    source: &'static str,
    events: &mpsc::Sender<Event>,
    stop: watch::Receiver<bool>,
    run: impl Fn() -> F,
) {
    let attempts = async {
        let mut wait = FIRST_WAIT;
        loop {
            let started = Instant::now();
            let error = match run().await {
                Ok(Closed) => return,
                Err(error) => error,
            };
            if started.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            tracing::warn!(source, "{error:#}; what is known stays in force, next attempt in {wait:?}");
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    };
    tokio::select! {
        () = attempts => {}
        () = events.closed() => {}
        () = stopped(stop) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_source_that_fails_is_tried_again_until_it_is_stopped() {
        let (events, _receiver) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let attempts = Cell::new(0);
        let attempt = || async {
            attempts.set(attempts.get() + 1);
            if attempts.get() == 3 {
                stop.send(true).expect("the source still listens");
            }
            anyhow::bail!("attempt {}", attempts.get())
        };
        keep_running("test", &events, stopped, attempt).await;
        assert_eq!(attempts.get(), 3);
    }

    #[tokio::test]
    async fn a_source_ends_when_nobody_listens() {
        let (events, receiver) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        drop(receiver);
        keep_running("test", &events, stopped, std::future::pending).await;
    }
}
