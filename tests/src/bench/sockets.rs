//! Real sockets between two governed workloads, of which the policy allows the flow, beside no enforcement, nothing but the
//! hooks, and nftables.
//!
//! Five labs stand side by side (see [`super::side`]). In every round each of them is measured in turn, the first one changing
//! from round to round; what is told is the median over the rounds of the ratio to "none" in the same round.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};

use super::load::{What, drive};
use super::side::{Side, Way};
use super::{Effort, Figure, median, rounded};
use crate::lab::Version;

const WAYS: [Way; 5] = [Way::None, Way::Control, Way::Bulkhead, Way::Empty, Way::Nftables];

/// What is measured, its name, its unit and how many of the unit's ones a unit is, and the least ratio to no enforcement.
const MEASURES: [(What, &str, &str, f64, f64); 5] = [
    (What::Throughput, "TCP throughput", "Gbit/s", 1e9, 0.97),
    (What::Connections, "connections", "1/s", 1.0, 0.94),
    (What::RoundTrips, "round trips", "1/s", 1.0, 0.95),
    (What::Datagrams, "UDP packets", "1/s", 1.0, 0.95),
    (What::Flows, "new UDP flows", "1/s", 1.0, 0.91),
];

/// The least ratio to nothing but the hooks, which are the limit.
const OF_EMPTY: f64 = 0.96;

/// How long one measurement takes.
const TIME: Duration = Duration::from_millis(400);

/// Measures.
///
/// # Errors
/// A lab can't be set up, or lets through what it must not, or the load does not arrive.
///
/// # Panics
/// As the lab does.
pub fn measure(effort: Effort) -> Result<Vec<Figure>> {
    let seen = rounds(&WAYS, effort)?;
    let mut figures = Vec::new();
    for (what, (_, name, unit, ones, target)) in MEASURES.into_iter().enumerate() {
        let of = |way: Way| &seen[&(what, way.name())];
        let ratio = |way: Way, to: Way| median(of(way).iter().zip(of(to)).map(|(value, base)| value / base).collect());
        let ratio = |way: Way, to: Way| (ratio(way, to) * 1_000.0).round() / 1_000.0;
        let to_none = |way: Way| (format!("{name}, {} to none", way.name()), ratio(way, Way::None));
        let told = |(name, value)| Figure::told(name, value, "ratio");
        figures.push(Figure::told(format!("{name}, none"), rounded(median(of(Way::None).clone()) / ones), unit));
        figures.push(told(to_none(Way::Control)));
        figures.push(told(to_none(Way::Empty)));
        figures.push(told(to_none(Way::Nftables)));
        let (bulkhead, value) = to_none(Way::Bulkhead);
        figures.push(Figure::at_least(bulkhead, value, "ratio", target));
        let to_other = |way: Way| (format!("{name}, Bulkhead to {}", way.name()), ratio(Way::Bulkhead, way));
        let (name_empty, value) = to_other(Way::Empty);
        figures.push(Figure::at_least(name_empty, value, "ratio", OF_EMPTY));
        let (name_nftables, value) = to_other(Way::Nftables);
        figures.push(Figure::at_least(name_nftables, value, "ratio", 1.0));
    }
    Ok(figures)
}

/// What each way reached, by the index of the measure and the way's name, a value a round.
type Seen = HashMap<(usize, &'static str), Vec<f64>>;

/// Measures each way in turn, round by round.
fn rounds(ways: &[Way], effort: Effort) -> Result<Seen> {
    let sides: Vec<Side> = ways.iter().copied().map(Side::new).collect::<Result<_>>()?;
    let judged = |side: &Side| side.agent.as_ref().map(|agent| agent.metric("bulkhead_packets_total", &[]));
    let before: Vec<Option<f64>> = sides.iter().map(judged).collect();
    let mut seen = Seen::new();
    // The first round only warms up: neighbours are resolved, memory is there.
    for round in 0..=effort.rounds {
        for (what, (measured, ..)) in MEASURES.iter().enumerate() {
            for turn in 0..sides.len() {
                let side = &sides[(round + turn) % sides.len()];
                let to = side.server.address(Version::V4);
                let value = drive(&side.lab, &side.client, *measured, to, TIME, round)
                    .with_context(|| format!("{measured:?}, {}", side.way.name()))?;
                if round > 0 {
                    seen.entry((what, side.way.name())).or_default().push(value);
                }
            }
        }
    }
    for (side, before) in sides.iter().zip(before) {
        anyhow::ensure!(before.is_none() || judged(side) > before, "the agent's programs saw nothing of the load");
    }
    Ok(seen)
}

/// What a flow log costs: an agent with one beside an agent without, and another one without, whose difference is noise.
///
/// # Errors
/// As [`measure`].
///
/// # Panics
/// As the lab does.
pub fn measure_log(effort: Effort) -> Result<Vec<Figure>> {
    const WAYS: [Way; 3] = [Way::Bulkhead, Way::BulkheadAgain, Way::Logging];
    let seen = rounds(&WAYS, effort)?;
    let mut figures = Vec::new();
    for (what, (_, name, unit, ones, _)) in MEASURES.into_iter().enumerate() {
        let of = |way: Way| &seen[&(what, way.name())];
        figures.push(Figure::told(
            format!("{name}, Bulkhead"),
            rounded(median(of(Way::Bulkhead).clone()) / ones),
            unit,
        ));
        for way in [Way::BulkheadAgain, Way::Logging] {
            let ratios = of(way).iter().zip(of(Way::Bulkhead)).map(|(value, base)| value / base).collect();
            let ratio = (median(ratios) * 1_000.0).round() / 1_000.0;
            figures.push(Figure::told(format!("{name}, {} to Bulkhead", way.name()), ratio, "ratio"));
        }
    }
    Ok(figures)
}
