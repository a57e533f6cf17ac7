//! The command line's side of the admin socket: asks a running agent over HTTP.
//!
//! No agent is a failure that says how to start one; an answer that cannot be read names both versions as the likely cause.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::exit::{Exit, Failure};

/// Longer than the agent lets its controller take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the agent at one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// What the agent answered: a JSON document.
#[derive(Clone, Debug)]
pub struct Answer(Bytes);

/// An answer that comes line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Client {
    /// A client of the agent at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for a document.
    ///
    /// # Errors
    /// No agent, not root, or a refusal of the agent's.
    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        let ask = async {
            let body = self.send(path).await?.into_body();
            Ok(Answer(body.collect().await.map_err(broken)?.to_bytes()))
        };
        tokio::time::timeout(TIMEOUT, ask).await.unwrap_or_else(|_| {
            Err(Failure::message(
                Exit::Unavailable,
                format!("the agent at {} does not answer", self.socket.display()),
                "look at its log, and restart it if it hangs: what is enforced stays enforced meanwhile",
            ))
        })
    }

    /// Asks for lines, which may go on for ever.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn lines(&self, path: &str) -> Result<Lines, Failure> {
        Ok(Lines { body: self.send(path).await?.into_body(), buffer: Vec::new() })
    }

    async fn send(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::get(path)
            .header("host", "bulkhead")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Failure::new(Exit::Software, error, "please report this as a fault in Bulkhead"))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, body) = (response.status(), response.into_body().collect().await.map_err(broken)?.to_bytes());
        let message = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|body| Some(body.get("error")?.as_str()?.to_owned()))
            .unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
        let (exit, cure) = match status.as_u16() {
            403 => (Exit::NoPerm, ""),
            404 => (Exit::Unavailable, "the agent is of another version; restart it with this one"),
            400 => (Exit::Usage, ""),
            _ => (Exit::Unavailable, ""),
        };
        Err(Failure::message(exit, format!("the agent refuses ({status}): {message}"), cure))
    }

    fn unreachable(&self, error: io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::message(
                Exit::Unavailable,
                format!("no agent is running at {socket}"),
                "start it with `systemctl start bulkhead` or `bulkhead run`, or name its socket with --admin",
            ),
            io::ErrorKind::PermissionDenied => {
                Failure::message(Exit::NoPerm, format!("only root may ask the agent at {socket}"), "use sudo")
            }
            _ => {
                let error = anyhow::Error::from(error).context(format!("cannot connect to {socket}"));
                Failure::new(Exit::Unavailable, error, "see whether --admin names the agent's socket")
            }
        }
    }
}

impl Answer {
    /// The document as it came, with a line end.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.0).into_owned();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    /// The document as a value.
    ///
    /// # Errors
    /// Another shape than this version knows.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.0).map_err(|error| {
            let error = anyhow::Error::from(error).context("cannot read the agent's answer");
            let cure = "the agent is of another version: restart it with this one, or use --json";
            Failure::new(Exit::Unavailable, error, cure)
        })
    }
}

impl Lines {
    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// The agent went away in the middle.
    pub async fn next(&mut self) -> Result<Option<Answer>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.drain(..=end).collect::<Vec<_>>();
                return Ok(Some(Answer(line.into())));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

fn broken(error: hyper::Error) -> Failure {
    let error = anyhow::Error::from(error).context("the connection to the agent broke");
    Failure::new(Exit::Unavailable, error, "see whether it still runs (`systemctl status bulkhead`), and try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_an_agent_the_message_says_how_to_start_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let failure = Client::new(&directory.path().join("none.sock")).get("/v1/status").await.expect_err("no agent");
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.to_string().contains("systemctl start bulkhead"), "{failure}");
    }
}
