//! Packets by a packet socket, each of a flow of its own: from more senders than there are workloads, or to more ports.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::flood::{BATCH, Link};
use super::keep_to_cpu;
use crate::frame;

/// Sources come from so many addresses, the first one's neighbours: as many as 100.64.0.0/10 has.
const SOURCES: u32 = 1 << 22;
/// Destination ports of [`Kind::Flows`], from the one that is given.
pub const FLOW_PORTS: u16 = 1_000;

/// What differs between two packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// SYNs: the sender.
    Syns,
    /// Datagrams: the sender and the port to which it sends, any there is.
    Datagrams,
    /// Datagrams: both ports; the sender is one.
    Flows,
}

/// What is sent, by which link, to which link address.
#[derive(Clone, Debug, clap::Args)]
pub struct Spray {
    /// The link's name
    pub interface: String,
    /// The link address at its other end, as 12 hexadecimal digits
    pub mac: String,
    /// What differs
    pub kind: Kind,
    /// The first sender's address
    pub from: Ipv4Addr,
    /// The receiver's address and port
    pub to: SocketAddrV4,
    /// The number of the first packet, from which all that differs is made
    pub first: u32,
    /// How many packets
    pub count: u32,
    /// Within how many milliseconds at most
    pub milliseconds: u64,
    /// On which CPU, 0 or 1
    pub cpu: usize,
}

impl Spray {
    /// As the program's arguments spell it.
    pub(super) fn arguments(&self) -> [String; 9] {
        let Self { interface, mac, kind, from, to, first, count, milliseconds, cpu } = self;
        let kind = kind.to_possible_value().expect("no value is hidden").get_name().to_owned();
        let numbers = [first.to_string(), count.to_string(), milliseconds.to_string(), cpu.to_string()];
        let [first, count, milliseconds, cpu] = numbers;
        let ends = [from.to_string(), to.to_string()];
        let [from, to] = ends;
        [interface.clone(), mac.clone(), kind, from, to, first, count, milliseconds, cpu]
    }

    /// Sends, and returns how many packets were sent.
    ///
    /// # Errors
    /// No such link, not root, or the system refuses.
    pub fn send(&self) -> Result<f64> {
        keep_to_cpu(self.cpu)?;
        let number = u64::from_str_radix(&self.mac, 16).context("a link address is 12 hexadecimal digits")?;
        let mac = number.to_be_bytes()[2..].try_into().expect("six of eight bytes");
        let mut link = Link::open(&self.interface)?;
        let (began, time, mut sent) = (Instant::now(), Duration::from_millis(self.milliseconds), 0u32);
        while sent < self.count && began.elapsed() < time {
            let batch = self.first.wrapping_add(sent)..;
            let frames: Vec<Vec<u8>> = batch.take(BATCH.into()).map(|number| self.frame(mac, number)).collect();
            let slices: Vec<[IoSlice<'_>; 1]> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
            sent += u32::try_from(link.send(&slices)?)?;
        }
        Ok(f64::from(sent))
    }

    fn frame(&self, mac: [u8; 6], number: u32) -> Vec<u8> {
        let source = Ipv4Addr::from(u32::from(self.from) + number % SOURCES);
        // A step that has no divisor in common with the number of ports comes by all of them.
        let scattered = number.wrapping_mul(40_503) as u16;
        match self.kind {
            Kind::Syns => {
                let from = SocketAddrV4::new(source, 1_024 + scattered % 60_000);
                frame::syn(mac, from.into(), SocketAddr::V4(self.to), number)
            }
            Kind::Datagrams => {
                let to = SocketAddrV4::new(*self.to.ip(), scattered);
                frame::udp(mac, SocketAddrV4::new(source, 4_000).into(), to.into(), &[0; 18])
            }
            Kind::Flows => {
                let from = SocketAddrV4::new(self.from, 1_024 + (number % 60_000) as u16);
                let port = self.to.port() + (number / 60_000 % u32::from(FLOW_PORTS)) as u16;
                frame::udp(mac, from.into(), SocketAddrV4::new(*self.to.ip(), port).into(), &[0; 18])
            }
        }
    }
}
