//! Where a lab is: its directories, its cgroup root, its bpffs and the host's network namespace; all gone when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::cgroup;
use super::namespace::Namespace;

/// What every name of a lab's begins with; the process ID and a number follow.
pub(super) const PREFIX: &str = "bulkhead-lab-";

/// Where a lab is.
#[derive(Debug)]
pub struct Site {
    /// The lab's directory.
    pub directory: PathBuf,
    /// The cgroup that the agent takes for the root of the tree.
    pub cgroup_root: PathBuf,
    /// The host's network namespace.
    pub host: Namespace,
}

impl Site {
    pub(super) fn new() -> Result<Self> {
        static NUMBERS: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed));
        let site = Self {
            directory: std::env::temp_dir().join(&name),
            cgroup_root: cgroup::mount_point()?.join(&name),
            host: Namespace::new()?,
        };
        for directory in [&site.directory, &site.policies(), &site.bpffs(), &site.directory.join("staging")] {
            fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        cgroup::make(&site.cgroup_root)?;
        mount(Some("bpf"), &site.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount a bpffs at {}", site.bpffs().display()))?;
        Ok(site)
    }

    /// The directory of the policy files.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.directory.join("policies")
    }

    /// The lab's bpffs.
    #[must_use]
    pub fn bpffs(&self) -> PathBuf {
        self.directory.join("bpffs")
    }

    /// The agent's admin socket.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    /// The agent's log, of all its starts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// Writes a policy file in one step.
    ///
    /// # Errors
    /// The system refuses.
    pub fn write_policy(&self, file: &str, text: &str) -> Result<()> {
        let staged = self.directory.join("staging").join(file);
        fs::write(&staged, text)?;
        Ok(fs::rename(&staged, self.policies().join(file))?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        clear(&self.directory, &self.cgroup_root);
    }
}

/// Takes away what a lab leaves on the machine. What cannot be taken away is told, never a reason to stop.
pub(super) fn clear(directory: &Path, cgroup_root: &Path) {
    let bpffs = directory.join("bpffs");
    // Another mount namespace may hold the bpffs, and with it the pins: so they go one by one first.
    let pins = bpffs.join("bulkhead");
    tell(&pins, fs::remove_dir_all(&pins));
    // It may be that it was never mounted.
    let _ = umount2(&bpffs, MntFlags::MNT_DETACH);
    tell(cgroup_root, cgroup::remove(cgroup_root));
    tell(directory, fs::remove_dir_all(directory));
}

fn tell(path: &Path, result: std::io::Result<()>) {
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("the lab cannot remove {}: {error}; remove it by hand", path.display());
    }
}
