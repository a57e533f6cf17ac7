//! Load on real sockets: what a workload sends, what the other one counts, and how both are started.
//!
//! The generator is a program of its own (`load`), so that its sockets belong to the workload's cgroup and namespace. Every loop
//! is bounded in time. The two ends run on a CPU each where there are two: who moves between CPUs makes noise.

pub mod client;
pub mod flood;
pub mod server;
pub mod spray;

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::lab::namespace::Namespace;
use crate::lab::{Lab, Version, Workload, binaries};

/// Ports of the server.
pub const THROUGHPUT: u16 = 7001;
/// It reads a byte and closes.
pub const CONNECTIONS: u16 = 7002;
/// It sends every byte back.
pub const ROUND_TRIPS: u16 = 7003;
/// It counts datagrams.
pub const DATAGRAMS: u16 = 7004;
/// It tells how many datagrams came, over TCP.
pub const COUNT: u16 = 7005;
/// The first of [`FLOW_PORTS`] ports that count datagrams: each round sends to another one, so that its flows are new.
pub const FLOWS: u16 = 7100;
/// How many there are.
pub const FLOW_PORTS: u16 = 32;
/// The last port of the server.
pub const LAST: u16 = FLOWS + FLOW_PORTS - 1;

/// Longer than any answer takes.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What is measured between two workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Bulk data over one TCP connection, in bits.
    Throughput,
    /// TCP connections: open, one byte, closed by both.
    Connections,
    /// One byte there and back over one TCP connection.
    RoundTrips,
    /// Datagrams of one UDP flow, received.
    Datagrams,
    /// UDP flows of one datagram each, received: every one has a new source port.
    Flows,
}

impl What {
    /// As the program's arguments spell it.
    fn argument(self) -> String {
        self.to_possible_value().expect("no value is hidden").get_name().to_owned()
    }
}

/// A server inside a workload; it ends with its owner.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start(lab: &Lab, workload: &Workload) -> Result<Self> {
        let mut command = Command::new(binaries::load());
        command.arg("serve").arg(workload.address(Version::V4).to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        workload.place(lab.site(), &mut command)?;
        let mut server = Self(command.spawn().context("cannot start the load's server")?);
        let mut line = String::new();
        BufReader::new(server.0.stdout.take().expect("it is piped")).read_line(&mut line)?;
        ensure!(line.trim() == server::READY, "the load's server does not start; see above");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has `client` load the server at `to` for so long, and returns how much of it came a second. `round` chooses the port of
/// [`What::Flows`].
///
/// # Errors
/// Nothing arrives, or the system refuses.
pub fn drive(lab: &Lab, client: &Workload, what: What, to: IpAddr, time: Duration, round: usize) -> Result<f64> {
    let port = match what {
        What::Throughput => THROUGHPUT,
        What::Connections => CONNECTIONS,
        What::RoundTrips => ROUND_TRIPS,
        What::Datagrams => DATAGRAMS,
        What::Flows => FLOWS + u16::try_from(round % usize::from(FLOW_PORTS)).expect("few ports"),
    };
    let mut command = Command::new(binaries::load());
    command.arg("drive").arg(what.argument()).arg(SocketAddr::new(to, port).to_string());
    command.arg(time.as_millis().to_string());
    client.place(lab.site(), &mut command)?;
    number(command)
}

/// Puts UDP datagrams from many ports on a link of `namespace` for so long, and returns how many were sent a second.
///
/// # Errors
/// The system refuses.
pub fn flood(namespace: &Namespace, flood: &flood::Flood) -> Result<f64> {
    let mut command = Command::new(binaries::load());
    command.arg("flood").args(flood.arguments());
    namespace.place(&mut command);
    number(command)
}

/// Puts packets on a link, each of another flow, and returns how many; `place` says where the link is.
///
/// # Errors
/// The system refuses.
pub fn spray(spray: &spray::Spray, place: impl FnOnce(&mut Command) -> Result<()>) -> Result<f64> {
    let mut command = Command::new(binaries::load());
    command.arg("spray").args(spray.arguments());
    place(&mut command)?;
    number(command)
}

/// Runs the generator, which prints a number.
fn number(mut command: Command) -> Result<f64> {
    let output = command.output().context("cannot start the load generator")?;
    if !output.status.success() {
        bail!("the load generator: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8_lossy(&output.stdout).trim().parse().context("the load generator prints a number")
}

/// Keeps this process on one CPU of those it may use, the first or the second, where there are two.
///
/// # Errors
/// The system refuses.
pub fn keep_to_cpu(which: usize) -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    if cpus.len() > 1 {
        let mut one = CpuSet::new();
        one.set(cpus[which])?;
        sched_setaffinity(this, &one)?;
    }
    Ok(())
}
