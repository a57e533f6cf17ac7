//! `cargo xtask fuzz`: looks for inputs of which something does not hold, without end or for so long.
//!
//! - `worlds`: the reference model against the decision, in user space and in the kernel, over random worlds
//! - `packets`, `policies`: whatever bytes come, guided by the coverage that they reach
//!
//! The targets take turns, each turn with a seed of its own, which is printed.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::{self, Purpose};
use engine::Engine;

mod engine;
mod worlds;

/// How long a turn is where several targets take turns: long enough that what starts it does not count.
const SHARED_TURN: Duration = Duration::from_secs(60);
/// How long it is where one has them all.
const LONE_TURN: Duration = Duration::from_secs(600);

/// Look for what does not hold: of random worlds, as root, and of packets and policies, guided by coverage.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long; without it, until something is found
    #[arg(long)]
    minutes: Option<u64>,
    /// What to fuzz; without it, everything in turn
    #[arg(long)]
    target: Option<Target>,
    /// Seed of the first turn, for a repetition
    #[arg(long)]
    seed: Option<u64>,
}

/// What can be fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Random worlds: model = user space = kernel
    Worlds,
    /// The packet parser, and the decision over sequences of packets against the model
    Packets,
    /// The policy language
    Policies,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worlds => "worlds",
            Self::Packets => "packets",
            Self::Policies => "policies",
        })
    }
}

/// Fuzzes until the time is up; failure if something was found. How to repeat it is said by then.
pub fn run(options: &Options) -> Result<ExitCode> {
    let targets = match options.target {
        Some(target) => vec![target],
        None => Target::value_variants().to_vec(),
    };
    if targets.contains(&Target::Worlds) {
        setup::ensure(Purpose::Test)?;
    }
    let engine = if targets == [Target::Worlds] { None } else { Some(Engine::build()?) };
    let harness = if targets.contains(&Target::Worlds) { Some(worlds::harness()?) } else { None };

    let turn = if targets.len() == 1 { LONE_TURN } else { SHARED_TURN };
    let deadline = options.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let left = || deadline.map_or(turn, |deadline| deadline.saturating_duration_since(Instant::now()).min(turn));
    let mut seed = options.seed.unwrap_or_else(fresh);
    let mut turns = 0_u64;
    for target in targets.iter().cycle() {
        let left = left();
        if left.is_zero() {
            break;
        }
        eprintln!("fuzz: {target} with --seed {seed}, for {} s", left.as_secs());
        let holds = match (target, &harness, &engine) {
            (Target::Worlds, Some(harness), _) => worlds::turn(harness, left, seed)?,
            (_, _, Some(engine)) => engine.turn(&target.to_string(), left, seed)?,
            _ => unreachable!("what the targets need was built"),
        };
        if !holds {
            eprintln!("fuzz: {target}: something was found, see above; `--target {target} --seed {seed}` begins there");
            return Ok(ExitCode::FAILURE);
        }
        turns += 1;
        seed = seed.wrapping_add(1);
    }
    eprintln!("fuzz: {turns} turns, nothing was found");
    Ok(ExitCode::SUCCESS)
}

/// A seed that was not tried yet, short enough for everyone.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.as_secs() as u32) ^ u64::from(since.subsec_nanos() >> 8)
}
