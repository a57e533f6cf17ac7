//! What policy files say, short enough to keep and compare.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::policy::load::{MAX_FILE, is_policy, trust};
use crate::policy::problem::Problem;

/// A digest of every policy file, or why it cannot be read; and what others can change, which is refused like what is wrong in a
/// file, and mended without an edit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contents(BTreeMap<PathBuf, Result<u64, io::ErrorKind>>, Vec<Problem>);

impl Contents {
    /// Reads everything.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut files = BTreeMap::new();
        for path in paths {
            match fs::read_dir(path) {
                Ok(entries) => {
                    let names = entries.flatten().filter(|entry| is_policy(&entry.path()));
                    files.extend(names.map(|entry| (entry.path(), digest(&entry.path()))));
                    // An empty directory differs from none.
                    files.insert(path.clone(), Ok(0));
                }
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    files.insert(path.clone(), digest(path));
                }
                Err(error) => drop(files.insert(path.clone(), Err(error.kind()))),
            }
        }
        Self(files, trust::problems(paths))
    }
}

fn digest(path: &Path) -> Result<u64, io::ErrorKind> {
    // Anything but a file might never come to an end.
    if !fs::metadata(path).map_err(|error| error.kind())?.is_file() {
        return Err(io::ErrorKind::InvalidInput);
    }
    let mut hasher = DefaultHasher::new();
    let mut bytes = Vec::new();
    // What is larger is refused, whatever it says.
    let file = File::open(path).map_err(|error| error.kind())?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.kind())?;
    bytes.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_files_are_known_by_their_names() {
        for name in ["web.yaml", "web.yml", "a.b.yaml"] {
            assert!(is_policy(name.as_ref()), "{name}");
        }
        for name in ["web.json", "yaml", ".yaml", ".web.yaml.swp", ".#web.yaml", "web.yaml~", "..data", "4913"] {
            assert!(!is_policy(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn only_what_is_said_counts() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let paths = [directory.path().to_owned(), directory.path().join("later.yaml")];
        let file = directory.path().join("web.yaml");
        let empty = Contents::of(&paths);
        fs::write(&file, "a").expect("writing");
        let one = Contents::of(&paths);
        assert_ne!(one, empty);

        fs::write(directory.path().join(".web.yaml.swp"), "b").expect("writing");
        fs::write(&file, "a").expect("writing");
        assert_eq!(Contents::of(&paths), one);

        fs::write(&file, "b").expect("writing");
        let changed = Contents::of(&paths);
        assert_ne!(changed, one);
        fs::rename(&file, &paths[1]).expect("renaming");
        assert_ne!(Contents::of(&paths), changed);
    }

    #[test]
    fn who_may_write_counts_without_an_edit() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("web.yaml");
        fs::write(&file, "a").expect("writing");
        let look = |mode: u32| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
            Contents::of(&[directory.path().to_owned()])
        };
        assert_ne!(look(0o644), look(0o666));
        assert_eq!(look(0o644), look(0o600), "who may read it does not");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        nix::unistd::mkfifo(&directory.path().join("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        fs::create_dir(directory.path().join("directory.yaml")).expect("a directory");
        assert_eq!(Contents::of(&[directory.path().to_owned()]).0.len(), 3);
    }
}
