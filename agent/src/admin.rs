//! The admin API: HTTP with JSON over a Unix socket that only root can use.
//!
//! One agent holds a socket: a lock beside it is held for as long as the agent lives, so that two that start at once cannot
//! both win, and what a killed agent left behind is replaced. A controller that does not answer is a 503, never a hang.

pub mod socket;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as UrlQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt;
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::controller::{Event, Query};
use crate::flow::filter::FlowQuery;
use crate::flow::record::Recorder;
use crate::http::Endless;

pub use socket::AdminSocket;

/// How long the controller may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who may follow flows at once. Fewer than there are connections, so that the others can still ask.
const FOLLOWERS: usize = 32;

/// What is said where a path leads nowhere.
const NO_SUCH: &str = "there are /v1/status, /v1/workloads, /v1/groups, /v1/flows, /v1/snapshot, /v1/connections, \
                       /v1/talks";

/// Who answers.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// Where the controller takes its events.
    pub controller: mpsc::Sender<Event>,
    /// Where flows are kept.
    pub recorder: Arc<Recorder>,
}

/// The routes of the admin API.
pub fn router(state: AdminState) -> Router {
    let followers = Arc::new(Semaphore::new(FOLLOWERS));
    Router::new()
        .route("/v1/status", get(async |State(state): State<AdminState>| ask(&state, Query::Status).await))
        .route("/v1/workloads", get(async |State(state): State<AdminState>| ask(&state, Query::Workloads).await))
        .route("/v1/groups", get(async |State(state): State<AdminState>| ask(&state, Query::Groups).await))
        .route("/v1/snapshot", get(async |State(state): State<AdminState>| ask(&state, Query::Snapshot).await))
        .route("/v1/connections", get(async |State(state): State<AdminState>| ask(&state, Query::Connections).await))
        .route("/v1/talks", get(async |State(state): State<AdminState>| Json(state.recorder.talks())))
        .route("/v1/flows", get(async |state, query| flows(state, query, followers).await))
        .fallback(async || refuse(StatusCode::NOT_FOUND, NO_SUCH))
        .method_not_allowed_fallback(async || refuse(StatusCode::METHOD_NOT_ALLOWED, "the admin API only answers GET"))
        .with_state(state)
}

/// Puts a question to the controller.
async fn ask<T: Serialize>(state: &AdminState, question: impl FnOnce(oneshot::Sender<T>) -> Query) -> Response {
    let (sender, answer) = oneshot::channel();
    let asked = async {
        state.controller.send(Event::Query(question(sender))).await.ok()?;
        answer.await.ok()
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Some(answer)) => Json(answer).into_response(),
        Ok(None) => refuse(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping; what it enforced stays enforced"),
        Err(_) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "the agent is too busy to answer; try again, and see its log")
        }
    }
}

/// Flows, one JSON object a line.
async fn flows(
    State(state): State<AdminState>,
    query: Result<UrlQuery<FlowQuery>, QueryRejection>,
    followers: Arc<Semaphore>,
) -> Response {
    let query = match query.map_err(|error| error.body_text()).and_then(|UrlQuery(query)| query.normalise()) {
        Ok(query) => query,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, &message),
    };
    let follow = query.follow;
    let permit = if follow { followers.try_acquire_owned().map(Some) } else { Ok(None) };
    let Ok(permit) = permit else {
        let message = format!("{FOLLOWERS} follow flows already; end one of them, or ask without `follow`");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &message);
    };
    let lines = state.recorder.lines(query).map(move |line| {
        // The place is taken for as long as there are lines.
        let _ = &permit;
        let mut text = serde_json::to_vec(&line).expect("a flow has no maps with odd keys");
        text.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(text))
    });
    let mut answer = ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response();
    if follow {
        answer.extensions_mut().insert(Endless);
    }
    answer
}

/// An error as the client expects it.
fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(serde_json::json!({ "error": message }))).into_response()
}

#[cfg(test)]
mod tests;
