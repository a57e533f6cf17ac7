//! Makes the agent's metrics, which it serves inside the lab's host, reachable from the user's shell.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use bulkhead_tests::lab::Site;
use bulkhead_tests::lab::agent::METRICS;

/// A listener on this machine's loopback whose connections end inside the lab.
pub struct Forward {
    address: SocketAddr,
}

impl Forward {
    /// Listens on the agent's usual port, or on any other where that is taken. It ends with the process.
    pub fn start(site: Arc<Site>) -> Result<Self> {
        let listener = TcpListener::bind(METRICS)
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr().context("a listener has an address")?;
        // Held weakly, so that the lab goes when the demo ends.
        let site = Arc::downgrade(&site);
        thread::spawn(move || {
            for outside in listener.incoming().flatten() {
                let Some(site) = site.upgrade() else { return };
                let inside = site.host.enter(|| Ok(TcpStream::connect(METRICS)?));
                if let Ok(inside) = inside {
                    // Whoever hangs up in the middle knows.
                    let _ = join(&outside, &inside);
                }
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Copies both ways until both ends are done.
fn join(outside: &TcpStream, inside: &TcpStream) -> io::Result<()> {
    let (mut from_outside, mut to_inside) = (outside.try_clone()?, inside.try_clone()?);
    let (mut from_inside, mut to_outside) = (inside.try_clone()?, outside.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_outside, &mut to_inside);
        to_inside.shutdown(Shutdown::Write)
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_inside, &mut to_outside);
        to_outside.shutdown(Shutdown::Both)
    });
    Ok(())
}
