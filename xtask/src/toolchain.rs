//! The eBPF toolchain: which Rust compiles for BPF here, and the command that builds the eBPF object with it.
//!
//! Rust's stable ships no `core` for BPF, so one of two arrangements has to be there: Debian's rustc-web with its
//! prebuilt `core`, or a nightly of rustup's with `rust-src`, which builds `core` along. This file is used by
//! `agent/build.rs`, which builds, and by `cargo xtask setup`, which finds or installs; it needs nothing but the
//! standard library. Where a tool is missing the error names it and says `cargo xtask setup`.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment variable that forces an arrangement: `debian`, or the name of a rustup toolchain such as `nightly`.
pub const FORCE: &str = "BULKHEAD_EBPF_TOOLCHAIN";

/// Where Debian's rust-web-clippy puts the linter.
pub const DEBIAN_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// Where Debian's packages put their compiler, cargo and the libraries of each target.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_RUSTLIB: &str = "/usr/lib/rustlib";

/// What a build that was started by cargo must not hand down: the outer build's compiler, flags and wrappers.
const OUTER_BUILD: [&str; 12] = [
    "CARGO",
    "RUSTC",
    "RUSTDOC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_UNSTABLE_BUILD_STD",
];

/// One way to compile Rust for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrangement {
    /// Debian's rustc-web and cargo-web, with `core` from libstd-rust-web-dev-bpf.
    Debian,
    /// A rustup toolchain, by name, that has rust-src.
    Rustup(String),
}

/// What was found on this machine, so that choosing is a plain function of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Debian's cargo, rustc and prebuilt `core` for the target are all there.
    pub debian: bool,
    /// The sources of `core` are there for the rustup toolchain that was asked for, or for nightly.
    pub rustup: bool,
}

impl Arrangement {
    /// What the user asked for by [`FORCE`], if anything.
    pub fn forced() -> Option<Self> {
        let name = env::var(FORCE).ok().filter(|name| !name.is_empty())?;
        Some(if name == "debian" { Self::Debian } else { Self::Rustup(name) })
    }

    /// The arrangement to build with: the forced one if it is complete, else Debian's, else rustup's nightly. Debian's
    /// comes first because its LLVM stays the one that bpf-linker was built for, while a nightly's moves.
    pub fn choose(forced: Option<Self>, found: &Found) -> Result<Self, String> {
        match forced {
            Some(Self::Debian) if !found.debian => Err(format!(
                "{FORCE}=debian, but {DEBIAN_CARGO}, {DEBIAN_RUSTC} or core for BPF is missing: run `cargo xtask setup`"
            )),
            Some(Self::Rustup(name)) if !found.rustup => Err(format!(
                "{FORCE}={name}, but that toolchain or its rust-src is missing: run `cargo xtask setup`, or \
                 `rustup toolchain install {name} --component rust-src`"
            )),
            Some(forced) => Ok(forced),
            None if found.debian => Ok(Self::Debian),
            None if found.rustup => Ok(Self::Rustup("nightly".into())),
            None => Err("no Rust that compiles for BPF was found (neither Debian's rustc-web with \
                 libstd-rust-web-dev-bpf, nor rustup's nightly with rust-src): run `cargo xtask setup`"
                .into()),
        }
    }

    /// The compiler's command, for questions such as `-vV`.
    pub fn rustc(&self) -> Command {
        let mut command = match self {
            Self::Debian => Command::new(DEBIAN_RUSTC),
            Self::Rustup(name) => rustup_run(name, "rustc"),
        };
        for name in OUTER_BUILD {
            command.env_remove(name);
        }
        command
    }

    /// A few words for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Debian => "Debian's rustc-web with its prebuilt core for BPF".into(),
            Self::Rustup(name) => format!("rustup's {name} with rust-src"),
        }
    }
}

impl Found {
    /// Looks for both arrangements; starts no more than one short command.
    pub fn look(target: &str, forced: Option<&Arrangement>) -> Self {
        let debian = Path::new(DEBIAN_CARGO).exists()
            && Path::new(DEBIAN_RUSTC).exists()
            && has_core(&Path::new(DEBIAN_RUSTLIB).join(target).join("lib"));
        let asked = match forced {
            Some(Arrangement::Rustup(name)) => Some(name.as_str()),
            None if !debian => Some("nightly"),
            _ => None,
        };
        Self { debian, rustup: asked.is_some_and(has_sources) }
    }
}

/// Whether a target's library directory holds a prebuilt `core`.
fn has_core(libraries: &Path) -> bool {
    libraries.read_dir().is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("libcore-")))
    })
}

/// Whether a rustup toolchain is installed and has the sources of `core`.
fn has_sources(toolchain: &str) -> bool {
    let output = rustup_run(toolchain, "rustc").args(["--print", "sysroot"]).output();
    output.is_ok_and(|output| {
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        output.status.success() && sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
    })
}

