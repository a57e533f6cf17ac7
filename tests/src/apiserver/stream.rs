//! Answers that take their time: watches, and lists that fail on the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use serde_json::json;
use tokio::time::{Instant, interval_at, sleep, sleep_until};

use super::body::{Left, Pieces, Writer, pieces, status_text, whole};
use super::resource::Target;
use super::selector::Selector;
use super::store::Change;
use super::{Asked, End, Shared, What, lock};

/// Changes that are sent in one piece.
const BATCH: usize = 512;
/// Bytes of a piece of a slow answer.
const SLOW: usize = 64;

/// Answers with a page, as it shall fail.
pub(super) fn pages(shared: &Arc<Shared>, text: Vec<u8>, fault: Option<What>) -> Response<Pieces> {
    let Some(fault) = fault else { return whole(shared, 200, text) };
    let (writer, response) = pieces(shared);
    tokio::spawn(async move {
        let text = Bytes::from(text);
        match fault {
            What::Cut => {
                drop(writer.write(text.slice(..text.len() / 2)).await);
                writer.cut().await;
            }
            What::Silent => writer.left().await,
            What::Slow(pause) => drop(write(&writer, text, Some(pause)).await),
            _ => drop(writer.write(text).await),
        }
    });
    response
}

async fn write(writer: &Writer, text: Bytes, pause: Option<Duration>) -> Result<(), Left> {
    let Some(pause) = pause else { return writer.write(text).await };
    for start in (0..text.len()).step_by(SLOW) {
        sleep(pause).await;
        writer.write(text.slice(start..text.len().min(start + SLOW))).await?;
    }
    Ok(())
}

/// Says when all watches end.
type Ends = tokio::sync::watch::Receiver<(u64, End)>;

/// A watch.
pub(super) struct Watch {
    path: String,
    kind: String,
    selector: Selector,
    version: u64,
    bookmarks: Option<Duration>,
    until: Instant,
}

impl Watch {
    pub(super) fn new(shared: &Shared, target: &Target, asked: &Asked, selector: Selector, version: u64) -> Self {
        let seconds = asked.parameter("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(1_800);
        let wanted = asked.parameter("allowWatchBookmarks").is_some_and(|wanted| matches!(wanted, "true" | "1"));
        Self {
            path: target.path.clone(),
            kind: target.plural.clone(),
            selector,
            version,
            bookmarks: wanted.then(|| *lock(&shared.bookmarks)),
            until: Instant::now() + Duration::from_secs(seconds),
        }
    }

    async fn run(&mut self, shared: &Shared, writer: &Writer, mut ends: Ends, fault: Option<What>) -> Result<(), Left> {
        let mut pause = None;
        match fault {
            Some(What::ErrorEvent(code)) => return writer.write(error(code)).await,
            Some(What::Silent) => {
                writer.left().await;
                return Err(Left);
            }
            Some(What::Cut) => {
                writer.write(r#"{"type":"ADDED","object":{"kind":"#).await?;
                writer.cut().await;
                return Ok(());
            }
            Some(What::Slow(slow)) => pause = Some(slow),
            _ => {}
        }
        let mut newest = shared.version.subscribe();
        let every = self.bookmarks.unwrap_or(Duration::from_secs(86_400));
        let mut bookmarks = interval_at(Instant::now() + every, every);
        loop {
            newest.mark_unchanged();
            let changes = shared.store().since(&self.path, self.version, BATCH);
            let Ok((changes, version)) = changes else { return writer.write(error(410)).await };
            self.version = version;
            let full = changes.len() == BATCH;
            let mut lines = Vec::new();
            // Looked at after the changes: what a test puts after it has ended all watches is not sent by them.
            if ends.has_changed().unwrap_or(true) {
                return end(writer, &ends).await;
            }
            changes.iter().for_each(|change| self.line(change, &mut lines));
            if !lines.is_empty() {
                write(writer, lines.into(), pause).await?;
            }
            if full {
                continue;
            }
            tokio::select! {
                biased;
                _ = ends.changed() => return end(writer, &ends).await,
                _ = newest.changed() => {}
                _ = bookmarks.tick() => writer.write(self.bookmark()).await?,
                () = sleep_until(self.until) => return Ok(()),
                () = writer.left() => return Err(Left),
            }
        }
    }

    fn line(&self, change: &Change, lines: &mut Vec<u8>) {
        let before = change.before.as_ref().filter(|object| self.selector.matches(object));
        let after = change.after.as_ref().filter(|object| self.selector.matches(object));
        let (kind, text) = match (before, after) {
            (None, Some(after)) => ("ADDED", after.text.clone()),
            (Some(_), Some(after)) => ("MODIFIED", after.text.clone()),
            (Some(before), None) => ("DELETED", before.text_at(change.version)),
            (None, None) => return,
        };
        lines.extend_from_slice(format!(r#"{{"type":"{kind}","object":"#).as_bytes());
        lines.extend_from_slice(&text);
        lines.extend_from_slice(b"}\n");
    }

    fn bookmark(&self) -> String {
        let metadata = json!({"resourceVersion": self.version.to_string(), "creationTimestamp": null});
        let object = json!({"kind": self.kind, "apiVersion": "v1", "metadata": metadata});
        format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
    }
}

async fn end(writer: &Writer, ends: &Ends) -> Result<(), Left> {
    let (_, how) = *ends.borrow();
    match how {
        End::Well => {}
        End::Error(code) => writer.write(error(code)).await?,
        End::WithinALine => {
            writer.write(r#"{"type":"MODIFIED","object":{"kind":"#).await?;
            writer.cut().await;
        }
    }
    Ok(())
}

fn error(code: u16) -> String {
    let message = if code == 410 { "too old resource version" } else { "a fault of the test's" };
    format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", status_text(code, message, None))
}

/// Answers with a watch, as it shall fail.
pub(super) fn watch(shared: &Arc<Shared>, mut watch: Watch, fault: Option<What>) -> Response<Pieces> {
    let (writer, response) = pieces(shared);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // Before it counts as open: a test may end it from then on.
        let ends = shared.end.subscribe();
        shared.watches.fetch_add(1, Ordering::SeqCst);
        let _ended = watch.run(&shared, &writer, ends, fault).await;
        shared.watches.fetch_sub(1, Ordering::SeqCst);
    });
    response
}
