//! The kernel: a package of Debian's, downloaded once by an apt configuration of our own, and unpacked without root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Kernel;

/// The package that depends on the newest kernel of a release; "cloud" is the one for virtual machines.
const META: &str = "linux-image-cloud-amd64";

/// The archive, and who signs it.
const ARCHIVE: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A kernel on this machine's disk.
#[derive(Debug)]
pub struct Package {
    /// What `uname -r` says in it.
    pub release: String,
    /// Everything about it.
    pub directory: PathBuf,
}

impl Package {
    /// The one that was downloaded before, or the newest.
    pub fn get(kernel: Kernel) -> Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            bail!("other kernels can only be tested on x86-64, whose virtual machine runs the binaries made here");
        }
        let directory = kernel.directory();
        // Written last, so that what is there is whole.
        let mark = directory.join("release");
        if let Ok(release) = fs::read_to_string(&mark) {
            return Ok(Self { release, directory });
        }
        let apt = Apt::new(&directory, kernel.suite())?;
        let name = apt.newest()?;
        let release = name.trim_start_matches("linux-image-").to_owned();
        if !release.starts_with(&format!("{kernel}.")) {
            bail!("Debian's {} has {release}, which is no {kernel}", kernel.suite());
        }
        eprintln!("vm: downloading {name}, about 30 MB");
        let archive = apt.download(&name)?;
        let package = Self { release, directory };
        let unpacked = package.unpacked();
        succeed(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&unpacked))?;
        fs::remove_file(&archive)?;
        succeed(Command::new("depmod").arg("--basedir").arg(&unpacked).arg(&package.release))?;
        fs::write(mark, &package.release)?;
        Ok(package)
    }

    fn unpacked(&self) -> PathBuf {
        self.directory.join("package")
    }

    /// The kernel to boot.
    pub fn image(&self) -> PathBuf {
        self.unpacked().join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The files of a module and of those that it needs, below the modules' directory; none where the kernel has it built in.
    pub fn module(&self, name: &str) -> Result<Vec<PathBuf>> {
        let mut command = Command::new("modprobe");
        // Without this machine's own configuration of modules.
        command.args(["--config", "/dev/null"]);
        command.arg("--dirname").arg(self.unpacked()).args(["--set-version", &self.release, "--show-depends", name]);
        Ok(files(&output(&mut command)?))
    }

    /// The root of the tree that the modules lie in.
    pub fn root(&self) -> PathBuf {
        self.unpacked()
    }
}

/// The files in what `modprobe --show-depends` prints: `insmod /path/to/module.ko`, or `builtin name`.
fn files(printed: &str) -> Vec<PathBuf> {
    printed.lines().filter_map(|line| line.strip_prefix("insmod ")).map(|path| path.trim().into()).collect()
}

/// apt with one source of its own, which leaves the system's alone.
struct Apt<'a> {
    directory: &'a Path,
    options: Vec<String>,
}

impl<'a> Apt<'a> {
    fn new(directory: &'a Path, suite: &str) -> Result<Self> {
        let (lists, cache) = (directory.join("apt/lists"), directory.join("apt/cache"));
        for parts in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&parts).with_context(|| format!("{} can't be made", parts.display()))?;
        }
        let sources = directory.join("apt/sources.list");
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {ARCHIVE} {suite} main\n"))?;
        let options = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=-".into(),
            format!("Dir::State::lists={}", lists.display()),
            format!("Dir::Cache={}", cache.display()),
            // As root, apt would have another user fetch, who may not write here.
            "APT::Sandbox::User=root".into(),
        ];
        let apt = Self { directory, options: options.into_iter().flat_map(|it| ["-o".into(), it]).collect() };
        eprintln!("vm: apt-get update, for {suite} alone");
        succeed(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).current_dir(self.directory);
        command
    }

    fn newest(&self) -> Result<String> {
        let printed = output(self.command("apt-cache").args(["depends", META]))?;
        let name = printed.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(name.with_context(|| format!("{META} names no kernel:\n{printed}"))?.to_owned())
    }

    fn download(&self, name: &str) -> Result<PathBuf> {
        succeed(self.command("apt-get").args(["-qq", "download", name]))?;
        let mut entries = fs::read_dir(self.directory)?.filter_map(Result::ok).map(|entry| entry.path());
        let archive = entries.find(|path| path.extension().is_some_and(|it| it == "deb"));
        archive.with_context(|| format!("apt-get downloaded no package {name}"))
    }
}

/// Runs a command that has nothing to say.
pub fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("{} does not start", program.display()))?;
    if !status.success() {
        bail!("{} failed ({status}); its message is above", program.display());
    }
    Ok(())
}

/// What a command prints.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("{} does not start", program.display()))?;
    if !output.status.success() {
        bail!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_those_that_it_needs_and_what_is_built_in_has_no_file() {
        let printed = "builtin unix\ninsmod /m/kernel/net/802/stp.ko \ninsmod /m/kernel/net/bridge/bridge.ko.xz \n";
        assert_eq!(
            files(printed),
            [Path::new("/m/kernel/net/802/stp.ko"), Path::new("/m/kernel/net/bridge/bridge.ko.xz")]
        );
    }
}
