//! The sending end of the load.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{COUNT, PATIENCE, What, keep_to_cpu};

/// The content of a datagram.
const DATAGRAM: [u8; 64] = [0; 64];
/// Source ports of new flows: one round uses each once at most, so the round is shorter where it runs out of them.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 1_024..=65_535;
/// How long datagrams may take that are still on their way: two readings so far apart that do not differ are the last.
const SETTLING: Duration = Duration::from_millis(5);

/// Loads the server for so long and returns how much came a second.
///
/// # Errors
/// Nothing arrives, or the system refuses.
pub fn drive(what: What, to: SocketAddr, time: Duration) -> Result<f64> {
    keep_to_cpu(0)?;
    let (amount, taken) = match what {
        What::Throughput => throughput(to, time)?,
        What::Connections => connections(to, time)?,
        What::RoundTrips => round_trips(to, time)?,
        What::Datagrams => counted(to, |began| datagrams(to, began, time))?,
        What::Flows => counted(to, |began| flows(to, began, time))?,
    };
    ensure!(amount > 0, "nothing arrived at {to}: is the way allowed?");
    Ok(amount as f64 / taken.as_secs_f64())
}

fn open(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("cannot reach {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn throughput(to: SocketAddr, time: Duration) -> Result<(u64, Duration)> {
    let mut stream = open(to)?;
    let content = vec![0; 128 << 10];
    let began = Instant::now();
    while began.elapsed() < time {
        stream.write_all(&content)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok((u64::from_be_bytes(bytes) * 8, began.elapsed()))
}

fn connections(to: SocketAddr, time: Duration) -> Result<(u64, Duration)> {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        let mut stream = open(to)?;
        stream.write_all(&[1])?;
        // The server closes first, so that the time its end waits does not use up this end's ports.
        ensure!(stream.read(&mut [0; 1])? == 0, "the server only closes");
        count += 1;
    }
    Ok((count, began.elapsed()))
}

fn round_trips(to: SocketAddr, time: Duration) -> Result<(u64, Duration)> {
    let mut stream = open(to)?;
    let (began, mut count, mut byte) = (Instant::now(), 0, [1]);
    while began.elapsed() < time {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        count += 1;
    }
    Ok((count, began.elapsed()))
}

/// Sends, and asks the server what it got; only the sending is timed.
fn counted(to: SocketAddr, send: impl FnOnce(Instant) -> Result<()>) -> Result<(u64, Duration)> {
    let before = count(to)?;
    let began = Instant::now();
    send(began)?;
    let taken = began.elapsed();
    let mut seen = count(to)?;
    loop {
        sleep(SETTLING);
        let now = count(to)?;
        if now == seen {
            return Ok((now - before, taken));
        }
        seen = now;
    }
}

fn count(to: SocketAddr) -> Result<u64> {
    let mut bytes = [0; 8];
    open(SocketAddr::new(to.ip(), COUNT))?.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn datagrams(to: SocketAddr, began: Instant, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    while began.elapsed() < time {
        socket.send(&DATAGRAM)?;
    }
    Ok(())
}

fn flows(to: SocketAddr, began: Instant, time: Duration) -> Result<()> {
    for port in SOURCE_PORTS {
        if began.elapsed() >= time {
            break;
        }
        match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
            Ok(socket) => drop(socket.send_to(&DATAGRAM, to)?),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
