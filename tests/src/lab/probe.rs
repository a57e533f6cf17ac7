//! The test's end of a probe: starts it inside a workload, asks, and waits for the answer, never for ever.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::binaries;
use super::namespace::Namespace;
pub use super::protocol::RAW;
use super::protocol::{Outcome, Reply, Request, Tally, Transport};
use crate::check::slowed;

/// How long to wait for an answer from another network namespace. What comes at all comes within a millisecond; what is
/// dropped never does. Less than the second after which TCP sends its SYN again: counters are to show one.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Longer than any request takes.
const STUCK: Duration = Duration::from_secs(20);

/// A process inside a workload.
pub struct Probe {
    child: Child,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    requests: ChildStdin,
    replies: Receiver<String>,
}

/// A connection that a probe keeps open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(u32);

/// Something that a probe does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work(u32);

impl Probe {
    /// Starts one in a network namespace, and in a cgroup (its directory) if one is given.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start(namespace: &Namespace, cgroup: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(binaries::probe());
        // A group of its own, so that a Ctrl-C is the lab's to handle.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        namespace.place(&mut command);
        if let Some(cgroup) = cgroup {
            join_cgroup(&mut command, cgroup)?;
        }
        let mut child = command.spawn().context("cannot start a probe")?;
        let requests = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, replies) = channel();
        thread::spawn(move || {
            // A probe that ends and a test that is over are both noticed at the other end.
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line).ok())
        });
        Ok(Self { child, pipes: Mutex::new(Pipes { requests, replies }) })
    }

    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Listens at an address and sends back whatever comes.
    pub fn listen(&self, transport: Transport, at: SocketAddr) {
        self.must(&Request::Listen { transport, at });
    }

    /// Whether a TCP connection can be opened and an answer comes over it.
    pub fn tcp(&self, to: SocketAddr) -> Outcome {
        self.tcp_from(to, None)
    }

    /// As [`Self::tcp`], from one of the workload's addresses.
    pub fn tcp_from(&self, to: SocketAddr, from: Option<IpAddr>) -> Outcome {
        self.attempt(&Request::Connect { to, from, keep: false, patience: millis() })
    }

    /// Whether an answer comes to a datagram.
    pub fn udp(&self, to: SocketAddr) -> Outcome {
        self.attempt(&Request::Datagram { to, from: None, connected: false, patience: millis() })
    }

    /// As [`Self::udp`], from a socket that is bound first (`from`), or connected first.
    pub fn udp_with(&self, to: SocketAddr, from: Option<SocketAddr>, connected: bool) -> Outcome {
        self.attempt(&Request::Datagram { to, from, connected, patience: millis() })
    }

    /// Whether an answer comes by either transport.
    pub fn reach(&self, transport: Transport, to: SocketAddr) -> Outcome {
        match transport {
            Transport::Tcp => self.tcp(to),
            Transport::Udp => self.udp(to),
        }
    }

    /// Whether an ICMP or ICMPv6 echo request is answered.
    pub fn echo(&self, to: IpAddr) -> Outcome {
        self.attempt(&Request::Echo { to, patience: millis() })
    }

    /// Opens a TCP connection and keeps it.
    ///
    /// # Panics
    /// It can't be opened.
    pub fn keep(&self, to: SocketAddr) -> Kept {
        match self.must(&Request::Connect { to, from: None, keep: true, patience: millis() }) {
            Reply::Opened { number } => Kept(number),
            other => panic!("a connection to {to} was to be kept, but: {other:?}"),
        }
    }

    /// Whether an answer still comes over a kept connection.
    pub fn exchange(&self, kept: Kept) -> Outcome {
        self.attempt(&Request::Exchange { connection: kept.0, patience: millis() })
    }

    /// Puts a frame on a link, past the cgroup programs.
    pub fn inject(&self, interface: &str, frame: &[u8]) {
        self.must(&Request::Inject { interface: interface.to_owned(), frame: frame.to_owned() });
    }

    /// As [`Self::inject`], where the link may refuse the frame, as it does when tc drops what goes out. Whether it took it.
    pub fn tries_to_inject(&self, interface: &str, frame: &[u8]) -> bool {
        let request = Request::Inject { interface: interface.to_owned(), frame: frame.to_owned() };
        match self.ask(&request) {
            Ok(Reply::Failed { error }) if error.starts_with("ENOBUFS") => false,
            Ok(Reply::Done) => true,
            other => panic!("a frame was to be injected, but: {other:?}"),
        }
    }

    /// Sends a packet by a raw socket; with protocol [`RAW`] it begins with its IP header. [`Outcome::Silent`] where the system
    /// took it, as nobody answers.
    pub fn raw(&self, to: IpAddr, protocol: u8, bytes: &[u8]) -> Outcome {
        self.attempt(&Request::Raw { to, protocol, bytes: bytes.to_owned() })
    }

    /// Keeps what packets of a protocol come to an address.
    pub fn overhear(&self, at: IpAddr, protocol: u8) {
        self.must(&Request::Overhear { at, protocol });
    }

    /// What packets of a protocol were overheard, without their IP headers.
    pub fn overheard(&self, protocol: u8) -> Vec<String> {
        self.contents(&Request::Overheard { protocol })
    }

    /// Whether all of a datagram of some length comes back.
    pub fn large(&self, to: SocketAddr, length: usize) -> Outcome {
        self.attempt(&Request::Large { to, length, patience: millis() })
    }

    /// Whether all of so many bytes come back over a kept connection; `patience` is how long none may come.
    ///
    /// # Panics
    /// The patience is longer than any.
    pub fn transfer(&self, kept: Kept, length: usize, patience: Duration) -> Outcome {
        let patience = u64::try_from(slowed(patience).as_millis()).expect("seconds");
        self.attempt(&Request::Transfer { connection: kept.0, length, patience })
    }

    /// Listens by TCP and serves nobody.
    pub fn hold(&self, at: SocketAddr) -> Kept {
        self.opened(&Request::Hold { at })
    }

    /// Hands a kept connection or a held socket over to another one's process, by `SCM_RIGHTS` over a Unix socket at `path`,
    /// which must not exist. A listening socket is served from then on.
    ///
    /// # Panics
    /// It can't be handed over.
    pub fn give(&self, socket: Kept, to: &Self, path: &Path) -> Kept {
        thread::scope(|scope| {
            let taken = scope.spawn(|| to.opened(&Request::Take { path: path.to_owned() }));
            self.must(&Request::Give { socket: socket.0, path: path.to_owned() });
            taken.join().expect("it takes what it is given")
        })
    }

    fn opened(&self, request: &Request) -> Kept {
        match self.must(request) {
            Reply::Opened { number } => Kept(number),
            other => panic!("a socket was to be kept, but: {other:?}"),
        }
    }

    /// What datagrams came to a port.
    pub fn received(&self, port: u16) -> Vec<String> {
        self.contents(&Request::Received { port })
    }

    fn contents(&self, request: &Request) -> Vec<String> {
        match self.must(request) {
            Reply::Datagrams { contents } => contents,
            other => panic!("datagrams were asked for, but: {other:?}"),
        }
    }

    /// Opens connections and closes them again, over and over.
    pub fn hammer(&self, to: SocketAddr) -> Work {
        self.begin(&Request::Hammer { to, patience: millis() })
    }

    /// Gets answers over a kept connection, over and over.
    pub fn stream(&self, kept: Kept) -> Work {
        self.begin(&Request::Stream { connection: kept.0 })
    }

    /// What background work met since this was last asked.
    pub fn tally(&self, work: Work) -> Tally {
        match self.must(&Request::Tally { work: work.0 }) {
            Reply::Tally { tally } => tally,
            other => panic!("a tally was asked for, but: {other:?}"),
        }
    }

    fn begin(&self, request: &Request) -> Work {
        match self.must(request) {
            Reply::Opened { number } => Work(number),
            other => panic!("work was to begin, but: {other:?}"),
        }
    }

    /// Makes an attempt that the methods above have no words for.
    ///
    /// # Panics
    /// The request is no attempt.
    pub fn attempt(&self, request: &Request) -> Outcome {
        match self.must(request) {
            Reply::Ended { outcome } => outcome,
            other => panic!("an attempt was asked for, but: {other:?}"),
        }
    }

    fn must(&self, request: &Request) -> Reply {
        match self.ask(request) {
            Ok(Reply::Failed { error }) => panic!("the probe cannot do {request:?}: {error}"),
            Ok(reply) => reply,
            Err(error) => panic!("the probe does not answer {request:?}: {error:#}"),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        // A test that failed in the middle of a question leaves the pipes fit for nothing but the clean-up.
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(request).context("a request is plain data")?;
        writeln!(pipes.requests, "{line}").context("it has ended")?;
        match pipes.replies.recv_timeout(slowed(STUCK)) {
            Ok(reply) => serde_json::from_str(&reply).with_context(|| format!("it says {reply}")),
            Err(error) => bail!("no reply: {error}"),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// Has `command` start in a cgroup.
///
/// # Errors
/// The cgroup is not there.
pub fn join_cgroup(command: &mut Command, cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.procs");
    let members: OwnedFd = std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?
        .into();
    // SAFETY: write is a plain system call, which may be made between fork and exec; the closure owns the descriptor.
    unsafe {
        command.pre_exec(move || {
            // 0 stands for the writer itself (cgroups(7)).
            if libc::write(members.as_raw_fd(), c"0".as_ptr().cast(), 1) == 1 {
                return Ok(());
            }
            Err(std::io::Error::last_os_error())
        });
    }
    Ok(())
}

fn millis() -> u64 {
    u64::try_from(slowed(PATIENCE).as_millis()).expect("less than a second")
}
