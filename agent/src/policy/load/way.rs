//! The way to a policy file: every name that is looked up, link by link.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many symbolic links as the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

/// Resolves a path as the kernel does, and notes each directory with the name that is looked up there. `None` where it does not
/// exist.
///
/// # Errors
/// A link that can't be read.
pub(crate) fn follow(path: &Path, mut note: impl FnMut(&Path, &OsStr)) -> io::Result<Option<PathBuf>> {
    let mut ahead: Vec<OsString> = steps(&absolute(path));
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        if step == "/" {
            here = PathBuf::from("/");
        } else if step == ".." {
            here.pop();
        } else {
            note(&here, &step);
            let next = here.join(&step);
            match fs::symlink_metadata(&next) {
                Ok(metadata) if metadata.is_symlink() && links < LINKS => {
                    links += 1;
                    ahead.extend(steps(&fs::read_link(&next)?));
                }
                Ok(_) => here = next,
                Err(_) => return Ok(None),
            }
        }
    }
    Ok(Some(here))
}

/// The path itself, or what it is below the working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The components of a path, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().filter(|component| *component != Component::CurDir);
    steps.rev().map(|component| component.as_os_str().to_owned()).collect()
}
