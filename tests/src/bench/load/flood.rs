//! A flood of UDP datagrams by a packet socket, which costs the sender as little as can be.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike, bind, sendmmsg, socket,
};

use super::keep_to_cpu;
use crate::frame;

/// Frames a system call, each from another source port: every one is a new flow to whoever tracks flows.
pub(super) const BATCH: u16 = 64;
/// Batches of frames that differ.
const BATCHES: u16 = 256;
/// The first source port.
const FIRST: u16 = 10_000;

/// What is sent, by which link, to which link address.
#[derive(Clone, Debug, clap::Args)]
pub struct Flood {
    /// The link's name
    pub interface: String,
    /// The link address at its other end, as 12 hexadecimal digits
    pub mac: String,
    /// The sender's address
    pub from: Ipv4Addr,
    /// The receiver's address and port
    pub to: SocketAddrV4,
    /// For how many milliseconds
    pub milliseconds: u64,
}

impl Flood {
    /// As the program's arguments spell it.
    pub(super) fn arguments(&self) -> [String; 5] {
        let Self { interface, mac, from, to, milliseconds } = self;
        [interface.clone(), mac.clone(), from.to_string(), to.to_string(), milliseconds.to_string()]
    }

    /// Sends, and returns how many datagrams were sent a second.
    ///
    /// # Errors
    /// No such link, not root, or the system refuses.
    pub fn send(&self) -> Result<f64> {
        keep_to_cpu(0)?;
        let number = u64::from_str_radix(&self.mac, 16).context("a link address is 12 hexadecimal digits")?;
        let mac = number.to_be_bytes()[2..].try_into().expect("six of eight bytes");
        let frame =
            |port| frame::udp(mac, SocketAddrV4::new(self.from, port).into(), SocketAddr::V4(self.to), &[0; 18]);
        let frames: Vec<Vec<u8>> = (0..BATCH * BATCHES).map(|number| frame(FIRST + number)).collect();
        let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();

        let mut link = Link::open(&self.interface)?;
        let (began, time, mut sent) = (Instant::now(), Duration::from_millis(self.milliseconds), 0);
        for batch in slices.chunks(BATCH.into()).cycle() {
            if began.elapsed() >= time {
                break;
            }
            sent += link.send(batch)?;
        }
        Ok(sent as f64 / began.elapsed().as_secs_f64())
    }
}

/// A packet socket at a link, which sends and receives nothing.
pub(super) struct Link {
    socket: OwnedFd,
    headers: MultiHeaders<LinkAddr>,
}

impl Link {
    /// Opens one; root may.
    ///
    /// # Errors
    /// No such link, not root, or the system refuses.
    pub(super) fn open(interface: &str) -> Result<Self> {
        // Protocol 0: this socket receives nothing.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        bind(socket.as_raw_fd(), &link(interface)?)?;
        Ok(Self { socket, headers: MultiHeaders::preallocate(BATCH.into(), None) })
    }

    /// Sends up to [`BATCH`] frames, and returns how many were sent: none where the link's other end has its hands full.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn send(&mut self, frames: &[[IoSlice<'_>; 1]]) -> Result<usize> {
        let none = [None::<LinkAddr>; BATCH as usize];
        match sendmmsg(self.socket.as_raw_fd(), &mut self.headers, frames, none, [], MsgFlags::empty()) {
            Ok(sent) => Ok(sent.count()),
            Err(Errno::ENOBUFS) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

fn link(interface: &str) -> Result<LinkAddr> {
    let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("there is no link {interface}"))?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is that of a whole sockaddr_ll, and the length says so.
    let address =
        unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(size_of::<libc::sockaddr_ll>() as u32)) };
    address.context("an address of a link")
}
