//! The one who appends to the trail: a thread of its own, which holds a lock on it.
//!
//! What was written is on the disk (fdatasync) before the head names it. A disk that refuses is tried again with the next happening, and
//! what is missing until then is counted and told in the trail. A line that a crash cut off is taken away, and that is told too; an end that
//! somebody else cut off shows by the head, and is told as a cut, which [`super::verify`] repeats for ever.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};

use super::chain::{Entry, NOTHING};
use super::verify::{Head, head_path};
use super::{Happening, Members, QUEUE, Said, Trail, hash};
use crate::metrics::trail::TrailMetrics;

/// Changes of membership within this time are one entry.
const GATHER: Duration = Duration::from_secs(1);
/// So many workloads are named in an entry; the others are counted, and are part of its hash.
const NAMED: usize = 50;
/// At this size the trail goes on in another file. Nothing is ever deleted.
const ROTATE: u64 = 64 << 20;
/// More than an entry's line has.
const TAIL: u64 = 256 << 10;

/// Starts the thread. It ends once every [`Trail`] is dropped.
///
/// # Errors
/// Somebody else holds the trail, or it can't be opened.
pub fn start(path: &Path, counts: TrailMetrics) -> io::Result<(Trail, JoinHandle<()>)> {
    let mut writer = Writer::open(path, counts.clone())?;
    let (queue, happenings) = mpsc::sync_channel(QUEUE);
    let thread = std::thread::Builder::new().name("trail".to_owned()).spawn(move || writer.run(&happenings))?;
    Ok((Trail { queue, counts }, thread))
}

/// Appends one entry and ends: for a command that runs without an agent.
///
/// # Errors
/// As [`start`], or the disk refuses.
pub fn append(path: &Path, said: Said) -> io::Result<()> {
    let mut writer = Writer::open(path, TrailMetrics::default())?;
    writer.write(said)
}

struct Writer {
    path: PathBuf,
    file: Flock<File>,
    size: u64,
    sequence: u64,
    hash: String,
    counts: TrailMetrics,
    /// Missing entries that the trail tells of.
    told: u64,
    complained: Option<Instant>,
}

impl Writer {
    fn open(path: &Path, counts: TrailMetrics) -> io::Result<Self> {
        let file = lock(path)?;
        let mut writer = Self {
            path: path.to_owned(),
            file,
            size: 0,
            sequence: 0,
            hash: NOTHING.to_owned(),
            counts,
            told: 0,
            complained: None,
        };
        writer.find_end()?;
        Ok(writer)
    }

