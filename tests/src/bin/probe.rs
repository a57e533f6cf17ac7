//! The process inside a workload of the lab: listens, connects and sends as it is told on standard input, one JSON request a
//! line, and answers on standard output. It ends when its standard input does.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bulkhead_tests::check::slowed;
use bulkhead_tests::lab::protocol::{Outcome, Reply, Request, Tally, Transport};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{AcceptConn, Linger, ReceiveTimeout, ReuseAddr, SendTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, getsockopt,
    recv, send, sendto, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

#[path = "probe/handover.rs"]
mod handover;

/// Between two attempts of background work: enough to leave the machine to others.
const PACE: Duration = Duration::from_millis(2);

/// What listeners got, by port; or by protocol.
type Received = Arc<Mutex<HashMap<u16, Vec<String>>>>;

#[derive(Default)]
struct Probe {
    connections: HashMap<u32, Connection>,
    held: HashMap<u32, TcpListener>,
    work: HashMap<u32, Arc<Mutex<Tally>>>,
    received: Received,
    overheard: Received,
    numbers: u32,
}

fn main() -> Result<()> {
    let mut probe = Probe::default();
    for line in io::stdin().lock().lines() {
        let request = serde_json::from_str(&line?).context("a request that this probe does not know")?;
        let reply = probe.handle(request).unwrap_or_else(|error| Reply::Failed { error: format!("{error:#}") });
        let mut out = io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
        out.flush()?;
    }
    Ok(())
}

impl Probe {
    fn handle(&mut self, request: Request) -> Result<Reply> {
        let ended = |outcome| Ok(Reply::Ended { outcome });
        match request {
            Request::Listen { transport, at } => {
                match transport {
                    Transport::Tcp => listen_tcp(at)?,
                    Transport::Udp => listen_udp(at, self.received.clone())?,
                }
                Ok(Reply::Done)
            }
            Request::Connect { to, from, keep, patience } => match Connection::open(to, from, millis(patience)) {
                Ok(mut connection) => match connection.exchange(millis(patience)) {
                    Outcome::Reached if keep => {
                        let number = self.number();
                        self.connections.insert(number, connection);
                        Ok(Reply::Opened { number })
                    }
                    outcome => ended(outcome),
                },
                Err(outcome) => ended(outcome),
            },
            Request::Exchange { connection, patience } => {
                let connection = self.connections.get_mut(&connection).context("no such connection")?;
                ended(connection.exchange(millis(patience)))
            }
            Request::Datagram { to, from, connected, patience } => {
                ended(datagram(to, from, connected, millis(patience)).unwrap_or_else(outcome_of))
            }
            Request::Echo { to, patience } => ended(echo(to, millis(patience)).unwrap_or_else(outcome_of)),
            Request::Inject { interface, frame } => inject(&interface, &frame).map(|()| Reply::Done),
            Request::Raw { to, protocol, bytes } => {
                ended(raw(to, protocol, &bytes).map_or_else(outcome_of, |()| Outcome::Silent))
            }
            Request::Overhear { at, protocol } => overhear(at, protocol, self.overheard.clone()).map(|()| Reply::Done),
            Request::Overheard { protocol } => Ok(contents(&self.overheard, protocol.into())),
            Request::Large { to, length, patience } => {
                ended(large(to, length, millis(patience)).unwrap_or_else(outcome_of))
            }
            Request::Transfer { connection, length, patience } => {
                let connection = self.connections.get_mut(&connection).context("no such connection")?;
                ended(connection.transfer(length, millis(patience)).unwrap_or_else(outcome_of))
            }
            Request::Hold { at } => {
                let number = self.number();
                let listener = TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?;
                self.held.insert(number, listener);
                Ok(Reply::Opened { number })
            }
            Request::Give { socket, path } => {
                // Closed here once it is on its way.
                let socket: OwnedFd = match (self.connections.remove(&socket), self.held.remove(&socket)) {
                    (Some(connection), _) => connection.stream.into_inner().into(),
                    (None, Some(listener)) => listener.into(),
                    (None, None) => bail!("no such socket"),
                };
                handover::give(&socket, &path).map(|()| Reply::Done)
            }
            Request::Take { path } => {
                let number = self.number();
                let socket = handover::take(&path)?;
                if getsockopt(&socket, AcceptConn)? {
                    serve_tcp(socket.into());
                } else {
                    self.connections.insert(number, Connection { stream: BufReader::new(socket.into()) });
                }
                Ok(Reply::Opened { number })
            }
            Request::Received { port } => Ok(contents(&self.received, port)),
            Request::Hammer { to, patience } => {
                Ok(self.work(move || match Connection::open(to, None, millis(patience)) {
                    Ok(mut connection) => connection.exchange(millis(patience)),
                    Err(outcome) => outcome,
                }))
            }
            Request::Stream { connection } => {
                let mut connection = self.connections.remove(&connection).context("no such connection")?;
                Ok(self.work(move || connection.exchange(slowed(Duration::from_secs(2)))))
            }
            Request::Tally { work } => {
                let tally = self.work.get(&work).context("no such work")?;
                Ok(Reply::Tally { tally: std::mem::take(&mut *tally.lock().expect("no work panics")) })
            }
        }
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// Does something again and again until this process ends.
    fn work(&mut self, mut attempt: impl FnMut() -> Outcome + Send + 'static) -> Reply {
        let (number, tally) = (self.number(), Arc::new(Mutex::new(Tally::default())));
        self.work.insert(number, tally.clone());
        thread::spawn(move || {
            loop {
                let outcome = attempt();
                tally.lock().expect("nobody panics with it").add(&outcome);
                thread::sleep(PACE);
            }
        });
        Reply::Opened { number }
    }
}

/// A TCP connection, closed with a reset so that no port lingers.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(to: SocketAddr, from: Option<IpAddr>, patience: Duration) -> Result<Self, Outcome> {
        let open = || -> nix::Result<TcpStream> {
            let descriptor = socket(family(to.ip()), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            // The time-out for sending is that for connecting, too (socket(7)).
            setsockopt(&descriptor, SendTimeout, &timeout(patience))?;
            setsockopt(&descriptor, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
            if let Some(from) = from {
                bind(descriptor.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
            }
            connect(descriptor.as_raw_fd(), &SockaddrStorage::from(to))?;
            Ok(TcpStream::from(descriptor))
        };
        let stream = open().map_err(|errno| outcome_of(errno.into()))?;
        stream.set_nodelay(true).map_err(|error| outcome_of(error.into()))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a line of its own and waits for it to come back, passing over late answers to earlier lines.
    fn exchange(&mut self, patience: Duration) -> Outcome {
        self.try_exchange(patience).unwrap_or_else(outcome_of)
    }

    fn try_exchange(&mut self, patience: Duration) -> Result<Outcome> {
        static LINES: AtomicU64 = AtomicU64::new(0);
        let sent = format!("line {}\n", LINES.fetch_add(1, Ordering::Relaxed));
        let deadline = Instant::now() + patience;
        self.stream.get_mut().write_all(sent.as_bytes())?;
        let mut received = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.get_mut().set_read_timeout(Some(left))?;
            if self.stream.read_line(&mut received)? == 0 {
                bail!("the other end closed the connection");
            }
            if received == sent {
                return Ok(Outcome::Reached);
            }
            received.clear();
        }
    }

    /// Sends bytes and waits until as many came back.
    fn transfer(&mut self, length: usize, patience: Duration) -> Result<Outcome> {
        let mut sender = self.stream.get_ref().try_clone()?;
        sender.set_write_timeout(Some(patience))?;
        self.stream.get_mut().set_read_timeout(Some(patience))?;
        let sent = thread::spawn(move || sender.write_all(&vec![b'x'; length]));
        let mut left = length;
        let mut buffer = vec![0; 1 << 16];
        while left > 0 {
            match self.stream.read(&mut buffer)? {
                0 => bail!("the other end closed the connection"),
                received => left = left.saturating_sub(received),
            }
        }
        sent.join().expect("it returns its errors")?;
        Ok(Outcome::Reached)
    }
}

fn listen_tcp(at: SocketAddr) -> Result<()> {
    serve_tcp(TcpListener::bind(at).with_context(|| format!("cannot listen on {at}"))?);
    Ok(())
}

fn serve_tcp(listener: TcpListener) {
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

fn listen_udp(at: SocketAddr, received: Received) -> Result<()> {
    let socket = UdpSocket::bind(at).with_context(|| format!("cannot bind {at}"))?;
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            received.lock().expect("nobody panics with it").entry(at.port()).or_default().push(text);
            // A reply that is denied is the sender's to notice.
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    Ok(())
}

fn datagram(to: SocketAddr, from: Option<SocketAddr>, connected: bool, patience: Duration) -> Result<Outcome> {
    let descriptor = socket(family(to.ip()), SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&descriptor, ReceiveTimeout, &timeout(patience))?;
    setsockopt(&descriptor, ReuseAddr, &true)?;
    if let Some(from) = from {
        bind(descriptor.as_raw_fd(), &SockaddrStorage::from(from))?;
    }
    if connected {
        connect(descriptor.as_raw_fd(), &SockaddrStorage::from(to))?;
        send(descriptor.as_raw_fd(), b"datagram", MsgFlags::empty())?;
    } else {
        sendto(descriptor.as_raw_fd(), b"datagram", &SockaddrStorage::from(to), MsgFlags::empty())?;
    }
    recv(descriptor.as_raw_fd(), &mut [0; 64], MsgFlags::empty())?;
    Ok(Outcome::Reached)
}

/// By a ping socket: the kernel fills in identifier and checksum, and hands over only the replies to it (icmp(7)).
fn echo(to: IpAddr, patience: Duration) -> Result<Outcome> {
    let (protocol, request, reply) = match to {
        IpAddr::V4(_) => (SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (SockProtocol::IcmpV6, 128, 129),
    };
    let descriptor = socket(family(to), SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&descriptor, ReceiveTimeout, &timeout(patience))?;
    let message = [request, 0, 0, 0, 0, 0, 0, 1, b'e', b'c', b'h', b'o'];
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(descriptor.as_raw_fd(), &message, &to, MsgFlags::empty())?;
    let mut buffer = [0; 64];
    recv(descriptor.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    match buffer[0] {
        kind if kind == reply => Ok(Outcome::Reached),
        kind => Ok(Outcome::Error(format!("ICMP type {kind}"))),
    }
}

/// Connected, so that the error of a closed port comes back.
fn large(to: SocketAddr, length: usize, patience: Duration) -> Result<Outcome> {
    let descriptor = socket(family(to.ip()), SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&descriptor, ReceiveTimeout, &timeout(patience))?;
    connect(descriptor.as_raw_fd(), &SockaddrStorage::from(to))?;
    let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    send(descriptor.as_raw_fd(), &sent, MsgFlags::empty())?;
    let mut received = vec![0; 1 << 16];
    let count = recv(descriptor.as_raw_fd(), &mut received, MsgFlags::empty())?;
    if received[..count] != sent {
        bail!("{count} bytes came back, not the {length} that were sent");
    }
    Ok(Outcome::Reached)
}

fn raw(to: IpAddr, protocol: u8, bytes: &[u8]) -> Result<()> {
    let descriptor = raw_socket(to, protocol)?;
    sendto(descriptor.as_raw_fd(), bytes, &SockaddrStorage::from(SocketAddr::new(to, 0)), MsgFlags::empty())?;
    Ok(())
}

/// Keeps packets without their IP header, which a raw socket has in front of them by IPv4 only (raw(7), ipv6(7)).
fn overhear(at: IpAddr, protocol: u8, overheard: Received) -> Result<()> {
    let descriptor = raw_socket(at, protocol)?;
    bind(descriptor.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(at, 0)))?;
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = recv(descriptor.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            let header = if at.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            let text = String::from_utf8_lossy(&buffer[header..length]).into_owned();
            overheard.lock().expect("nobody panics with it").entry(protocol.into()).or_default().push(text);
        }
    });
    Ok(())
}

fn raw_socket(address: IpAddr, protocol: u8) -> Result<OwnedFd> {
    // SAFETY: a plain system call that takes numbers; nix knows only some protocols by name.
    let descriptor =
        unsafe { libc::socket(family(address) as i32, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
    Errno::result(descriptor)?;
    // SAFETY: it was just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn contents(received: &Received, key: u16) -> Reply {
    let contents = received.lock().expect("no listener panics").get(&key).cloned();
    Reply::Datagrams { contents: contents.unwrap_or_default() }
}

fn inject(interface: &str, frame: &[u8]) -> Result<()> {
    let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("there is no link {interface}"))?;
    let protocol = frame.get(12..14).context("a frame begins with an Ethernet header")?;
    let descriptor = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: u16::from_ne_bytes([protocol[0], protocol[1]]),
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is that of a whole sockaddr_ll, and the length says so.
    let to = unsafe {
        use nix::sys::socket::SockaddrLike;
        LinkAddr::from_raw((&raw const to).cast(), Some(size_of::<libc::sockaddr_ll>() as u32))
    };
    let to = to.ok_or_else(|| anyhow!("an address of a link"))?;
    sendto(descriptor.as_raw_fd(), frame, &to, MsgFlags::empty())?;
    Ok(())
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn millis(patience: u64) -> Duration {
    Duration::from_millis(patience)
}

fn timeout(patience: Duration) -> TimeVal {
    TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX))
}

/// What an error says of the way to the other end.
fn outcome_of(error: anyhow::Error) -> Outcome {
    let number = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::raw_os_error)
        .or_else(|| error.downcast_ref::<Errno>().map(|errno| *errno as i32));
    match number.map(Errno::from_raw) {
        Some(Errno::EPERM) => Outcome::Refused,
        Some(Errno::EAGAIN | Errno::EINPROGRESS | Errno::ETIMEDOUT) => Outcome::Silent,
        Some(Errno::ECONNREFUSED) => Outcome::Reset,
        _ => Outcome::Error(format!("{error:#}")),
    }
}
