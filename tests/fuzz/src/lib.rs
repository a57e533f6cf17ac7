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
