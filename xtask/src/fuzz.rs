//! `cargo xtask fuzz`: the reference model against the decision, in user space and in the kernel, with fresh seeds.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::setup::{self, Purpose};

/// Sequences of one round: about half a minute.
const SEQUENCES: &str = "20000";

/// Hold model, user-space decision and kernel against each other over random cases, as root.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How long; without it, until something is found
    #[arg(long)]
    minutes: Option<u64>,
}

/// Runs rounds until the time is up; failure if one found a difference. Its seed is printed by the round.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(Purpose::Test)?;
    let deadline = options.minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let mut rounds = 0_u64;
    while deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        eprintln!("round {}: BULKHEAD_SEED={seed} BULKHEAD_SEQUENCES={SEQUENCES}", rounds + 1);
        let status = Command::new(env!("CARGO"))
            .args(["test", "--quiet", "--package", "bulkhead-tests", "--test", "equivalence"])
            .env("BULKHEAD_SEED", seed.to_string())
            .env("BULKHEAD_SEQUENCES", SEQUENCES)
            .status()
            .context("running cargo")?;
        if !status.success() {
            eprintln!("round {} found a difference; the story is above, the seed repeats it", rounds + 1);
            return Ok(ExitCode::FAILURE);
        }
        rounds += 1;
    }
    eprintln!("{rounds} rounds of {SEQUENCES} sequences, no difference");
    Ok(ExitCode::SUCCESS)
}