    /// Goes on behind the last whole line, and tells what was found there that nobody wrote.
    fn find_end(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let from = length.saturating_sub(TAIL);
        self.file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        self.file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let torn = (tail.len() - whole) as u64;
        let last = tail[..whole].split(|byte| *byte == b'\n').rev().find(|line| !line.is_empty());
        let last: Option<Entry> = last.and_then(|line| serde_json::from_slice(line).ok());
        let head: Option<Head> =
            fs::read(head_path(&self.path)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        self.size = length - torn;
        self.file.set_len(self.size)?;
        self.file.seek(SeekFrom::End(0))?;
        let is_cut = match (&last, &head) {
            (Some(last), Some(head)) => last.sequence < head.sequence,
            (None, Some(_)) => {
                self.size > 0 || !super::verify::files(&self.path)?.iter().any(|file| *file != self.path)
            }
            _ => self.size > 0 && last.is_none(),
        };
        match (last, head) {
            (Some(last), _) if !is_cut => (self.sequence, self.hash) = (last.sequence, last.hash),
            (_, Some(head)) => (self.sequence, self.hash) = (head.sequence, head.hash),
            (Some(last), None) => (self.sequence, self.hash) = (last.sequence, last.hash),
            (None, None) => {}
        }
        if is_cut {
            let cause = format!("entries up to {} had been written, and are not at its end", self.sequence);
            self.write(Said { kind: "trail", what: "cut", cause, ..Said::default() })?;
        } else if torn > 0 {
            let cause = format!("a last line of {torn} bytes without an end, as a crash leaves it, was taken away");
            self.write(Said { kind: "trail", what: "mended", cause, ..Said::default() })?;
        }
        Ok(())
    }

    fn run(&mut self, happenings: &Receiver<Happening>) {
        let mut members: Option<(Instant, Members)> = None;
        loop {
            let patience = members.as_ref().map_or(GATHER, |(since, _)| GATHER.saturating_sub(since.elapsed()));
            match happenings.recv_timeout(patience) {
                Ok(Happening::Members(new)) => gather(&mut members, new),
                Ok(Happening::Said(said)) => {
                    // In the order in which it happened.
                    self.put_members(members.take());
                    self.put(said);
                }
                Err(RecvTimeoutError::Timeout) => self.put_members(members.take()),
                Err(RecvTimeoutError::Disconnected) => return self.put_members(members.take()),
            }
            if members.as_ref().is_some_and(|(since, _)| since.elapsed() >= GATHER) {
                self.put_members(members.take());
            }
        }
    }

    fn put_members(&mut self, members: Option<(Instant, Members)>) {
        let Some((_, Members { changes, cause, generation })) = members else { return };
        if changes.is_empty() {
            return;
        }
        let side = |is_after: bool| {
            let groups: BTreeMap<_, _> = changes
                .iter()
                .map(|(name, change)| (name, if is_after { &change.after } else { &change.before }))
                .collect();
            hash(&serde_json::to_vec(&groups).expect("names and groups are plain data"))
        };
        let line = |groups: &Option<Vec<String>>| {
            groups.as_ref().map_or("-".to_owned(), |groups| format!("[{}]", groups.join(", ")))
        };
        let named = changes.iter().take(NAMED).map(|(name, change)| {
            format!("{name} ({}): {} to {}", change.source, line(&change.before), line(&change.after))
        });
        let mut text: Vec<String> = named.collect();
        if changes.len() > NAMED {
            text.push(format!("and {} more", changes.len() - NAMED));
        }
        let said = Said {
            kind: "membership",
            what: "changed",
            cause: format!("{cause}: {}", text.join("; ")),
            old: Some(side(false)),
            new: Some(side(true)),
            generation: Some(generation),
        };
        self.put(said);
    }

    fn put(&mut self, said: Said) {
        let missed = self.counts.missed.get();
        if missed > self.told {
            let cause = format!(
                "{} happenings are missing here: more came than could be written, or the disk refused",
                missed - self.told
            );
            if self.try_write(Said { kind: "trail", what: "missed", cause, ..Said::default() }) {
                self.told = missed;
            }
        }
        if self.try_write(said) {
            self.counts.entries.inc();
        } else {
            self.counts.missed.inc();
        }
    }

    fn try_write(&mut self, said: Said) -> bool {
        let result = self.write(said);
        if let Err(error) = &result
            && self.complained.is_none_or(|at| at.elapsed() >= Duration::from_secs(60))
        {
            tracing::warn!(%error, "the trail {} can't be written; what happens until it can is missing there: see bulkhead_trail_missed_total", self.path.display());
            self.complained = Some(Instant::now());
        }
        result.is_ok()
    }

    fn write(&mut self, said: Said) -> io::Result<()> {
        if self.size >= ROTATE {
            self.rotate()?;
        }
        let entry = Entry {
            kind: said.kind.to_owned(),
            what: said.what.to_owned(),
            cause: said.cause,
            old: said.old,
            new: said.new,
            generation: said.generation,
            ..Entry::after(self.sequence, &self.hash, Timestamp::now())
        }
        .sealed();
        let line = entry.text() + "\n";
        if let Err(error) = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            // No half of a line stays.
            drop(self.file.set_len(self.size));
            drop(self.file.seek(SeekFrom::End(0)));
            return Err(error);
        }
        self.size += line.len() as u64;
        (self.sequence, self.hash) = (entry.sequence, entry.hash);
        self.note_head()
    }

    fn note_head(&self) -> io::Result<()> {
        let path = head_path(&self.path);
        let staged = path.with_extension("head.new");
        let head = Head { sequence: self.sequence, hash: self.hash.clone() };
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o640).open(&staged)?;
        file.write_all(&serde_json::to_vec(&head).expect("a head is plain data"))?;
        file.sync_data()?;
        fs::rename(&staged, &path)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let number = super::verify::files(&self.path)?.len();
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        fs::rename(&self.path, &name)?;
        self.file = lock(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// Opens a trail for its one writer. Only root reads it: it says who is there.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o640).open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| io::Error::new(io::ErrorKind::WouldBlock, format!("another process writes it ({error})")))
}

/// What a workload was before the first change, and is after the last.
fn gather(members: &mut Option<(Instant, Members)>, new: Members) {
    let (_, known) =
        members.get_or_insert_with(|| (Instant::now(), Members { cause: new.cause, ..Members::default() }));
    if known.cause != new.cause {
        known.cause = "policy and workloads";
    }
    known.generation = new.generation;
    for (name, change) in new.changes {
        match known.changes.get_mut(&name) {
            Some(earlier) => earlier.after = change.after,
            None => {
                known.changes.insert(name, change);
            }
        }
    }
    known.changes.retain(|_, change| change.before != change.after);
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
