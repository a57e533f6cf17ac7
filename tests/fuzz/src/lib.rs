//! Coverage-guided fuzzing: what holds of whatever bytes come.
//!
//! `cargo xtask fuzz --target packets` or `policies` lets libFuzzer look for bytes of which it does not hold. What it found
//! stays in `corpus/`, together with what it starts from, and is replayed by every `cargo xtask test` without the engine;
//! each failure is a regression with a name besides.
//!
//! - [`packets`]: a sequence of packets at hooks, read and judged
//! - [`policies`]: the text of policy files

pub mod packets;
pub mod policies;

/// A target without the engine: runs the files that it is given.
///
/// # Panics
/// Something does not hold of one of them, or it can't be read.
pub fn run_files(check: fn(&[u8])) {
    for path in std::env::args_os().skip(1) {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        check(&bytes);
        println!("{}: holds", path.display());
    }
}
