//! What the agent shows to the outside: the admin socket and the metrics listener.
//!
//! Both are bound before anything is attached, so that an agent that cannot be asked never starts; both are served until the
//! agent stops.

use std::pin::pin;

use tokio::sync::watch;

use crate::admin::{AdminSocket, AdminState};
use crate::config::{Listen, RunOptions};
use crate::exit::Failure;
use crate::metrics::listener::{MetricsListener, Shown};

/// The admin socket and the metrics listener, bound but not answering yet.
#[derive(Debug)]
pub struct Surface {
    admin: AdminSocket,
    metrics: Option<MetricsListener>,
}

impl Surface {
    /// Takes the socket and the port that the options name.
    ///
    /// # Errors
    /// Another agent holds the socket, the port is in use, or the system refuses; nothing is left behind.
    pub async fn bind(options: &RunOptions) -> Result<Self, Failure> {
        let admin = AdminSocket::bind(&options.admin).await?;
        let metrics = match options.metrics {
            Listen::At(address) => Some(MetricsListener::bind(address).await?),
            Listen::Off => None,
        };
        Ok(Self { admin, metrics })
    }

    /// Answers until `stop` turns true or its sender is gone.
    pub async fn serve(self, state: AdminState, shown: Shown, stop: watch::Receiver<bool>) {
        let admin = pin!(self.admin.serve(state, stopped(stop.clone())));
        match self.metrics {
            Some(metrics) => drop(tokio::join!(admin, metrics.serve(shown, stopped(stop)))),
            None => admin.await,
        }
    }
}

pub(crate) async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error says that the sender is gone, and so is the agent.
    drop(stop.wait_for(|stop| *stop).await);
}
