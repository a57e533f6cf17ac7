//! The agent's own cgroup: what it does to learn who is who can't wait until it is known who it is.
//!
//! In a pod it has a cgroup that nobody knows yet, below a scope that may deny what nobody knows; and each update of it is a new
//! pod. So its own cgroup is the host's, whatever becomes of the pod.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::ManagedScope;

/// The kernel's ID of the cgroup that this process is in, where that is below one of `scopes`.
pub(super) fn own_cgroup(root: &Path, scopes: &[ManagedScope]) -> Option<u64> {
    let own = format!("{}", std::process::id());
    // A container's own view of its path says nothing: it begins at the container. But its processes are where they are.
    let found = scopes.iter().find_map(|scope| holder(&root.join(&scope.path), &own))?;
    fs::metadata(found).ok().map(|metadata| metadata.ino())
}

/// The cgroup at or below `path` whose processes include `process`.
fn holder(path: &Path, process: &str) -> Option<PathBuf> {
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    if processes.lines().any(|line| line == process) {
        return Some(path.to_owned());
    }
    let below = fs::read_dir(path).ok()?.filter_map(Result::ok);
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.into_iter().find_map(|entry| holder(&entry.path(), process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_in_its_cgroup_however_deep() {
        let root = tempfile::tempdir().expect("a place for temporary files");
        let own = root.path().join("kubepods/burstable/pod1/container");
        fs::create_dir_all(&own).expect("it can be made");
        fs::create_dir_all(root.path().join("kubepods/pod2")).expect("it can be made");
        fs::write(root.path().join("kubepods/pod2/cgroup.procs"), format!("{}0\n1\n", std::process::id()))
            .expect("a file");
        let scopes = [ManagedScope { path: "kubepods".to_owned(), denies: true }];
        assert_eq!(own_cgroup(root.path(), &scopes), None);
        fs::write(own.join("cgroup.procs"), format!("0\n{}\n", std::process::id())).expect("a file");
        let expected = fs::metadata(&own).expect("it is there").ino();
        assert_eq!(own_cgroup(root.path(), &scopes), Some(expected));
    }
}
