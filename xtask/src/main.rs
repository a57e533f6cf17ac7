//! Bulkhead's workshop: set-up, build, demo, tests and lint, each a command of `cargo xtask`.

mod toolchain;

fn main() {}
