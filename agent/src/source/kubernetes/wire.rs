//! Requests and answers, with limits on time and size, counted.

use std::time::Duration;

use anyhow::{Context, anyhow};
use form_urlencoded::Serializer;
use http_body_util::BodyExt;
use hyper::header::RETRY_AFTER;
use hyper::{Method, Request, Response};
use kube::client::Body;
use serde_json::Value;
use tokio::time::timeout;

use crate::metrics::kubernetes::{KubernetesMetrics, Verb};
use crate::source::kubernetes::Server;
use crate::source::kubernetes::object::Kind;
use crate::source::kubernetes::trouble::{Status, Trouble};

/// The longest answer, or line of one, in bytes: etcd's objects have less than 2 MB, pages some hundreds of them.
const LONGEST: usize = 256 << 20;

/// Asks for objects of a kind.
pub(super) async fn ask(
    kind: &impl Kind,
    server: &Server,
    verb: Verb,
    parameters: &[(&str, &str)],
) -> Result<Answer, Trouble> {
    let query = Serializer::new(String::new()).extend_pairs(kind.selectors()).extend_pairs(parameters).finish();
    let request = Request::get(format!("{}?{query}", kind.path())).header("accept", "application/json");
    let request = request.body(Body::empty()).map_err(|error| Trouble::Access(error.into()))?;
    send(server, kind.name(), verb, request).await
}

/// Sends a request about a kind.
async fn send(server: &Server, kind: &'static str, verb: Verb, request: Request<Body>) -> Result<Answer, Trouble> {
    let (number, client) = server.connection.client().await.map_err(Trouble::Access)?;
    server.metrics.requested(kind, verb);
    let answer = match timeout(server.pace.answer, client.send(request)).await {
        Ok(Ok(response)) => {
            let answer = Answer { response, metrics: server.metrics.clone(), kind, rest: Vec::new() };
            answer.checked(server.pace.answer).await
        }
        Ok(Err(error)) => Err(Trouble::Connection(error.into())),
        Err(_elapsed) => Err(Trouble::Connection(anyhow!("no answer within {:?}", server.pace.answer))),
    };
    if answer.as_ref().is_err_and(Trouble::is_clients) {
        server.connection.distrust(number).await;
    }
    answer
}

impl Server {
    /// Asks for what is neither listed nor watched all the time, or has something written.
    pub(in crate::source) async fn request(
        &self,
        kind: &'static str,
        verb: Verb,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Vec<u8>, Trouble> {
        let asked = async {
            let (method, content) = match verb {
                Verb::Get | Verb::List | Verb::Watch => (Method::GET, ""),
                Verb::Patch => (Method::PATCH, "application/merge-patch+json"),
                Verb::Create => (Method::POST, "application/json"),
            };
            let mut request = Request::builder().method(method).uri(path).header("accept", "application/json");
            if body.is_some() {
                request = request.header("content-type", content);
            }
            let body = body.map(|body| Body::from(body.to_string().into_bytes())).unwrap_or_else(Body::empty);
            let request = request.body(body).map_err(|error| Trouble::Access(error.into()))?;
            send(self, kind, verb, request).await?.whole(self.pace.answer).await
        };
        asked.await.inspect_err(|trouble| {
            // What is not there is made, or was not asked for in vain.
            if !trouble.is_missing() {
                self.metrics.failed(kind, trouble.reason());
            }
        })
    }
}

/// An answer that is not read yet.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response<Body>,
    metrics: KubernetesMetrics,
    kind: &'static str,
    /// Came after the last line that was taken.
    rest: Vec<u8>,
}

impl Answer {
    async fn checked(self, silence: Duration) -> Result<Self, Trouble> {
        if self.response.status().is_success() {
            return Ok(self);
        }
        let code = self.response.status().as_u16();
        let retry_after = self.response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        // What the server has to say of it is worth less than its code.
        let body = self.whole(silence).await.unwrap_or_default();
        let status: Status = serde_json::from_slice(&body).unwrap_or_default();
        Err(status.trouble(Some(code), retry_after.map(Duration::from_secs)))
    }

    /// All of it; the server may be silent for so long in between.
    pub(super) async fn whole(mut self, silence: Duration) -> Result<Vec<u8>, Trouble> {
        let mut whole = Vec::new();
        while self.more(silence, &mut whole).await? {}
        Ok(whole)
    }

    /// The next line into `line`, or false after the last.
    pub(super) async fn line(&mut self, silence: Duration, line: &mut Vec<u8>) -> Result<bool, Trouble> {
        line.clear();
        let mut searched = 0;
        let mut rest = std::mem::take(&mut self.rest);
        loop {
            if let Some(at) = rest[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + at;
                self.rest = rest.split_off(end + 1);
                rest.truncate(end);
                *line = rest;
                return Ok(true);
            }
            searched = rest.len();
            if !self.more(silence, &mut rest).await? {
                if rest.iter().all(u8::is_ascii_whitespace) {
                    return Ok(false);
                }
                return Err(Trouble::Connection(anyhow!("the answer ends within a line")));
            }
        }
    }

    /// Takes what comes next; false at the end.
    async fn more(&mut self, silence: Duration, into: &mut Vec<u8>) -> Result<bool, Trouble> {
        let frame = timeout(silence, self.response.body_mut().frame()).await;
        let frame = frame.map_err(|_| Trouble::Connection(anyhow!("silent for {silence:?}")))?;
        let Some(frame) = frame else { return Ok(false) };
        let frame = frame.context("the connection broke").map_err(Trouble::Connection)?;
        if let Ok(data) = frame.into_data() {
            self.metrics.received(self.kind, data.len());
            into.extend_from_slice(&data);
        }
        if into.len() > LONGEST {
            return Err(Trouble::Protocol(format!("more than {LONGEST} bytes at once")));
        }
        Ok(true)
    }
}
