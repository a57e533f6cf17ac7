//! What a test and the probe inside a workload say to one another: JSON, one request and one reply a line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Two transports that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The protocol of raw sockets whose packets begin with their IP header (raw(7)).
pub const RAW: u8 = 255;

/// What a probe is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Listen, and send back whatever comes.
    Listen {
        /// By which transport.
        transport: Transport,
        /// Where.
        at: SocketAddr,
    },
    /// Open a connection, and see whether an answer comes over it.
    Connect {
        /// Where to.
        to: SocketAddr,
        /// Where from; the system chooses what is not given.
        from: Option<IpAddr>,
        /// Whether to keep it: the reply is then [`Reply::Opened`] if an answer came.
        keep: bool,
        /// How long to wait, in milliseconds.
        patience: u64,
    },
    /// See whether an answer still comes over a kept connection.
    Exchange {
        /// Which.
        connection: u32,
        /// How long to wait, in milliseconds.
        patience: u64,
    },
    /// Send a datagram and see whether an answer comes.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// Where from; a port that is not 0 binds the socket first.
        from: Option<SocketAddr>,
        /// Whether to connect the socket first.
        connected: bool,
        /// How long to wait, in milliseconds.
        patience: u64,
    },
    /// Send an ICMP or ICMPv6 echo request and see whether the reply comes.
    Echo {
        /// Where to.
        to: IpAddr,
        /// How long to wait, in milliseconds.
        patience: u64,
    },
    /// Put a frame on a link by a packet socket, which no cgroup program sees.
    Inject {
        /// The link's name.
        interface: String,
        /// The frame, from its Ethernet header on.
        frame: Vec<u8>,
    },
    /// Send a packet by a raw socket, and answer whether the system took it.
    Raw {
        /// Where to.
        to: IpAddr,
        /// The IP protocol; [`RAW`] where `bytes` begin with the IP header.
        protocol: u8,
        /// What to send.
        bytes: Vec<u8>,
    },
    /// Keep what packets of a protocol come to an address, by a raw socket.
    Overhear {
        /// Where.
        at: IpAddr,
        /// The IP protocol.
        protocol: u8,
    },
    /// Tell what packets of a protocol were overheard.
    Overheard {
        /// The IP protocol.
        protocol: u8,
    },
    /// Send a datagram of some length and see whether all of it comes back.
    Large {
        /// Where to.
        to: SocketAddr,
        /// Bytes.
        length: usize,
        /// How long to wait, in milliseconds.
        patience: u64,
    },
    /// Send bytes over a kept connection and see whether all of them come back.
    Transfer {
        /// Which connection.
        connection: u32,
        /// How many bytes.
        length: usize,
        /// How long to wait for the next ones, in milliseconds.
        patience: u64,
    },
    /// Open a TCP socket that listens, and serve nobody: the reply is [`Reply::Opened`].
    Hold {
        /// Where.
        at: SocketAddr,
    },
    /// Hand a kept connection or a held socket over to whoever takes it.
    Give {
        /// Which.
        socket: u32,
        /// The Unix socket of the one who takes it.
        path: PathBuf,
    },
    /// Take what is given: a connection is kept, a listening socket is served. The reply is [`Reply::Opened`].
    Take {
        /// The Unix socket to make for it.
        path: PathBuf,
    },
    /// Tell what datagrams came to a port that is listened on.
    Received {
        /// The port.
        port: u16,
    },
    /// Open a connection, get an answer and close, again and again in the background.
    Hammer {
        /// Where to.
        to: SocketAddr,
        /// How long to wait for each, in milliseconds.
        patience: u64,
    },
    /// Get answers over a kept connection, again and again in the background.
    Stream {
        /// Which connection.
        connection: u32,
    },
    /// Tell what the background work met since this was last asked.
    Tally {
        /// Which work.
        work: u32,
    },
}

/// What a probe answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// An attempt ended like this.
    Ended {
        /// How.
        outcome: Outcome,
    },
    /// A connection is open and kept, or work has begun, under this number.
    Opened {
        /// The number.
        number: u32,
    },
    /// Datagrams.
    Datagrams {
        /// Their contents.
        contents: Vec<String>,
    },
    /// Counts of the background work.
    Tally {
        /// The counts.
        tally: Tally,
    },
    /// The request can't be done at all.
    Failed {
        /// Why.
        error: String,
    },
}

/// How an attempt to reach somebody ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An answer came.
    Reached,
    /// The system call failed with EPERM: denied on the sender's side, at once.
    Refused,
    /// Nothing came: dropped on the way.
    Silent,
    /// Somebody is there, but nobody listens.
    Reset,
    /// Another error.
    Error(String),
}

impl Outcome {
    /// Whether a policy's denial looks like this.
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        matches!(self, Self::Refused | Self::Silent)
    }
}

/// What background work met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Answers.
    pub reached: u64,
    /// EPERM.
    pub refused: u64,
    /// Nothing within the patience.
    pub silent: u64,
    /// Everything else.
    pub other: u64,
}

impl Tally {
    /// Counts one more.
    pub const fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Reached => self.reached += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Silent => self.silent += 1,
            Outcome::Reset | Outcome::Error(_) => self.other += 1,
        }
    }

    /// Attempts that a policy denied.
    #[must_use]
    pub const fn denied(&self) -> u64 {
        self.refused + self.silent
    }
}
