//! Whether a trail is whole, and where it is not.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::{Entry, NOTHING};

/// The newest entry, as the file beside the trail has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its sequence.
    pub sequence: u64,
    /// Its hash.
    pub hash: String,
}

/// A place where the trail is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verified {
    /// Entries that were read.
    pub entries: u64,
    /// The newest one.
    pub head: Option<HeadView>,
    /// What is wrong, in the order of the trail.
    pub faults: Vec<Fault>,
}

/// The newest entry of a trail, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HeadView {
    /// Its sequence.
    pub sequence: u64,
    /// When.
    pub time: String,
    /// Its hash.
    pub hash: String,
}

/// The files of a trail, the oldest first: those that were rotated, and the one in use.
///
/// # Errors
/// The directory can't be read.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut rotated: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?.path();
        let of = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(number) = of.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.')?.parse().ok()) {
            rotated.push((number, entry));
        }
    }
    rotated.sort();
    let mut files: Vec<PathBuf> = rotated.into_iter().map(|(_, path)| path).collect();
    if path.exists() || files.is_empty() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Where the newest hash is kept.
#[must_use]
pub fn head_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".head");
    name.into()
}

/// Reads every entry of a trail's files and says what does not hold. `expected` is a hash that was kept elsewhere: it has to be in the trail.
///
/// # Errors
/// A file can't be read.
pub fn verify(path: &Path, expected: Option<&str>) -> io::Result<Verified> {
    let mut found = Verified::default();
    let mut chain: Option<(u64, String)> = None;
    let mut has_expected = expected.is_none();
    let mut hash_at_head = None;
    let head: Option<Head> = fs::read(head_path(path)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    for file in files(path)? {
        let text = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
        let mut fault = |line: usize, what: String| found.faults.push(Fault { file: file.clone(), line, what });
        if !text.is_empty() && !text.ends_with('\n') {
            fault(text.lines().count(), "the last line is cut off".to_owned());
        }
        for (line, text) in (1..).zip(text.lines()) {
            let Ok(entry) = serde_json::from_str::<Entry>(text) else {
                fault(line, "this is no entry: it was edited, or cut off".to_owned());
                continue;
            };
            let (sequence, previous) = chain.clone().unwrap_or((0, NOTHING.to_owned()));
            if entry.text() != text || entry.own_hash() != entry.hash {
                fault(line, format!("entry {} was edited: its hash is not that of its text", entry.sequence));
            }
            if entry.sequence != sequence + 1 {
                let what = match entry.sequence.cmp(&(sequence + 1)) {
                    std::cmp::Ordering::Greater if chain.is_none() => {
                        format!("the trail begins with entry {}: what was before is cut off", entry.sequence)
                    }
                    std::cmp::Ordering::Greater => {
                        format!("entries {} to {} are missing", sequence + 1, entry.sequence - 1)
                    }
                    _ => format!(
                        "entry {} stands behind entry {sequence}: the order was changed, or it is there twice",
                        entry.sequence
                    ),
                };
                fault(line, what);
            } else if entry.previous != previous {
                fault(
                    line,
                    format!(
                        "entry {} does not follow on the one before it: that was edited or replaced",
                        entry.sequence
                    ),
                );
            }
            has_expected |= expected == Some(entry.hash.as_str());
            if head.as_ref().is_some_and(|head| head.sequence == entry.sequence) {
                hash_at_head = Some(entry.hash.clone());
            }
            if entry.kind == "trail" && entry.what == "cut" {
                fault(line, format!("the agent found the trail cut: {}", entry.cause));
            }
            found.entries += 1;
            found.head = Some(HeadView { sequence: entry.sequence, time: entry.time, hash: entry.hash.clone() });
            chain = Some((entry.sequence, entry.hash));
        }
    }
    let last = chain.map_or(0, |(sequence, _)| sequence);
    let mut whole = |what: String| found.faults.push(Fault { file: path.to_owned(), line: 0, what });
    match &head {
        None if last > 0 => whole(format!(
            "{} is missing or no head: whether the end is cut off can't be told",
            head_path(path).display()
        )),
        Some(head) if head.sequence > last => {
            whole(format!("entries {} to {} are cut off at the end", last + 1, head.sequence))
        }
        Some(head) if hash_at_head.as_ref() != Some(&head.hash) => {
            whole(format!("entry {} is not the one that was written: the trail was replaced", head.sequence));
        }
        _ => {}
    }
    if !has_expected {
        whole("the hash that was expected is not in the trail: it was replaced, or that part is cut off".to_owned());
    }
    Ok(found)
}
