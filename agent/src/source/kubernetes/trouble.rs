//! Why the API server did not answer as it should.

use std::time::Duration;

use serde::Deserialize;

use crate::metrics::kubernetes::Reason;

/// What went wrong.
#[derive(Debug)]
pub(in crate::source) enum Trouble {
    /// The server says no.
    Status {
        /// The HTTP status.
        code: u16,
        /// What it says.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// What to reach it by can't be read.
    Access(anyhow::Error),
    /// It can't be reached, or the connection broke.
    Connection(anyhow::Error),
    /// It does not speak the protocol.
    Protocol(String),
}

impl Trouble {
    /// Whether what was asked for is not there.
    pub(in crate::source) const fn is_missing(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    /// For the metric.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Status { code: 401, .. } => Reason::Unauthorized,
            Self::Status { code: 403, .. } => Reason::Forbidden,
            Self::Status { code: 410, .. } => Reason::Gone,
            Self::Status { code: 429, .. } => Reason::Throttled,
            Self::Status { .. } => Reason::Server,
            Self::Access(_) => Reason::Access,
            Self::Connection(_) => Reason::Connection,
            Self::Protocol(_) => Reason::Protocol,
        }
    }

    /// Whether only a new list helps. 410 says that a version is too old; a 400 or 404 to a watch, or a 504 for a version that is
    /// yet to come ("Too large resource version"), that the server is not the one that gave it.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Status { code: 400 | 404 | 410, .. } => true,
            Self::Status { code: 504, message, .. } => message.contains("resource version"),
            _ => false,
        }
    }

    /// Whether another client might fare better.
    pub(super) fn is_clients(&self) -> bool {
        matches!(self, Self::Status { code: 401, .. } | Self::Connection(_))
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { code: 401, message, .. } => {
                write!(formatter, "the API server does not accept the token (401 {message}); its file is read again")
            }
            Self::Status { code: 403, message, .. } => write!(
                formatter,
                "the API server does not allow it (403 {message}): grant the agent's account what \
                 docs/kubernetes.md lists"
            ),
            Self::Status { code, message, .. } => write!(formatter, "the API server answers {code} {message}"),
            Self::Access(error) => write!(formatter, "no way to the API server: {error:#}"),
            Self::Connection(error) => write!(formatter, "the API server can't be reached: {error:#}"),
            Self::Protocol(error) => write!(formatter, "the API server does not speak as it should: {error}"),
        }
    }
}

/// An answer of the kind `Status`, as far as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    code: Option<u16>,
    message: Option<String>,
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    retry_after_seconds: Option<u32>,
}

impl Status {
    /// As trouble; `code` and `retry_after` are what the HTTP answer says, if there is one.
    pub(super) fn trouble(self, code: Option<u16>, retry_after: Option<Duration>) -> Trouble {
        let seconds = self.details.and_then(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        Trouble::Status {
            code: code.or(self.code).unwrap_or(500),
            message: self.message.unwrap_or_default(),
            retry_after: retry_after.or_else(|| seconds.map(|seconds| Duration::from_secs(seconds.into()))),
        }
    }
}
