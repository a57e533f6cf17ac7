//! The way to policy files: every directory in which a name is looked up, link by link, and a watch on each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};

use crate::policy::load::{is_policy, way};
use crate::source::inotify::{MORE_WATCHES, Watcher};

/// How often the way is looked at again where it changes while it is being watched.
const LOOKS: usize = 4;

/// Watches on all that leads to some paths, as it was when they were set.
#[derive(Debug)]
pub(super) struct Route {
    watcher: Watcher,
    watched: HashMap<WatchDescriptor, Names>,
    /// Names whose last notice did not leave a whole file, and what has to come for it.
    pending: HashMap<(WatchDescriptor, Option<OsString>), Expects>,
}

/// What is to be expected after the notices so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Expects {
    /// Every file is whole: its writer has closed it, or it was moved to its place.
    Nothing,
    /// Perhaps more: a name went, or is new.
    More,
    /// The end of what is being written.
    TheEnd,
}

impl Route {
    /// Sets watches on all that leads to the paths, as far as it exists.
    ///
    /// # Errors
    /// No inotify instance is left.
    pub(super) fn watched(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut route = Self { watcher: Watcher::new()?, watched: HashMap::new(), pending: HashMap::new() };
        let mut directories = trace(paths);
        for _ in 0..LOOKS {
            route.watch(&directories);
            let now = trace(paths);
            if now == directories {
                break;
            }
            directories = now;
        }
        Ok(route)
    }

    /// Waits until something happens that may matter.
    ///
    /// # Errors
    /// Inotify cannot be read.
    pub(super) async fn notice(&mut self) -> anyhow::Result<()> {
        loop {
            let mut events = self.watcher.read().await.context("reading from inotify")?;
            events.retain(|event| self.matters(event));
            if events.is_empty() {
                continue;
            }
            events.into_iter().for_each(|event| self.note(event));
            return Ok(());
        }
    }

    /// What is to be expected after the notices so far.
    pub(super) fn expects(&self) -> Expects {
        self.pending.values().copied().max().unwrap_or(Expects::Nothing)
    }

    fn note(&mut self, event: InotifyEvent) {
        let key = (event.wd, event.name);
        if event.mask.intersects(AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO) {
            self.pending.remove(&key);
        } else if event.mask.contains(AddWatchFlags::IN_MODIFY) {
            self.pending.insert(key, Expects::TheEnd);
        } else if event.mask.contains(AddWatchFlags::IN_ATTRIB) {
            // What it says is as it was.
            self.pending.entry(key).or_insert(Expects::More);
        } else {
            self.pending.insert(key, Expects::More);
        }
    }

    fn watch(&mut self, directories: &BTreeMap<PathBuf, Names>) {
        for (directory, names) in directories {
            match self.watcher.add(directory, mask()) {
                Ok(watch) => self.watched.entry(watch).or_default().add(names),
                // It went meanwhile, and the watch on the directory above tells.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error) => {
                    let cure = if error == Errno::ENOSPC { MORE_WATCHES } else { "let the agent read it" };
                    let directory = directory.display();
                    tracing::warn!("{directory} cannot be watched ({error}): edits are found late; {cure}");
                }
            }
        }
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        match (self.watched.get(&event.wd), &event.name) {
            (Some(names), Some(name)) => names.each.contains(name) || names.policy && is_policy(name.as_ref()),
            // The directory itself went or was moved.
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// The names in a directory that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    /// These.
    each: BTreeSet<OsString>,
    /// Those of policy files.
    policy: bool,
}

impl Names {
    fn add(&mut self, other: &Self) {
        self.each.extend(other.each.iter().cloned());
        self.policy |= other.policy;
    }
}

/// Every directory on the way to the paths, and to the policy files in those that are directories.
fn trace(paths: &[PathBuf]) -> BTreeMap<PathBuf, Names> {
    let mut directories = BTreeMap::new();
    for path in paths {
        let Ok(Some(end)) = follow(path, &mut directories) else { continue };
        let Ok(entries) = fs::read_dir(&end) else { continue };
        directories.entry(end).or_default().policy = true;
        for entry in entries.flatten().filter(|entry| is_policy(&entry.path())) {
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                // A link that leads nowhere yet is followed as far as it goes.
                drop(follow(&entry.path(), &mut directories));
            }
        }
    }
    directories
}

/// As [`way::follow`], noting each name where it is looked up.
fn follow(path: &Path, directories: &mut BTreeMap<PathBuf, Names>) -> io::Result<Option<PathBuf>> {
    way::follow(path, |directory, name| {
        directories.entry(directory.to_owned()).or_default().each.insert(name.to_owned());
    })
}

fn mask() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
}
