//! The bench's load generator, started by the bench inside a workload.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use bulkhead_tests::bench::load::flood::Flood;
use bulkhead_tests::bench::load::spray::Spray;
use bulkhead_tests::bench::load::{What, client, server};
use bulkhead_tests::soak::newcomers;
use clap::Parser;

/// Makes load on real sockets, and counts it.
#[derive(Debug, Parser)]
enum Options {
    /// Listen and count until standard input closes
    Serve {
        /// Where
        address: IpAddr,
    },
    /// Load a server and print how much came a second
    Drive {
        /// With what
        what: What,
        /// Where it listens
        to: SocketAddr,
        /// For how long
        milliseconds: u64,
    },
    /// Connect to both at once as the first act, and print how many milliseconds the first one took
    Newcomer {
        /// What the policy allows
        allowed: SocketAddr,
        /// What it denies
        denied: SocketAddr,
    },
    /// Put datagrams on a link and print how many were sent a second
    Flood(Flood),
    /// Put packets on a link, each of another flow, and print how many were sent
    Spray(Spray),
}

fn main() -> Result<()> {
    match Options::parse() {
        Options::Serve { address } => {
            server::listen(address)?;
            println!("{}", server::READY);
            // Whoever started it holds the other end.
            std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
        }
        Options::Drive { what, to, milliseconds } => {
            println!("{}", client::drive(what, to, Duration::from_millis(milliseconds))?);
        }
        Options::Newcomer { allowed, denied } => println!("{}", newcomers::program(allowed, denied)),
        Options::Flood(flood) => println!("{}", flood.send()?),
        Options::Spray(spray) => println!("{}", spray.send()?),
    }
    Ok(())
}
