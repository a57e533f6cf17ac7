//! A flood of denied datagrams from beyond the uplink: how many a second the host takes off the link and denies.
//!
//! A packet socket beyond the uplink sends as fast as it can, every datagram from another port than the last thousands. What
//! counts is what the enforcement itself counted as denied, not what was sent: on a pair of veths the sender's CPU does the
//! receiver's work as well, so that a dear denial slows the sender, and a full queue loses packets that nobody denied.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::load::flood;
use super::load::flood::Flood;
use super::side::{DENIED, Side, Way};
use super::{Effort, Figure, median};
use crate::lab::{UPLINK, Version};

const WAYS: [Way; 4] = [Way::Bulkhead, Way::Nftables, Way::NftablesEarly, Way::Dropping];

/// Somebody beyond the uplink whom nobody knows.
const STRANGER: [u8; 4] = [198, 51, 100, 200];
/// The link address of the host's end of the uplink, as the lab sets it.
const UPLINK_MAC: &str = "020000ff0001";

const TIME: Duration = Duration::from_millis(500);
/// The least ratio to nftables.
const TARGET: f64 = 1.3;

/// Measures.
///
/// # Errors
/// A lab can't be set up, or nothing is denied.
///
/// # Panics
/// As the lab does.
pub fn measure(effort: Effort) -> Result<Vec<Figure>> {
    let sides: Vec<Side> = WAYS.into_iter().map(Side::new).collect::<Result<_>>()?;
    let mut seen: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
    // The first round only warms up.
    for round in 0..=effort.rounds {
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let rate = absorbed(&sides[index])?;
            if round > 0 {
                seen[index].push(rate);
            }
        }
    }
    let [bulkhead, stateful, early, dropping] = &seen[..] else { unreachable!("four ways") };
    let ratio = |other: &[f64]| median(bulkhead.iter().zip(other).map(|(ours, theirs)| ours / theirs).collect());
    let round = |ratio: f64| (ratio * 100.0).round() / 100.0;
    let mut figures: Vec<Figure> = WAYS
        .iter()
        .zip(&seen)
        .map(|(way, rates)| {
            Figure::told(format!("denied packets, {}", way.name()), median(rates.clone()).round(), "1/s")
        })
        .collect();
    for (way, rates) in [(Way::Nftables, stateful), (Way::NftablesEarly, early)] {
        let name = format!("denied packets, Bulkhead to {}", way.name());
        figures.push(Figure::at_least(name, round(ratio(rates)), "ratio", TARGET));
    }
    let name = format!("denied packets, Bulkhead to {}", Way::Dropping.name());
    figures.push(Figure::told(name, round(ratio(dropping)), "ratio"));
    Ok(figures)
}

/// Denied packets a second.
fn absorbed(side: &Side) -> Result<f64> {
    let server = side.server.at(Version::V4, DENIED);
    let std::net::SocketAddr::V4(to) = server else { unreachable!("asked for IPv4") };
    let flood_of = Flood {
        interface: UPLINK.to_owned(),
        mac: UPLINK_MAC.to_owned(),
        from: STRANGER.into(),
        to,
        milliseconds: u64::try_from(TIME.as_millis()).expect("less than a second"),
    };
    let before = side.denied()?;
    let began = Instant::now();
    let sent = flood(side.lab.beyond(), &flood_of)?;
    let taken = began.elapsed();
    let count = side.denied()? - before;
    ensure!(count > 0.0, "{}: nothing was denied of {sent} datagrams a second", side.way.name());
    // The generator starts and ends within `taken`: the time that it sent is what it was told.
    ensure!(taken >= TIME, "the flood ended early");
    Ok(count / TIME.as_secs_f64())
}
