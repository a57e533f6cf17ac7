//! What each command needs, and what of it a machine lacks: a plain function of what was found.

use std::fmt;

use super::linker::{self, Fit};
use super::machine::Machine;
use crate::deny;
use crate::toolchain::Arrangement;

/// What the tools are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To build the agent.
    Build,
    /// To build the Debian package, and to test it.
    Package,
    /// To run the demo.
    Demo,
    /// To run the tests.
    Test,
    /// To lint.
    Lint,
    /// To measure.
    Bench,
    /// To fuzz, guided by coverage.
    Fuzz,
    /// To run the tests on other kernels.
    Kernels,
    /// All of these.
    Everything,
}

/// A program that a Debian package brings.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name on PATH, or its path.
    pub name: &'static str,
    /// The package.
    pub package: &'static str,
    /// What it is for.
    pub why: &'static str,
    /// Whether only the program is taken out of the package: the package would start a service.
    pub alone: bool,
    purposes: &'static [Purpose],
}

/// Debian's packages of the Rust that compiles for BPF, its `core` included.
pub const DEBIAN_RUST: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// Components of the rustup toolchain that builds the agent, by the subcommand of cargo that each brings.
pub const COMPONENTS: [(&str, &str); 2] = [("fmt", "rustfmt"), ("clippy", "clippy")];

/// Debian's clippy, for the eBPF programs where Debian's Rust compiles them.
pub static BPF_CLIPPY: Program = Program {
    name: crate::toolchain::DEBIAN_CLIPPY,
    package: "rust-web-clippy",
    why: "lints the eBPF programs",
    alone: false,
    purposes: &[Purpose::Lint],
};

/// Programs that the demo, the tests, the fuzzing and the bench start.
pub static PROGRAMS: [Program; 13] = [
    program("ip", "iproute2", "makes network namespaces and links", &[Purpose::Demo, Purpose::Test, Purpose::Bench]),
    program("tc", "iproute2", "takes filters of the agent's off their interface", &[Purpose::Test]),
    program("ping", "iputils-ping", "sends ICMP from one workload to another", &[Purpose::Test]),
    program("curl", "curl", "asks the admin socket and the metrics as a user does", &[Purpose::Test]),
    program("bpftool", "bpftool", "shows what the kernel holds, as a second opinion", &[Purpose::Test]),
    program("dpkg-shlibdeps", "dpkg-dev", "finds what the Debian package depends on", &[Purpose::Package]),
    program("socat", "socat", "serves and connects in the tutorial", &[Purpose::Test]),
    program(
        "nft",
        "nftables",
        "is what the bench compares with, and what a how-to replaces",
        &[Purpose::Test, Purpose::Bench],
    ),
    program("g++", "g++", "compiles the fuzzing engine", &[Purpose::Fuzz]),
    program("qemu-system-x86_64", "qemu-system-x86", "boots other kernels", &[Purpose::Kernels]),
    program(
        "busybox",
        "busybox-static",
        "is the rest of the system on other kernels, and where the package is tested",
        &[Purpose::Package, Purpose::Kernels],
    ),
    program("modprobe", "kmod", "loads modules on other kernels", &[Purpose::Kernels]),
    Program {
        alone: true,
        ..program("promtool", "prometheus", "checks the metrics against Prometheus' rules", &[Purpose::Test])
    },
];

const fn program(
    name: &'static str,
    package: &'static str,
    why: &'static str,
    purposes: &'static [Purpose],
) -> Program {
    Program { name, package, why, alone: false, purposes }
}

impl Program {
    /// Whether a command needs it.
    pub fn serves(&self, purpose: Purpose) -> bool {
        purpose == Purpose::Everything || self.purposes.contains(&purpose)
    }
}

/// Something that is not there. Displayed it says what, what for, and how to install it by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// A Rust that compiles for BPF: Debian's, or the rustup toolchain that was asked for.
    Compiler(Option<String>),
    /// A bpf-linker that links what that Rust compiles; the reason.
    Linker(String),
    /// The cargo-deny that deny.toml is written for; what is wrong.
    Deny(String),
    /// A program.
    Program(&'static Program),
    /// A component of the rustup toolchain that builds the agent.
    Component(&'static str),
}

/// The programs that tests start, by name.
pub fn programs_of_tests() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().filter(|it| it.serves(Purpose::Test)).map(|it| it.name)
}

