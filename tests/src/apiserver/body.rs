//! Answers: at once, or piece by piece.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use hyper::Response;
use hyper::body::{Body, Bytes, Frame};
use serde_json::json;
use tokio::sync::mpsc;

use super::Shared;

/// Pieces of an answer; an error cuts the connection.
#[derive(Debug)]
pub(super) struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Where the pieces go in.
#[derive(Debug)]
pub(super) struct Writer {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    shared: Arc<Shared>,
}

/// The client has gone.
#[derive(Debug)]
pub(super) struct Left;

impl Writer {
    pub(super) async fn write(&self, piece: impl Into<Bytes>) -> Result<(), Left> {
        let piece = piece.into();
        self.shared.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.pieces.send(Ok(piece)).await.map_err(|_| Left)
    }

    pub(super) async fn cut(&self) {
        // So that what went before is on its way.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        drop(self.pieces.send(Err(io::ErrorKind::ConnectionReset.into())).await);
    }

    pub(super) async fn left(&self) {
        self.pieces.closed().await;
    }
}

pub(super) fn pieces(shared: &Arc<Shared>) -> (Writer, Response<Pieces>) {
    let (pieces, receiver) = mpsc::channel(4);
    let response = Response::builder().header("content-type", "application/json").body(Pieces(receiver));
    (Writer { pieces, shared: Arc::clone(shared) }, response.expect("valid headers"))
}

pub(super) fn whole(shared: &Arc<Shared>, code: u16, body: impl Into<Bytes>) -> Response<Pieces> {
    let (writer, mut response) = pieces(shared);
    let body = body.into();
    shared.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
    drop(writer.pieces.try_send(Ok(body)));
    *response.status_mut() = code.try_into().expect("a status of HTTP");
    response
}

pub(super) fn status(shared: &Arc<Shared>, code: u16, message: &str, retry_after: Option<u32>) -> Response<Pieces> {
    let mut response = whole(shared, code, status_text(code, message, retry_after));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

pub(super) fn status_text(code: u16, message: &str, retry_after: Option<u32>) -> String {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    let details = json!({"retryAfterSeconds": retry_after.unwrap_or_default()});
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code, "details": details})
    .to_string()
}
