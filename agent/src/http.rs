//! The HTTP server behind the admin socket and the metrics listener, for peers that may be slow, wrong or hostile.
//!
//! A connection carries one request: a head that is small and comes in time, and no body. Its answer has to be taken in time too.
//! Where all connections are in use, the one that has waited longest for its request gives way to a new one, so that who opens
//! many and says nothing keeps nobody out; those that are being answered stay. A broken connection ends alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::{AbortHandle, JoinSet};

/// Time for a request's head, from the connection's beginning.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for all of a connection, unless its answer is [`Endless`].
const TIMEOUT: Duration = Duration::from_secs(40);
/// A request's head needs no more, in bytes.
const MAX_HEAD: usize = 16 * 1_024;

/// Marks an answer, in its extensions, that may take for ever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endless;

/// How a listener treats its peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Connections at once; more wait in the kernel's queue while all of these are being answered.
    pub(crate) connections: usize,
    /// Words an error as the peers expect it.
    pub(crate) refuse: fn(StatusCode, &str) -> Response,
}

/// Serves connections until `stop` is over, and then drops them. `route` chooses who answers a connection.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    manner: Manner,
    route: impl Fn(&L::Io) -> Router,
    stop: impl Future<Output = ()>,
) {
    let mut open = Open::default();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let stream = listener.accept().await.0;
            open.make_room(manner.connections).await;
            stream
        };
        let stream = tokio::select! {
            stream = accepted => stream,
            () = &mut stop => return,
        };
        let router = route(&stream);
        open.add(|progress| connection(stream, router, manner, progress));
    }
}

/// The connections that are open, the oldest first.
#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    connections: VecDeque<(AbortHandle, Arc<Progress>)>,
}

/// How far a connection has got.
#[derive(Debug, Default)]
struct Progress {
    is_answered: AtomicBool,
    is_endless: AtomicBool,
}

impl Open {
    fn add<F: Future<Output = ()> + Send + 'static>(&mut self, serve: impl FnOnce(Arc<Progress>) -> F) {
        let progress = Arc::new(Progress::default());
        let task = self.tasks.spawn(serve(Arc::clone(&progress)));
        self.connections.push_back((task, progress));
    }

    /// Waits until one more may be added.
    async fn make_room(&mut self, limit: usize) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.connections.retain(|(task, _)| !task.is_finished());
            if self.connections.len() < limit {
                return;
            }
            let waits = |(_, progress): &(_, Arc<Progress>)| !progress.is_answered.load(Ordering::Relaxed);
            if let Some((task, _)) = self.connections.iter().position(waits).and_then(|at| self.connections.remove(at))
            {
                task.abort();
                return;
            }
            self.tasks.join_next().await;
        }
    }
}

async fn connection(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    router: Router,
    manner: Manner,
    progress: Arc<Progress>,
) {
    let answers = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        progress.is_answered.store(true, Ordering::Relaxed);
        let answer = request.body().is_end_stream().then(|| answers.call(request));
        async {
            let Some(answer) = answer else {
                return Ok((manner.refuse)(StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body"));
            };
            let answer = answer.await;
            if answer.as_ref().is_ok_and(|answer| answer.extensions().get::<Endless>().is_some()) {
                progress.is_endless.store(true, Ordering::Relaxed);
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let too_late = async {
        tokio::time::sleep(TIMEOUT).await;
        if progress.is_endless.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "a connection broke");
        },
        () = too_late => tracing::debug!("a connection took too long"),
    }
}
