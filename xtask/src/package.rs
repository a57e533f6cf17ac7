//! `cargo xtask package`: the agent as a Debian package.
//!
//! A tree of files as they shall lie on the host, the control files beside it, and dpkg-deb: nothing else has to be
//! installed than dpkg-dev, which every Debian that compiles has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{self, Purpose};
use crate::workspace::{self, Profile};

mod control;

/// Build the agent in release, pack it with its unit and its examples, and print the package's path.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Pack this binary instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The package's version [default: the agent's]
    #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"), hide_default_value = true)]
    version: String,
    /// Where the package goes [default: target/package]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Compress little, for a package that is not kept
    #[arg(long)]
    fast: bool,
}

/// Where policies are read.
const POLICIES: &str = "etc/bulkhead/policies";
/// Where documentation goes.
const DOCUMENTATION: &str = "usr/share/doc/bulkhead";
/// Completion scripts, by the shell's name to `bulkhead completions`.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/bulkhead"),
    ("zsh", "usr/share/zsh/vendor-completions/_bulkhead"),
    ("fish", "usr/share/fish/vendor_completions.d/bulkhead.fish"),
];

/// Where manual pages go.
const PAGES: &str = "usr/share/man/man8";

/// Builds, packs, and prints the package's path.
pub fn run(options: &Options) -> Result<ExitCode> {
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => {
            setup::ensure(Purpose::Package)?;
            workspace::binary(&workspace::build(Profile::Release)?, "bulkhead")?.to_owned()
        }
    };
    let output = options.output.clone().unwrap_or_else(|| workspace::root().join("target/package"));
    fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let output = output.canonicalize()?;
    let architecture = stdout(Command::new("dpkg").arg("--print-architecture"))?;
    let name = format!("bulkhead_{}_{}", options.version, architecture.trim());
    let tree = output.join(&name);
    // An interrupted run may have left one.
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    let package = output.join(format!("{name}.deb"));
    let packed = pack(options, &binary, &tree, architecture.trim(), &package);
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    packed?;
    println!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

fn pack(options: &Options, binary: &Path, tree: &Path, architecture: &str, package: &Path) -> Result<()> {
    let source = workspace::root();
    let put = |from: &Path, to: &str, mode: u32| -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        write(&tree.join(to), &bytes, mode)
    };
    put(binary, "usr/bin/bulkhead", 0o755)?;
    put(&source.join("deploy/bulkhead.service"), "usr/lib/systemd/system/bulkhead.service", 0o644)?;
    put(&source.join("deploy/bulkhead.default"), "etc/default/bulkhead", 0o644)?;
    directory(&tree.join(POLICIES))?;
    for entry in fs::read_dir(source.join("policies"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        put(&path, &format!("{DOCUMENTATION}/examples/{name}"), 0o644)?;
    }
    let licences: Vec<String> = ["LICENSE-APACHE", "LICENSE-MIT"]
        .iter()
        .map(|name| fs::read_to_string(source.join(name)).with_context(|| format!("cannot read {name}")))
        .collect::<Result<_>>()?;
    let copyright =
        format!("Bulkhead is licensed under either of these two, as you like.\n\n{}", licences.join("\n\n"));
    write(&tree.join(DOCUMENTATION).join("copyright"), copyright.as_bytes(), 0o644)?;
    for (shell, path) in COMPLETIONS {
        let script = stdout(Command::new(binary).args(["completions", shell]))?;
        write(&tree.join(path), script.as_bytes(), 0o644)?;
    }
    pages(binary, &tree.join(PAGES))?;

    for script in ["postinst", "prerm", "postrm"] {
        put(&source.join("deploy/debian").join(script), &format!("DEBIAN/{script}"), 0o755)?;
    }
    write(&tree.join("DEBIAN/conffiles"), b"/etc/default/bulkhead\n", 0o644)?;
    let control = control::control(&options.version, architecture, &control::depends(binary)?, installed_kib(tree)?);
    write(&tree.join("DEBIAN/control"), control.as_bytes(), 0o644)?;

    let mut build = Command::new("dpkg-deb");
    build.args(["--build", "--root-owner-group"]).args(if options.fast { &["-Zgzip", "-z1"][..] } else { &["-Zxz"] });
    // The same tree shall give the same package.
    if let Ok(time) = stdout(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(source)) {
        build.env("SOURCE_DATE_EPOCH", time.trim());
    }
    stdout(build.arg(tree).arg(package))?;
    Ok(())
}

/// Manual pages, compressed as Debian has them (policy, section 12.1).
fn pages(binary: &Path, place: &Path) -> Result<()> {
    directory(place)?;
    output(Command::new(binary).args(["man", "--output"]).arg(place))?;
    for entry in fs::read_dir(place)?.collect::<std::io::Result<Vec<_>>>()? {
        let page = entry.path();
        // Without a time: the same page shall give the same file.
        output(Command::new("gzip").args(["-9", "--no-name"]).arg(&page))?;
        fs::set_permissions(page.with_added_extension("gz"), fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// A file with its directories, whatever the umask.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    directory(path.parent().expect("a file of the tree is in a directory"))?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// A directory with those above it, readable by all as far as they are new.
fn directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    directory(path.parent().expect("the tree is below the output directory, which exists"))?;
    fs::create_dir(path).with_context(|| format!("cannot make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// What the files of a tree take, in KiB, each rounded up, without the control files.
fn installed_kib(tree: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        if entry.file_name() == "DEBIAN" {
            continue;
        }
        sum += if entry.file_type()?.is_dir() {
            1 + installed_kib(&entry.path())?
        } else {
            entry.metadata()?.len().div_ceil(1024)
        };
    }
    Ok(sum)
}

/// Runs a program to its end and gives what it wrote, which is something.
fn stdout(command: &mut Command) -> Result<String> {
    let text = output(command)?;
    ensure!(!text.is_empty(), "{} says nothing", command.get_program().display());
    Ok(text)
}

/// Runs a program to its end and gives what it wrote.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| {
        format!("{program} does not start; on Debian it is in git, dpkg or dpkg-dev: apt-get install git dpkg-dev")
    })?;
    if !output.status.success() {
        bail!("{program} fails: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} does not write UTF-8"))
}
