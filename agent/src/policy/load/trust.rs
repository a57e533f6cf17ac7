//! Who else can change the policy: files, links and directories that somebody but root and the agent's own user can write.
//!
//! A file is as safe as every directory on the way to it: who can write in one can put another file in its place. A sticky
//! directory is fine, because there only a file's owner can: `/tmp`, or what Kubernetes mounts a ConfigMap in.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::problem::Problem;
use super::way::follow;
use super::{names, nowhere};

/// `S_ISVTX`: in such a directory a file is renamed and removed by its owner and the directory's alone.
const STICKY: u32 = 0o1000;
/// `S_IWGRP` and `S_IWOTH`. With an access control list, the former stands for everybody in it.
const GROUP: u32 = 0o020;
const OTHERS: u32 = 0o002;

/// Everything on the way to the policy files that others can change; what does not exist is not a matter of trust.
pub(crate) fn problems(paths: &[PathBuf]) -> Vec<Problem> {
    let mut found = BTreeMap::new();
    let mut look = |path: &Path| {
        if !found.contains_key(path) {
            let problem = fs::symlink_metadata(path).ok().and_then(|metadata| problem(path, &metadata));
            found.insert(path.to_owned(), problem);
        }
    };
    for path in paths {
        way(path, &mut look);
        // A file is its own only name, and was looked at.
        for name in names(path).into_iter().flatten().filter(|name| name != path) {
            way(&name, &mut look);
        }
    }
    found.into_values().flatten().collect()
}

fn way(path: &Path, look: &mut impl FnMut(&Path)) {
    let end = follow(path, |directory, name| {
        look(directory);
        look(&directory.join(name));
    });
    if let Ok(Some(end)) = end {
        look(&end);
    }
}

/// What is wrong with one file, link or directory.
pub(super) fn problem(path: &Path, metadata: &Metadata) -> Option<Problem> {
    let shown = path.display();
    let owner = metadata.uid();
    let link = metadata.is_symlink();
    let (what, option) = match metadata {
        it if it.is_dir() => ("directory", ""),
        it if it.is_file() => ("file", ""),
        _ if link => ("link", "-h "),
        // Nothing else is read.
        _ => return None,
    };
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        let message = format!("the {what} {shown} belongs to user {owner}, who could change the policy by it");
        return Some(nowhere(message, format!("make it root's: `chown {option}root {shown}`")));
    }
    let mode = metadata.mode();
    if link || metadata.is_dir() && mode & STICKY != 0 {
        return None;
    }
    let who = match mode & (GROUP | OTHERS) {
        0 => return None,
        GROUP => format!("group {}", metadata.gid()),
        _ => "everybody".to_owned(),
    };
    let message = format!("the {what} {shown} can be written by {who}, who could change the policy by it");
    Some(nowhere(message, format!("take that from them: `chmod go-w {shown}`")))
}

#[cfg(test)]
mod tests;
