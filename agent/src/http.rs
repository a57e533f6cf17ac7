//! The HTTP server behind the admin socket and the metrics listener.
//!
//! Bounded: past so many connections new ones wait in the kernel's queue, a request's head must be there within a time-out,
//! and a broken connection ends alone.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Time for a request's head, and how long a connection may stay idle. Longer than the scrape intervals in use.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// A request's head needs no more.
const MAX_HEAD: usize = 16 * 1_024;

/// Serves connections until `stop` is over, and then drops them. `route` chooses who answers a connection.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    connections: usize,
    route: impl Fn(&L::Io) -> Router,
    stop: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(connections));
    let mut open = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await.0)
        };
        let (permit, stream) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => return,
        };
        let service = TowerToHyperService::new(route(&stream));
        open.spawn(async move {
            let _permit = permit;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
        while open.try_join_next().is_some() {}
    }
}
