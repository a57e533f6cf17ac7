//! From paths to a [`PolicySet`]: files, and directories of them.

pub(crate) mod trust;
pub(crate) mod way;

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::model::{Origin, PolicySet};
use super::problem::Problem;
use super::validate::{PolicyFile, validate_after};

/// Largest policy file, in bytes: four times what a Kubernetes ConfigMap holds.
pub const MAX_FILE: u64 = 4 << 20;
/// How often a directory that loses files meanwhile is read before it is said that they can't be.
const TRIES: usize = 16;

/// Loads every file that `paths` name: files as they are, and of directories (not of theirs) the *.yaml and *.yml files, in
/// order of their names. Hidden entries are passed over, so that a mounted ConfigMap's `..data` is not read twice.
///
/// # Errors
/// Every problem, of files that can't be read, of what others than root and the agent's user can change, and of what stands in
/// the files.
pub fn load(paths: &[PathBuf]) -> Result<PolicySet, Vec<Problem>> {
    let (files, problems) = read_trusted(paths);
    judge(&files, problems)
}

/// As [`load`], but the files themselves, each of them right beside the others: for who judges them with more.
///
/// # Errors
/// As [`load`].
pub fn load_files(paths: &[PathBuf]) -> Result<Vec<PolicyFile>, Vec<Problem>> {
    let (files, problems) = read_trusted(paths);
    judge(&files, problems).map(|_| files)
}

fn read_trusted(paths: &[PathBuf]) -> (Vec<PolicyFile>, Vec<Problem>) {
    let mut problems = trust::problems(paths);
    // Once more with the files in hand, should one have been replaced meanwhile.
    let (files, unread) = read_those(paths, trust::problem);
    unread.into_iter().for_each(|problem| note(&mut problems, problem));
    (files, problems)
}

/// Validates files that were read, and what was wrong with the others.
pub(crate) fn judge(files: &[PolicyFile], problems: Vec<Problem>) -> Result<PolicySet, Vec<Problem>> {
    validate_after(files, problems)
}

/// The files that `paths` name, and what is wrong with those that can't be read.
pub(crate) fn read(paths: &[PathBuf]) -> (Vec<PolicyFile>, Vec<Problem>) {
    read_those(paths, |_, _| None)
}

/// What `objects` objects to is not read, and what it says is a problem.
fn read_those(
    paths: &[PathBuf],
    objects: impl Fn(&Path, &Metadata) -> Option<Problem>,
) -> (Vec<PolicyFile>, Vec<Problem>) {
    let mut files: Vec<PolicyFile> = Vec::new();
    let mut problems = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for path in paths {
        let (read, bad) = read_one(path, &objects);
        // A file that is named twice is still one file.
        files.extend(read.into_iter().filter(|file| seen.insert(file.path.clone())));
        bad.into_iter().for_each(|problem| note(&mut problems, problem));
    }
    if paths.is_empty() {
        problems
            .push(nowhere("no policy files are named".to_owned(), "name a file, or a directory of them".to_owned()));
    }
    (files, problems)
}

/// What stands at one path. A directory that loses a file while it is read is read again: what was taken for gone may have got
/// another name, and a policy without it would be one that nobody wrote.
fn read_one(path: &Path, objects: &impl Fn(&Path, &Metadata) -> Option<Problem>) -> (Vec<PolicyFile>, Vec<Problem>) {
    let mut tries = 0;
    loop {
        tries += 1;
        let (mut files, mut problems, mut lost) = (Vec::new(), Vec::new(), false);
        match names(path) {
            Ok(names) => {
                for name in names {
                    match text(&name, objects) {
                        Ok(text) => files.push(PolicyFile { path: Arc::new(name), text }),
                        Err(problem) => {
                            lost |= name != path && is_gone(&name);
                            problems.push(problem);
                        }
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
        if !lost || tries == TRIES {
            return (files, problems);
        }
    }
}

/// Whether there is not even a link of this name.
fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The files behind one path.
fn names(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| unreadable(path, &error))?.path();
        // A link that leads nowhere is a file that can't be read, not one that is not there.
        if is_policy(&name) && !name.is_dir() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(nowhere(
            format!("there are no policy files in {}", path.display()),
            "put at least one *.yaml or *.yml file there, or name another directory".to_owned(),
        ));
    }
    names.sort();
    Ok(names)
}

/// Whether an entry of a policy directory is one of policy, by its name: `*.yaml` or `*.yml`, and not hidden, as editors' locks
/// are.
pub(crate) fn is_policy(path: &Path) -> bool {
    let visible = path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    visible && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn text(path: &Path, objects: impl Fn(&Path, &Metadata) -> Option<Problem>) -> Result<String, Problem> {
    let open = || -> io::Result<(File, Metadata)> {
        // To open anything else may take for ever.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    };
    let unreadable = |error| unreadable(path, &error);
    let (file, metadata) = open().map_err(unreadable)?;
    if metadata.is_file()
        && let Some(problem) = objects(&fs::canonicalize(path).map_err(unreadable)?, &metadata)
    {
        return Err(problem);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(nowhere(
            format!("{} is larger than {} MiB", path.display(), MAX_FILE >> 20),
            "cut it into several files".to_owned(),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (valid, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let valid = String::from_utf8_lossy(valid);
        let column = valid.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let line = valid.matches('\n').count() + 1;
        Problem {
            origin: Some(Origin { file: Arc::new(path.to_owned()), line, column }),
            message: "this is no UTF-8 text".to_owned(),
            cure: "save the file as UTF-8, and see that it is the right one".to_owned(),
        }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let cure = match error.kind() {
        io::ErrorKind::NotFound => "see whether the path is right",
        io::ErrorKind::PermissionDenied => "let the user that runs this read it, or use sudo",
        _ => "see that it is a regular file, or a directory, that can be read",
    };
    nowhere(format!("cannot read {}: {error}", path.display()), cure.to_owned())
}

/// Tells a problem once.
fn note(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// A problem that no place in a file is to blame for.
fn nowhere(message: String, cure: String) -> Problem {
    Problem { origin: None, message, cure }
}

#[cfg(test)]
mod tests;
