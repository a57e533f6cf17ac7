//! `cargo xtask test --kernel VERSION`: the tests that meet the kernel, on another kernel than this machine's.
//!
//! QEMU boots Debian's kernel package in software emulation, which needs no root and no KVM. The file system is an
//! initramfs: the workspace at its own path with the binaries that `cargo xtask test` runs here, the programs that the
//! tests start, all with their libraries, and the kernel's modules, which the kernel loads by itself as it does on a
//! host. cgroup2 is mounted as on a host without version 1, at /sys/fs/cgroup. Nothing of this is built for the purpose:
//! what is tested are the very binaries that are tested here.
//!
//! What is downloaded stays in target/vm/VERSION; remove that directory to have a newer package.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::{self, Purpose};
use crate::test::tally::Tally;
use crate::workspace::{self, Executable};

mod image;
mod machine;
mod package;
mod script;

/// How many times longer than on a real machine things may take, as `bulkhead_tests::check::SLOWNESS` tells the tests.
const SLOWNESS: u32 = 5;

/// A kernel to test on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Debian 12's: no tcx, so tc programs are attached by clsact.
    #[value(name = "6.1")]
    V6_1,
    /// That of Debian 12's backports, and of Debian 13.
    #[value(name = "6.12")]
    V6_12,
}

impl Kernel {
    /// The release that brings it, in Debian's archive.
    const fn suite(self) -> &'static str {
        match self {
            Self::V6_1 => "bookworm",
            Self::V6_12 => "bookworm-backports",
        }
    }

    /// Where what is downloaded and made for it lies.
    fn directory(self) -> PathBuf {
        workspace::root().join("target/vm").join(self.to_string())
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

/// Boots the kernel, and runs in it every test harness that meets the kernel.
pub fn run(kernel: Kernel, filter: Option<&str>) -> Result<Tally> {
    setup::ensure(Purpose::Test)?;
    setup::ensure(Purpose::Kernels)?;
    let package = package::Package::get(kernel)?;
    let mut binaries = workspace::build(workspace::Profile::Debug)?;
    binaries.extend(workspace::build_successor(workspace::Profile::Debug)?);
    let (harnesses, elsewhere): (Vec<_>, Vec<_>) = workspace::build_tests()?.into_iter().partition(meets_the_kernel);
    for it in &elsewhere {
        println!("not in the virtual machine: {}, which meets no kernel", it.title());
    }
    let began = Instant::now();
    let image = image::build(&package, &binaries, &harnesses, filter)?;
    eprintln!("vm: Linux {}, an image made in {}", package.release, seconds(began.elapsed()));
    let began = Instant::now();
    let mut tally = Tally::default();
    machine::run(&package, &image, &harnesses, &mut tally)?;
    eprintln!("vm: Linux {}, from boot to end {}", package.release, seconds(began.elapsed()));
    Ok(tally)
}

/// The workshop's own tests, those of the pure library and those of what is delivered are the same whatever the kernel.
fn meets_the_kernel(harness: &Executable) -> bool {
    let package = harness.package.file_name().and_then(|name| name.to_str());
    matches!(package, Some("agent" | "tests"))
        && !matches!(harness.name.as_str(), "package" | "manifests" | "documentation")
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
