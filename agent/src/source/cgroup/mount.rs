//! Where cgroup2 is mounted.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::exit::{Exit, Failure};

/// Where distributions mount cgroup2: alone, and beside the version 1 controllers.
const USUAL: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The root of the cgroup v2 tree, as this mount namespace has it.
///
/// # Errors
/// cgroup2 is not mounted, or /proc cannot be read; the failure says what to do.
pub fn cgroup_root() -> Result<PathBuf, Failure> {
    const MOUNTS: &str = "/proc/self/mountinfo";
    let mounts = fs::read(MOUNTS).map_err(|error| {
        let error = anyhow::Error::from(error).context(format!("cannot read {MOUNTS}"));
        Failure::new(Exit::OsErr, error, "mount /proc, or give --cgroup-root")
    })?;
    find(&mounts).ok_or_else(|| {
        Failure::message(
            Exit::Unavailable,
            "no cgroup2 is mounted here",
            "mount it (mount -t cgroup2 none /sys/fs/cgroup/unified), in a container mount the host's /sys/fs/cgroup, or \
             give --cgroup-root",
        )
    })
}

/// The best cgroup2 mount of a mountinfo (see proc(5)): one of the tree's root before one of a part of it, a usual place
/// before others.
fn find(mounts: &[u8]) -> Option<PathBuf> {
    let found = mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
        // Optional fields end with a hyphen; the file system's type is next.
        let hyphen = fields.iter().position(|field| *field == b"-")?;
        if *fields.get(hyphen + 1)? != b"cgroup2" {
            return None;
        }
        let whole = *fields.get(3)? == b"/";
        let path = PathBuf::from(OsString::from_vec(unescape(fields.get(4)?)));
        let usual = USUAL.iter().any(|usual| path.as_os_str() == *usual);
        Some((whole, usual, path))
    });
    // Of equals the first is taken, so that the answer does not change with later mounts.
    found.reduce(|best, next| if (next.0, next.1) > (best.0, best.1) { next } else { best }).map(|(.., path)| path)
}

/// Blanks, tabs, line ends and backslashes stand as three octal digits after a backslash.
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        text = rest;
        match (first, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                text = after;
            }
            _ => plain.push(*first),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::cgroup::id_of;

    fn found(mounts: &str) -> Option<String> {
        find(mounts.as_bytes()).map(|path| path.display().to_string())
    }

    #[test]
    fn cgroup2_is_found_alone_and_beside_version_1() {
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(found(pure).as_deref(), Some("/sys/fs/cgroup"));
        let hybrid = "31 23 0:27 / /sys/fs/cgroup ro,nosuid shared:4 - tmpfs tmpfs ro,mode=755\n\
                      32 31 0:28 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw\n\
                      33 31 0:29 / /sys/fs/cgroup/systemd rw shared:6 - cgroup cgroup rw,name=systemd\n";
        assert_eq!(found(hybrid).as_deref(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(found("31 23 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn the_whole_tree_in_its_usual_place_is_preferred() {
        let part = "40 23 0:28 /kubepods /run/part rw - cgroup2 cgroup2 rw\n";
        let odd = "41 23 0:28 / /mnt/odd\\040place rw - cgroup2 cgroup2 rw\n";
        let usual = "42 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(&format!("{part}{odd}{usual}")).as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(found(&format!("{part}{odd}")).as_deref(), Some("/mnt/odd place"));
        assert_eq!(found(part).as_deref(), Some("/run/part"));
    }

    #[test]
    fn this_hosts_cgroup_root_has_an_id() {
        let root = cgroup_root().expect("tests run on a host with cgroup2");
        assert!(id_of(&root).expect("it is a directory") > 0);
        assert!(root.join("cgroup.procs").exists());
    }
}
