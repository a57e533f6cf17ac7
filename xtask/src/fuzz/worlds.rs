//! Random worlds: the test of the equivalence, with other seeds than its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::privilege;
use crate::workspace::{self, Executable};

/// Sequences of one run: a few seconds.
const SEQUENCES: u64 = 5_000;

/// The test, built.
pub fn harness() -> Result<Executable> {
    let tests = workspace::build_tests()?;
    let harness = tests.into_iter().find(|test| test.path.file_name().is_some_and(is_it));
    harness.context("the workspace has no test of the equivalence")
}

fn is_it(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with("equivalence-")
}

/// Runs until the time is up: true if no difference was found. The story of one is printed.
pub fn turn(harness: &Executable, time: Duration, seed: u64) -> Result<bool> {
    let deadline = Instant::now() + time;
    // Runs of neighbouring turns must not be the same ones.
    let mut seed = seed << 20;
    let mut sequences = 0;
    while Instant::now() < deadline {
        let mut command = privilege::as_root(&harness.path)?;
        command.arg("--quiet").current_dir(&harness.package).env("CARGO_MANIFEST_DIR", &harness.package);
        command.env("BULKHEAD_SEED", seed.to_string()).env("BULKHEAD_SEQUENCES", SEQUENCES.to_string());
        let output = command.output().context("the test does not start")?;
        if !output.status.success() {
            eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            eprintln!(
                "fuzz: BULKHEAD_SEED={seed} BULKHEAD_SEQUENCES={SEQUENCES} {} repeats it",
                PathBuf::from(&harness.path).display()
            );
            return Ok(false);
        }
        sequences += 2 * SEQUENCES;
        seed += 1;
    }
    eprintln!("fuzz: {sequences} sequences, half of them in the kernel");
    Ok(true)
}
