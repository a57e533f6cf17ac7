//! Debian's packages.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::scratch::Scratch;
use crate::privilege;

/// apt, its lists fetched at most once.
#[derive(Debug, Default)]
pub struct Apt {
    updated: bool,
}

impl Apt {
    /// Installs packages without what they merely recommend.
    pub fn install(&mut self, packages: &[&str]) -> Result<()> {
        self.update()?;
        eprintln!("setup: apt-get install {}", packages.join(" "));
        let mut command = privilege::as_root("env")?;
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0", "install"]);
        command.args(["--yes", "--no-install-recommends"]).args(packages);
        succeed(&mut command).with_context(|| {
            format!(
                "apt-get can't install {}: its message is above (bookworm-security has to be a source)",
                packages.join(" ")
            )
        })
    }

    /// Takes one program out of a package that is not installed, because it would start a service.
    pub fn unpack(&mut self, package: &str, program: &str, into: &Path) -> Result<()> {
        self.update()?;
        eprintln!("setup: {program} goes to {}, out of the package {package}", into.display());
        unpack_in(&Scratch::new("package")?.0, package, program, into)
    }

    fn update(&mut self) -> Result<()> {
        if !self.updated {
            eprintln!("setup: apt-get update");
            succeed(privilege::as_root("apt-get")?.args(["-qq", "update"])).context("apt-get can't fetch its lists")?;
            self.updated = true;
        }
        Ok(())
    }
}

fn unpack_in(directory: &Path, package: &str, program: &str, into: &Path) -> Result<()> {
    // As root, apt would have another user fetch, to whom the directory is closed.
    let download = ["-qq", "-o", "APT::Sandbox::User=root", "download", package];
    succeed(Command::new("apt-get").args(download).current_dir(directory))?;
    let files = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let Some(archive) =
        files.iter().map(fs::DirEntry::path).find(|path| path.extension().is_some_and(|it| it == "deb"))
    else {
        bail!("apt-get downloaded no package {package}");
    };
    let tree = directory.join("tree");
    succeed(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&tree))?;
    fs::create_dir_all(into)?;
    // A running program can't be written over, but it can be replaced.
    let (from, new, to) =
        (tree.join("usr/bin").join(program), into.join(format!(".{program}.new")), into.join(program));
    fs::copy(&from, &new).with_context(|| format!("{package} has no {program}"))?;
    fs::rename(&new, &to).with_context(|| format!("{} can't be written", to.display()))
}

/// Runs a command whose output people read; standard output is not ours to use.
pub fn succeed(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdout(io::stderr()).status().with_context(|| format!("{name} does not start"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}
