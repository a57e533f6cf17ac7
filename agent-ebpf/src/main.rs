//! The eBPF programs. All of them live in `bpf`; a build for the host has nothing to run.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod bpf;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these are eBPF programs: build them for bpfel-unknown-none, as the agent's build script does");
}
