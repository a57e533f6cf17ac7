//! Where the agent, the probe and the bench's load generator are: beside the running program, built first where they are missing or older than their
//! sources, so that a plain `cargo test -p bulkhead-tests` tests what is in the tree.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The agent's binary.
///
/// # Panics
/// It is missing and cannot be built.
#[must_use]
pub fn bulkhead() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("bulkhead", "bulkhead"))
}

/// The agent of another layout.
///
/// # Panics
/// It is missing and cannot be built.
#[must_use]
pub fn successor() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("successor", "bulkhead"))
}

/// The probe's binary.
///
/// # Panics
/// It is missing and cannot be built.
#[must_use]
pub fn probe() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("probe", "bulkhead-tests"))
}

/// The load generator's binary.
///
/// # Panics
/// It is missing and cannot be built.
#[must_use]
pub fn load() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("load", "bulkhead-tests"))
}

/// The workshop's binary, `cargo xtask`.
///
/// # Panics
/// It is missing and cannot be built.
#[must_use]
pub fn xtask() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| find("xtask", "xtask"))
}

fn find(name: &str, package: &str) -> PathBuf {
    let directory = directory();
    let path = directory.join(name);
    if is_fresh(&path) {
        return path;
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", package, "--bin", name]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if name == "successor" {
        cargo.args(["--features", name]);
    }
    if directory.file_name().is_some_and(|profile| profile == "release") {
        cargo.arg("--release");
    }
    if let Some(target) = directory.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    let built = cargo.status().is_ok_and(|status| status.success());
    assert!(built && path.exists(), "{} is missing and cannot be built: run `cargo xtask build`", path.display());
    path
}

/// The directory of the profile: tests run from `deps` below it, the demo from itself.
fn directory() -> PathBuf {
    let program = env::current_exe().expect("/proc is mounted");
    let directory = program.parent().expect("a program is in a directory");
    match directory.parent() {
        Some(above) if directory.ends_with("deps") => above.to_owned(),
        _ => directory.to_owned(),
    }
}

/// Whether a binary is there, and none of its sources is newer, as far as cargo's dependency file names them.
fn is_fresh(binary: &Path) -> bool {
    let Some(built) = modified(binary) else { return false };
    let Ok(dependencies) = fs::read_to_string(binary.with_extension("d")) else { return true };
    let sources = dependencies.split_once(": ").map_or("", |(_, sources)| sources.trim());
    sources.split(' ').filter_map(|source| modified(Path::new(source))).all(|source| source <= built)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