/// `rustup run TOOLCHAIN PROGRAM`, which never installs the toolchain in passing.
fn rustup_run(toolchain: &str, program: &str) -> Command {
    let rustup = find("rustup").unwrap_or_else(|| "rustup".into());
    let mut command = Command::new(rustup);
    command.args(["run", toolchain, program]).env("RUSTUP_AUTO_INSTALL", "0");
    command
}

/// A program's path: where cargo installs to, or on PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Cargo's own directory, because set-up puts what fits there; then PATH's, and the administrator's, which a user's PATH
/// may lack.
pub fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let beyond = ["/usr/sbin".into(), "/sbin".into()];
    cargo_bin().into_iter().chain(env::split_paths(&path)).chain(beyond).collect()
}

/// Where `cargo install` puts programs.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from).or(home.map(|home| home.join(".cargo")));
    cargo_home.map(|home| home.join("bin"))
}

/// [`search_path`] as one value of PATH.
pub fn joined_search_path() -> OsString {
    env::join_paths(search_path()).unwrap_or_else(|_| env::var_os("PATH").unwrap_or_default())
}

/// The BPF target of a host.
pub fn target(endian: &str) -> &'static str {
    if endian == "big" { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// One build of the eBPF object.
#[derive(Debug, Clone)]
pub struct EbpfBuild<'a> {
    /// The workspace's directory, whose Cargo.lock decides the versions.
    pub workspace: &'a Path,
    /// A target directory apart from the outer build's, which cargo has locked.
    pub target_dir: &'a Path,
    /// The BPF target, as [`target`] says.
    pub target: &'a str,
    /// The host's architecture, for the layout of the kernel's own types.
    pub host_arch: &'a str,
}

impl EbpfBuild<'_> {
    /// The command that builds; it leaves the object at [`Self::object`].
    pub fn command(&self, arrangement: &Arrangement) -> Command {
        let mut command = match arrangement {
            Arrangement::Debian => Command::new(DEBIAN_CARGO),
            Arrangement::Rustup(name) => rustup_run(name, "cargo"),
        };
        command.arg("build");
        self.complete(&mut command, arrangement);
        command
    }

    /// The command that lints with the same compiler, warnings denied. It needs no linker.
    pub fn clippy(&self, arrangement: &Arrangement) -> Command {
        let mut command = match arrangement {
            Arrangement::Debian => Command::new(DEBIAN_CLIPPY),
            Arrangement::Rustup(name) => rustup_run(name, "cargo"),
        };
        command.arg("clippy");
        self.complete(&mut command, arrangement);
        if *arrangement == Arrangement::Debian {
            // It starts the cargo that this names, or else the first on PATH, which is rustup's.
            command.env("CARGO", DEBIAN_CARGO);
        }
        command.args(["--", "--deny", "warnings"]);
        command
    }

    /// What both commands have in common.
    fn complete(&self, command: &mut Command, arrangement: &Arrangement) {
        command
            .args(["--release", "--locked", "--package", "bulkhead-ebpf", "--bin", "programs"])
            .args(["--target", self.target])
            .arg("--manifest-path")
            .arg(self.workspace.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(self.target_dir)
            .current_dir(self.workspace);
        if matches!(arrangement, Arrangement::Rustup(_)) {
            command.args(["-Z", "build-std=core"]);
        }
        for name in OUTER_BUILD {
            command.env_remove(name);
        }
        command.envs(self.environment(arrangement));
    }

    /// Where the command leaves the object.
    pub fn object(&self) -> PathBuf {
        self.target_dir.join(self.target).join("release/programs")
    }

    fn environment(&self, arrangement: &Arrangement) -> BTreeMap<&'static str, OsString> {
        let flags = [
            "-Cdebuginfo=2".to_string(),
            "-Clink-arg=--btf".to_string(),
            // LLVM 22 crashes while it expands some of our copies in order (in its "post-RA pseudo instruction expansion").
            "-Clink-arg=--disable-expand-memcpy-in-order".to_string(),
            format!("--cfg=bpf_target_arch=\"{}\"", kernel_arch(self.host_arch)),
        ];
        let mut environment = BTreeMap::from([
            ("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}").into()),
            // bpf-linker optimises the whole program itself, and debug information is what BTF is made of.
            ("CARGO_PROFILE_RELEASE_LTO", "off".into()),
            ("CARGO_PROFILE_RELEASE_STRIP", "none".into()),
            ("CARGO_PROFILE_RELEASE_DEBUG", "2".into()),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1".into()),
            ("PATH", joined_search_path()),
        ]);
        if *arrangement == Arrangement::Debian {
            // Debian's compiler is a stable one; eBPF needs a few unstable features of it.
            environment.insert("RUSTC_BOOTSTRAP", "1".into());
            environment.insert("RUSTC", DEBIAN_RUSTC.into());
        }
        environment
    }
}

