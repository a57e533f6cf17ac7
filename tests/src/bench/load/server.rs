//! The counting end of the load.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::{CONNECTIONS, COUNT, DATAGRAMS, FLOW_PORTS, FLOWS, ROUND_TRIPS, THROUGHPUT, keep_to_cpu};

/// What it prints when it listens.
pub const READY: &str = "ready";

/// Room for datagrams that the other end sends in the meantime, in bytes.
const BUFFER: usize = 4 << 20;

/// Listens at every port of `address`.
///
/// # Errors
/// The system refuses.
pub fn listen(address: IpAddr) -> Result<()> {
    keep_to_cpu(1)?;
    accept(address, THROUGHPUT, |mut stream| {
        let (mut buffer, mut total) = (vec![0; 256 << 10], 0u64);
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            total += length as u64;
        }
        // Whoever does not want to know has gone.
        let _ = stream.write_all(&total.to_be_bytes());
    })?;
    accept(address, CONNECTIONS, |mut stream| drop(stream.read(&mut [0; 1])))?;
    accept(address, ROUND_TRIPS, |mut stream| {
        let _ = stream.set_nodelay(true);
        let mut byte = [0; 1];
        while stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {}
    })?;
    let datagrams = Arc::new(AtomicU64::new(0));
    let count = datagrams.clone();
    accept(address, COUNT, move |mut stream| {
        let _ = stream.write_all(&count.load(Ordering::Relaxed).to_be_bytes());
    })?;
    for port in std::iter::once(DATAGRAMS).chain(FLOWS..FLOWS + FLOW_PORTS) {
        let socket = UdpSocket::bind((address, port)).with_context(|| format!("cannot bind {address}:{port}"))?;
        setsockopt(&socket, RcvBufForce, &BUFFER)?;
        let datagrams = datagrams.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while socket.recv(&mut buffer).is_ok() {
                datagrams.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    Ok(())
}

/// Serves one connection after the other.
fn accept(address: IpAddr, port: u16, serve: impl Fn(TcpStream) + Send + 'static) -> Result<()> {
    let listener = TcpListener::bind((address, port)).with_context(|| format!("cannot listen on {address}:{port}"))?;
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    Ok(())
}