/// What a machine lacks for a purpose, in the order of installing.
pub fn missing(machine: &Machine, purpose: Purpose) -> Vec<Missing> {
    let mut missing = Vec::new();
    if machine.arrangement.is_none() {
        missing.push(Missing::Compiler(match &machine.forced {
            Some(Arrangement::Rustup(name)) => Some(name.clone()),
            Some(Arrangement::Debian) | None => None,
        }));
    }
    match &machine.linker {
        Fit::Fits => {}
        Fit::Absent => missing.push(Missing::Linker("it is not installed".into())),
        Fit::Unfit(why) => missing.push(Missing::Linker(why.clone())),
    }
    missing.extend(machine.deny.clone().map(Missing::Deny));
    missing.extend(machine.absent.iter().copied().filter(|it| it.serves(purpose)).map(Missing::Program));
    missing.extend(machine.components.iter().copied().map(Missing::Component));
    missing
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(None) => {
                write!(
                    f,
                    "a Rust that compiles for BPF, for the programs in the kernel (apt-get install {}; or rustup's \
                     nightly with rust-src)",
                    DEBIAN_RUST.join(" ")
                )
            }
            Self::Compiler(Some(name)) => {
                write!(f, "rustup's {name} with rust-src (rustup toolchain install {name} --component rust-src)")
            }
            Self::Linker(why) => write!(
                f,
                "bpf-linker {} for that Rust's LLVM, which links the programs in the kernel: {why} \
                 (https://github.com/aya-rs/bpf-linker)",
                linker::VERSION
            ),
            Self::Deny(why) => {
                let version = deny::VERSION;
                write!(
                    f,
                    "cargo-deny {version}, for `cargo xtask lint`: {why} (cargo install --locked cargo-deny --version \
                     {version})"
                )
            }
            Self::Program(it) => write!(f, "{}, which {} (package {})", it.name, it.why, it.package),
            Self::Component(name) => write!(f, "{name}, for `cargo xtask lint` (rustup component add {name})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Machine {
        Machine {
            debian: true,
            forced: None,
            arrangement: Some(Arrangement::Debian),
            linker: Fit::Fits,
            deny: None,
            absent: Vec::new(),
            components: Vec::new(),
        }
    }

    /// A fresh Debian 12 with rustup's stable and nothing else.
    fn fresh() -> Machine {
        Machine {
            arrangement: None,
            linker: Fit::Absent,
            absent: PROGRAMS.iter().chain([&BPF_CLIPPY]).collect(),
            ..complete()
        }
    }

    #[test]
    fn a_complete_machine_lacks_nothing() {
        assert_eq!(missing(&complete(), Purpose::Everything), []);
    }

    #[test]
    fn a_fresh_machine_lacks_the_compiler_before_its_linker() {
        let missing = missing(&fresh(), Purpose::Build);
        assert_eq!(missing, [Missing::Compiler(None), Missing::Linker("it is not installed".into())]);
    }

    #[test]
    fn each_command_asks_only_for_what_it_uses() {
        let programs = |purpose| -> Vec<_> {
            let missing = missing(&fresh(), purpose);
            let programs =
                missing.iter().filter_map(|it| if let Missing::Program(it) = it { Some(it.name) } else { None });
            programs.collect()
        };
        assert_eq!(programs(Purpose::Build), [""; 0]);
        assert_eq!(programs(Purpose::Demo), ["ip"]);
        assert_eq!(programs(Purpose::Bench), ["ip", "nft"]);
        assert_eq!(programs(Purpose::Test), ["ip", "tc", "ping", "curl", "bpftool", "socat", "nft", "promtool"]);
        assert_eq!(programs(Purpose::Package), ["dpkg-shlibdeps", "busybox"]);
        assert_eq!(programs(Purpose::Fuzz), ["g++"]);
        assert_eq!(programs(Purpose::Lint), [BPF_CLIPPY.name]);
        assert_eq!(programs(Purpose::Kernels), ["qemu-system-x86_64", "busybox", "modprobe"]);
        assert_eq!(programs(Purpose::Everything).len(), PROGRAMS.len() + 1);
    }

    #[test]
    fn the_toolchain_that_was_asked_for_is_the_one_to_install() {
        let nightly = || Some(Arrangement::Rustup("nightly".into()));
        let asked = Machine { forced: nightly(), arrangement: None, ..complete() };
        assert_eq!(missing(&asked, Purpose::Build), [Missing::Compiler(Some("nightly".into()))]);
        let there = Machine { forced: nightly(), arrangement: nightly(), ..complete() };
        assert_eq!(missing(&there, Purpose::Build), []);
    }

    #[test]
    fn another_cargo_deny_is_as_good_as_none() {
        let machine = Machine { deny: Some("it says that it is 0.1.0".into()), ..complete() };
        let missing = missing(&machine, Purpose::Lint);
        assert_eq!(missing, [Missing::Deny("it says that it is 0.1.0".into())]);
        assert!(missing[0].to_string().contains("cargo install --locked cargo-deny"));
    }

    #[test]
    fn a_linker_of_another_llvm_is_missing_as_much_as_none() {
        let machine = Machine { linker: Fit::Unfit("it has LLVM 19".into()), ..complete() };
        let missing = missing(&machine, Purpose::Test);
        assert_eq!(missing, [Missing::Linker("it has LLVM 19".into())]);
        assert!(missing[0].to_string().contains("it has LLVM 19"));
    }
}
