//! libFuzzer, with what rustup's stable can do: the flags by which LLVM counts coverage, which cargo-fuzz would set on a
//! nightly, and no sanitizer (there is no unsafe code to watch).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::workspace::{self, Executable};

/// As cargo-fuzz has them (`fn rustflags` in its project.rs), without `--cfg fuzzing_repro` and the sanitizer.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];

/// An input that takes longer than this many seconds hangs.
const HANGS: u32 = 10;
/// Bytes of an input. Packets: a few in a sequence, or one with long extension headers. Policies: a few documents.
const LONGEST: u32 = 8_192;
/// Seconds for making an input that fails smaller.
const SHRINKING: u32 = 60;

/// The targets, built.
pub struct Engine {
    built: Vec<Executable>,
}

impl Engine {
    /// Builds every target, in a directory of its own: all flags differ from other builds'.
    pub fn build() -> Result<Self> {
        setup::ensure(Purpose::Fuzz)?;
        let mut command = workspace::cargo();
        command.args(["build", "--locked", "--profile", "fuzz", "--package", "bulkhead-fuzz", "--bins"]);
        // With a target named, build scripts and macros are spared the flags.
        command.args(["--target", &host()?]).arg("--target-dir").arg(directory());
        command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
        Ok(Self { built: workspace::executables(command)? })
    }

    /// Fuzzes one target: true if nothing was found. What was found is kept, made smaller, and said how to run again.
    pub fn turn(&self, target: &str, time: Duration, seed: u64) -> Result<bool> {
        let began = SystemTime::now();
        let binary = workspace::binary(&self.built, &format!("fuzz-{target}"))?;
        let (grown, found) = (directory().join("corpus").join(target), directory().join("found").join(target));
        for made in [&grown, &found] {
            fs::create_dir_all(made).with_context(|| format!("{} can't be made", made.display()))?;
        }
        let package = workspace::root().join("tests/fuzz");
        let mut command = Command::new(binary);
        command.arg(format!("-max_total_time={}", time.as_secs().max(1)));
        // 0 would be one of libFuzzer's own choice.
        command.arg(format!("-seed={}", (seed as u32).max(1)));
        command.arg(format!("-timeout={HANGS}")).arg(format!("-max_len={LONGEST}"));
        command.arg(format!("-artifact_prefix={}/", found.display())).arg("-print_final_stats=1");
        let words = package.join(format!("{target}.dict"));
        if words.exists() {
            command.arg(format!("-dict={}", words.display()));
        }
        command.arg(&grown).arg(package.join("corpus").join(target));
        if target == "policies" {
            command.arg(workspace::root().join("policies"));
        }
        let status = command.status().with_context(|| format!("{} does not start", binary.display()))?;
        if status.success() {
            return Ok(true);
        }
        match newest(&found, began) {
            Some(input) => {
                let input = smaller(binary, &input).unwrap_or(input);
                eprintln!("fuzz: the input is {}", input.display());
                eprintln!("fuzz: `cargo run -p bulkhead-fuzz --bin fuzz-{target} {}` runs it again", input.display());
                eprintln!("fuzz: mended, it belongs to tests/fuzz/corpus/{target} and to a test that says what it was");
            }
            None => bail!("the engine ended without an input that fails ({status})"),
        }
        Ok(false)
    }
}

fn directory() -> PathBuf {
    workspace::root().join("target/fuzz")
}

/// The host's target triple.
fn host() -> Result<String> {
    let output = workspace::cargo().arg("-vV").output().context("cargo does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("cargo does not say what its host is")?.to_owned())
}

/// The last file that was written since.
fn newest(directory: &Path, since: SystemTime) -> Option<PathBuf> {
    let written = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let files = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    files.filter(|path| written(path).is_some_and(|at| at >= since)).max_by_key(written)
}

/// The input made smaller, where that works.
fn smaller(binary: &Path, input: &Path) -> Option<PathBuf> {
    let small = input.with_extension("small");
    let mut command = Command::new(binary);
    command.args(["-minimize_crash=1", &format!("-max_total_time={SHRINKING}"), &format!("-timeout={HANGS}")]);
    command.arg(format!("-exact_artifact_path={}", small.display())).arg(input);
    // It tells of every attempt; the input is what counts.
    command.output().ok()?;
    small.exists().then_some(small)
}
