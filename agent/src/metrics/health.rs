//! Whether the agent works: for `/healthz`, for `/readyz`, and for systemd where it started the agent.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The controller's loop beats at least once a second; after this long it counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the controller says of itself, shared with the listener.
#[derive(Debug)]
pub struct Health(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    beat: Instant,
    waiting_for: Option<String>,
    told_systemd: bool,
}

impl Health {
    /// Alive, and not ready because the agent is starting.
    #[must_use]
    pub fn new() -> Self {
        let waiting_for = Some("the agent is starting".to_owned());
        Self(Mutex::new(Inner { beat: Instant::now(), waiting_for, told_systemd: false }))
    }

    /// The controller's loop still turns.
    pub fn beat(&self) {
        self.inner(|inner| inner.beat = Instant::now());
    }

    /// The first policy and what every source knew at first are in the kernel. The first call also tells systemd.
    pub fn set_ready(&self) {
        let first = self.inner(|inner| {
            inner.waiting_for = None;
            !std::mem::replace(&mut inner.told_systemd, true)
        });
        if first && let Err(error) = tell_systemd("READY=1") {
            tracing::warn!(%error, "cannot tell systemd that the agent is ready; with Type=notify it will restart the agent");
        }
    }

    /// Not ready, and why.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.inner(|inner| inner.waiting_for = Some(reason.into()));
    }

    /// Whether the controller's loop answers.
    ///
    /// # Errors
    /// For how long it has not.
    pub fn alive(&self) -> Result<(), String> {
        self.alive_at(Instant::now())
    }

    /// Whether what was wanted is in the kernel.
    ///
    /// # Errors
    /// What is still missing.
    pub fn ready(&self) -> Result<(), String> {
        self.alive()?;
        self.inner(|inner| inner.waiting_for.clone()).map_or(Ok(()), Err)
    }

    fn alive_at(&self, now: Instant) -> Result<(), String> {
        let silent = self.inner(|inner| now.saturating_duration_since(inner.beat));
        if silent < PATIENCE {
            return Ok(());
        }
        Err(format!("the controller has not answered for {} seconds; see the agent's log", silent.as_secs()))
    }

    fn inner<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

/// sd_notify(3): a datagram to the socket that systemd names; nothing where it names none.
fn tell_systemd(state: &str) -> std::io::Result<()> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_ready_once_it_says_so_and_until_it_says_otherwise() {
        let health = Health::new();
        assert_eq!(health.ready(), Err("the agent is starting".to_owned()));
        health.set_ready();
        assert_eq!(health.ready(), Ok(()));
        health.set_not_ready("netlink is gone");
        assert_eq!(health.ready(), Err("netlink is gone".to_owned()));
    }

    #[test]
    fn a_controller_that_stops_beating_is_not_alive() {
        let health = Health::new();
        let start = Instant::now();
        assert!(health.alive_at(start).is_ok());
        let late = health.alive_at(start + PATIENCE + Duration::from_secs(2)).expect_err("no beat");
        assert!(late.contains("seconds"), "{late}");
        health.beat();
        assert!(health.alive().is_ok());
    }
}