/// The kernel's types differ by architecture, not by its variants.
fn kernel_arch(host_arch: &str) -> &str {
    if host_arch.starts_with("riscv64") { "riscv64" } else { host_arch }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Found = Found { debian: true, rustup: true };
    const NONE: Found = Found { debian: false, rustup: false };

    fn nightly() -> Arrangement {
        Arrangement::Rustup("nightly".into())
    }

    #[test]
    fn debian_comes_first_and_nightly_stands_in() {
        assert_eq!(Arrangement::choose(None, &BOTH), Ok(Arrangement::Debian));
        assert_eq!(Arrangement::choose(None, &Found { rustup: true, ..NONE }), Ok(nightly()));
    }

    #[test]
    fn a_forced_arrangement_is_taken_or_refused_but_never_replaced() {
        assert_eq!(Arrangement::choose(Some(nightly()), &BOTH), Ok(nightly()));
        for (forced, found) in
            [(nightly(), Found { debian: true, ..NONE }), (Arrangement::Debian, Found { rustup: true, ..NONE })]
        {
            let problem = Arrangement::choose(Some(forced), &found).expect_err("half an arrangement is none");
            assert!(problem.contains("run `cargo xtask setup`"), "{problem}");
        }
    }

    #[test]
    fn finding_nothing_names_the_command_that_helps() {
        let problem = Arrangement::choose(None, &NONE).expect_err("there is nothing to choose");
        assert!(problem.contains("run `cargo xtask setup`"), "{problem}");
    }

    fn build() -> EbpfBuild<'static> {
        EbpfBuild {
            workspace: Path::new("/tree"),
            target_dir: Path::new("/tree/target/ebpf"),
            target: target("little"),
            host_arch: "riscv64gc",
        }
    }

    fn built_with(arrangement: &Arrangement) -> Command {
        assert_eq!(build().object(), Path::new("/tree/target/ebpf/bpfel-unknown-none/release/programs"));
        build().command(arrangement)
    }

    fn arguments(command: &Command) -> String {
        command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn variable(command: &Command, name: &str) -> Option<String> {
        let value = command.get_envs().find(|(key, _)| *key == name)?.1?;
        Some(value.to_string_lossy().into_owned())
    }

    #[test]
    fn debians_cargo_uses_debians_compiler_and_prebuilt_core() {
        let command = built_with(&Arrangement::Debian);
        assert_eq!(command.get_program(), DEBIAN_CARGO);
        assert!(arguments(&command).contains("--target bpfel-unknown-none"));
        assert!(!arguments(&command).contains("build-std"));
        assert_eq!(variable(&command, "RUSTC").as_deref(), Some(DEBIAN_RUSTC));
        assert_eq!(variable(&command, "RUSTC_BOOTSTRAP").as_deref(), Some("1"));
    }

    #[test]
    fn rustups_nightly_builds_core_along() {
        let command = built_with(&nightly());
        assert!(command.get_program().to_string_lossy().ends_with("rustup"));
        assert!(arguments(&command).starts_with("run nightly cargo build --release --locked"));
        assert!(arguments(&command).ends_with("-Z build-std=core"));
        assert_eq!(variable(&command, "RUSTC"), None);
        assert_eq!(variable(&command, "RUSTUP_AUTO_INSTALL").as_deref(), Some("0"));
    }

    #[test]
    fn each_arrangement_lints_with_its_own_clippy() {
        let debian = build().clippy(&Arrangement::Debian);
        assert_eq!(debian.get_program(), DEBIAN_CLIPPY);
        assert_eq!(variable(&debian, "CARGO").as_deref(), Some(DEBIAN_CARGO));
        let nightly = build().clippy(&nightly());
        assert!(arguments(&nightly).starts_with("run nightly cargo clippy --release --locked"));
        assert!(arguments(&nightly).ends_with("-Z build-std=core -- --deny warnings"));
    }

    #[test]
    fn the_outer_builds_flags_are_replaced() {
        let command = built_with(&Arrangement::Debian);
        let flags = variable(&command, "CARGO_ENCODED_RUSTFLAGS").expect("the flags are set");
        let flags: Vec<_> = flags.split('\u{1f}').collect();
        assert_eq!(
            flags,
            [
                "-Cdebuginfo=2",
                "-Clink-arg=--btf",
                "-Clink-arg=--disable-expand-memcpy-in-order",
                "--cfg=bpf_target_arch=\"riscv64\""
            ]
        );
        assert!(command.get_envs().any(|(key, value)| key == "RUSTC_WORKSPACE_WRAPPER" && value.is_none()));
    }
}
