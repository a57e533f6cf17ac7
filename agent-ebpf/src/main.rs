//! eBPF.
fn main() {}
