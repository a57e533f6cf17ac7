//! Builds the eBPF object that the bench compares with, and leaves it as `OUT_DIR/baseline`.

use std::env;
use std::fs;
use std::path::PathBuf;

use toolchain::{Arrangement, EbpfBuild, Found};

#[allow(dead_code, reason = "set-up and lint use the rest")]
#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() {
    let variable = |name: &str| env::var(name).expect("cargo runs this");
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir.parent().expect("the tests are a directory of the workspace");
    for input in ["agent-ebpf/src/baseline.rs", "agent-ebpf/Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-env-changed={}", toolchain::FORCE);

    let out_dir = PathBuf::from(variable("OUT_DIR"));
    let root = out_dir.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    let target = toolchain::target(&variable("CARGO_CFG_TARGET_ENDIAN"));
    let forced = Arrangement::forced();
    let arrangement = match Arrangement::choose(forced.clone(), &Found::look(target, forced.as_ref())) {
        Ok(arrangement) => arrangement,
        Err(problem) => return println!("cargo::error={problem}"),
    };
    let build = EbpfBuild {
        workspace,
        target_dir: &root.unwrap_or(&out_dir).join("ebpf-baseline"),
        target,
        host_arch: &variable("CARGO_CFG_TARGET_ARCH"),
    };
    let status = build.command(&arrangement).args(["--bin", "baseline", "--features", "baseline"]).status();
    let object = build.object().with_file_name("baseline");
    let copied = status.is_ok_and(|status| status.success()) && fs::copy(&object, out_dir.join("baseline")).is_ok();
    if !copied {
        println!("cargo::error=the bench's eBPF object did not build with {}", arrangement.describe());
    }
}
