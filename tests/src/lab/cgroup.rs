//! A cgroup tree of the lab's own, below where cgroup2 is mounted: hybrid hierarchies and pure ones alike.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// How long processes may take to leave a cgroup after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where cgroup2 is mounted in this mount namespace.
///
/// # Errors
/// It is not mounted.
pub fn mount_point() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    mounts.lines().find_map(mount_point_of).ok_or_else(|| {
        anyhow!("cgroup2 is not mounted; mount it with `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`")
    })
}

/// The mount point in a line of mountinfo, where that is a cgroup2 mounted whole (see proc_pid_mountinfo(5)).
fn mount_point_of(line: &str) -> Option<PathBuf> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (root == "/" && kind.starts_with("cgroup2 ")).then(|| point.into())
}

/// Makes a cgroup, and those above it.
///
/// # Errors
/// The system refuses.
pub fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the cgroup {}", path.display()))
}

/// Removes a cgroup with everything below it, killing what still runs there: the lab put it there.
///
/// # Errors
/// Processes that do not go, or the system refuses.
pub fn remove(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // cgroup.kill came with Linux 5.14; the lab kills its processes one by one anyhow.
        let _ = fs::write(path.join("cgroup.kill"), "1");
        match remove_tree(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_and_pure_hierarchies_are_found() {
        let hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(mount_point_of(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point_of(pure), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_part_of_a_tree_and_version_one_are_not_taken_for_it() {
        let part = "50 31 0:38 /docker/1 /mnt rw - cgroup2 cgroup2 rw";
        let old = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(mount_point_of(part), None);
        assert_eq!(mount_point_of(old), None);
    }
}
