//! The metrics listener: `/metrics`, `/healthz` and `/readyz` over TCP. It only reads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::TEXT_FORMAT;
use tokio::net::TcpListener;

use super::Metrics;
use super::health::Health;
use crate::exit::{Exit, Failure};
use crate::http::{self, Manner};

/// Scrapers are few.
const MANNER: Manner = Manner { connections: 32, refuse };

/// The listener, bound but not yet answering.
#[derive(Debug)]
pub struct MetricsListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the listener shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The metrics.
    pub metrics: Metrics,
    /// Whether the agent works.
    pub health: Arc<Health>,
}

impl MetricsListener {
    /// Takes the address; port 0 takes any that is free.
    ///
    /// # Errors
    /// The port is in use, or the address is not this host's.
    pub async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            let (exit, cure) = match error.kind() {
                io::ErrorKind::AddrInUse => (
                    Exit::TempFail,
                    "stop what uses the port (`ss -ltnp` shows it), or give --metrics another or `none`",
                ),
                io::ErrorKind::AddrNotAvailable => (Exit::Config, "give --metrics an address of this host, or `none`"),
                io::ErrorKind::PermissionDenied => {
                    (Exit::NoPerm, "run the agent as root, or give --metrics a port from 1024")
                }
                _ => (Exit::OsErr, "give --metrics another address, or `none`"),
            };
            Failure::new(exit, anyhow::Error::from(error).context(format!("cannot serve metrics at {address}")), cure)
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is over.
    pub async fn serve(self, shown: Shown, stop: impl Future<Output = ()>) {
        let router = router(shown);
        http::serve(self.listener, MANNER, |_| router.clone(), stop).await;
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async |State(shown): State<Shown>| verdict(shown.health.alive())))
        .route("/readyz", get(async |State(shown): State<Shown>| verdict(shown.health.ready())))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered"))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    // Reading the maps takes system calls: off the threads that answer.
    let text = tokio::task::spawn_blocking(move || shown.metrics.text()).await;
    match text {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&error),
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Response {
    tracing::error!(error, "cannot gather metrics; please report this as a fault in Bulkhead");
    (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot gather metrics: {error}\n")).into_response()
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, format!("{message}\n")).into_response()
}

fn verdict(verdict: Result<(), String>) -> Response {
    match verdict {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
