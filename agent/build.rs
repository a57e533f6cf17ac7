//! Builds the eBPF object from `agent-ebpf` and leaves it as `OUT_DIR/programs`, to be embedded in the binary.
//!
//! How is in `xtask/src/toolchain.rs`. Fails with the name of the missing tool and `cargo xtask setup`, or with the
//! compiler's own output.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::exit;

use toolchain::{Arrangement, EbpfBuild, Found};

#[allow(dead_code, reason = "set-up and lint use the rest")]
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() {
    if let Err(problem) = build() {
        for line in problem.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }
}

fn build() -> Result<(), String> {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().expect("the agent is a directory of the workspace");
    for input in ["agent-ebpf/src", "agent-ebpf/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-env-changed={}", toolchain::FORCE);

    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let target = toolchain::target(&variable("CARGO_CFG_TARGET_ENDIAN")?);
    let forced = Arrangement::forced();
    let found = Found::look(target, forced.as_ref());
    let arrangement = Arrangement::choose(forced, &found)?;
    if toolchain::find("bpf-linker").is_none() {
        return Err("bpf-linker is missing, which links the eBPF object: run `cargo xtask setup`".into());
    }

    let ebpf = EbpfBuild {
        workspace,
        target_dir: &target_dir(&out_dir),
        target,
        host_arch: &variable("CARGO_CFG_TARGET_ARCH")?,
    };
    let mut command = ebpf.command(&arrangement);
    if env::var_os("CARGO_FEATURE_SUCCESSOR").is_some() {
        command.args(["--features", "successor"]);
    }
    let status = command.status().map_err(|e| format!("{} does not start: {e}", arrangement.describe()))?;
    if !status.success() {
        return Err(format!(
            "the eBPF object did not build with {} ({status}); the compiler's messages are below. If it is the linker \
             that fails, run `cargo xtask setup`",
            arrangement.describe()
        ));
    }
    let object = out_dir.join("programs");
    fs::copy(ebpf.object(), &object)
        .map(drop)
        .map_err(|e| format!("{} can't be copied to {}: {e}", ebpf.object().display(), object.display()))
}

/// One directory for debug and release alike, as the eBPF object is the same in both: beside them in cargo's target
/// directory, which cargo marks as a cache.
fn target_dir(out_dir: &Path) -> PathBuf {
    let root = out_dir.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    root.unwrap_or(out_dir).join("ebpf")
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: build.rs is meant to be run by cargo"))
}
