//! The cgroup tree as it was last seen, with a watch on every directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};

use super::id_of;
use crate::source::inotify::Watcher;
use crate::source::{CgroupFact, Change};

/// How often a directory that is replaced under our eyes is looked at; the notices of the replacement follow anyway.
const LOOKS: usize = 4;

/// What was found to be wrong with what was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Nothing.
    None,
    /// Something had changed without a notice.
    Differs,
    /// Notices were lost: anything may differ.
    Lost,
}

/// All cgroups by their path below the root; the root itself is the empty path.
///
/// Only [`Tree::refresh`] changes it, by what a directory is at that moment: a notice that comes late or twice does no harm.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    watcher: Watcher,
    cgroups: BTreeMap<String, Cgroup>,
    by_watch: HashMap<WatchDescriptor, String>,
    unwatched: BTreeSet<String>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Cgroup {
    id: u64,
    watch: Option<WatchDescriptor>,
}

impl Tree {
    pub(super) fn new(root: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            root,
            watcher: Watcher::new()?,
            cgroups: BTreeMap::new(),
            by_watch: HashMap::new(),
            unwatched: BTreeSet::new(),
            changes: Vec::new(),
        })
    }

    /// Reads the tree for the first time.
    pub(super) fn plant(&mut self) -> anyhow::Result<()> {
        id_of(&self.root).with_context(|| format!("the cgroup root {} cannot be read", self.root.display()))?;
        self.refresh("");
        self.changes.clear();
        Ok(())
    }

    /// Every cgroup below the root.
    pub(super) fn facts(&self) -> Vec<CgroupFact> {
        let below = self.cgroups.iter().filter(|(path, _)| !path.is_empty());
        below.map(|(path, cgroup)| CgroupFact { path: path.clone(), id: cgroup.id }).collect()
    }

    /// What changed since it was last asked.
    pub(super) fn changes(&mut self) -> impl Iterator<Item = Change> + use<> {
        std::mem::take(&mut self.changes).into_iter()
    }

    /// Whether the kernel refused watches: then new cgroups are found by [`Tree::compare`] alone.
    pub(super) fn has_unwatched(&self) -> bool {
        !self.unwatched.is_empty()
    }

    /// Has the kernel refuse all but so many further watches.
    #[cfg(test)]
    pub(super) fn leave_watches(&self, left: usize) {
        self.watcher.watches_left.store(left, std::sync::atomic::Ordering::Relaxed);
    }

    /// How many watches the kernel holds for this tree.
    #[cfg(test)]
    pub(super) fn watches(&self) -> usize {
        self.watcher.count()
    }

    /// Waits for notices.
    pub(super) async fn queued(&self) -> std::io::Result<Vec<InotifyEvent>> {
        self.watcher.read().await
    }

    /// Follows up one notice.
    pub(super) fn notice(&mut self, event: &InotifyEvent) -> anyhow::Result<Doubt> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return Ok(Doubt::Lost);
        }
        // A watch that is not known any more is of a cgroup that went.
        let Some(parent) = self.by_watch.get(&event.wd) else { return Ok(Doubt::None) };
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            anyhow::ensure!(!parent.is_empty(), "the cgroup root {} is gone", self.root.display());
            self.by_watch.remove(&event.wd);
        } else if event.mask.contains(AddWatchFlags::IN_ISDIR)
            && let Some(name) = event.name.as_deref().and_then(|name| name.to_str())
        {
            let path = below(parent, name);
            self.refresh(&path);
        }
        Ok(Doubt::None)
    }

    /// Compares the whole tree with what is there, and mends what differs. The changes are then those that notices told of.
    pub(super) fn compare(&mut self) -> anyhow::Result<Doubt> {
        self.watch_the_unwatched();
        let mut there = BTreeMap::new();
        let mut open = vec![String::new()];
        while let Some(path) = open.pop() {
            let Ok(metadata) = fs::symlink_metadata(self.root.join(&path)) else { continue };
            if may_have_children(&metadata) {
                open.extend(self.children(&path));
            }
            there.insert(path, metadata.ino());
        }
        anyhow::ensure!(there.contains_key(""), "the cgroup root {} is gone", self.root.display());
        // What the queue still holds explains differences that are none.
        let mut doubt = Doubt::None;
        loop {
            let queued = self.watcher.pending().context("reading from inotify")?;
            if queued.is_empty() {
                break;
            }
            for event in queued {
                doubt = doubt.max(self.notice(&event)?);
            }
        }
        let explained = self.changes.len();
        let gone = self.cgroups.iter().filter(|(path, cgroup)| there.get(*path) != Some(&cgroup.id));
        let new = there.keys().filter(|path| !self.cgroups.contains_key(*path));
        let suspects: Vec<_> = gone.map(|(path, _)| path).chain(new).cloned().collect();
        for path in suspects {
            self.refresh(&path);
        }
        if self.changes.len() > explained {
            self.changes.truncate(explained);
            doubt = doubt.max(Doubt::Differs);
        }
        Ok(doubt)
    }

    /// Makes one cgroup, and what is below it, what it is now.
    fn refresh(&mut self, path: &str) {
        let id = id_of(&self.root.join(path)).ok();
        if id == self.cgroups.get(path).map(|cgroup| cgroup.id) {
            return;
        }
        self.forget(path);
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            let Some((cgroup, metadata)) = self.watch(&path) else { continue };
            if may_have_children(&metadata) {
                open.extend(self.children(&path));
            }
            match cgroup.watch {
                Some(watch) => drop(self.by_watch.insert(watch, path.clone())),
                None => drop(self.unwatched.insert(path.clone())),
            }
            if !path.is_empty() {
                self.changes.push(Change::CgroupAppeared(CgroupFact { path: path.clone(), id: cgroup.id }));
            }
            self.cgroups.insert(path, cgroup);
        }
    }

    /// Watches a directory; `None` where it is gone. The metadata is from after the watch was set: what is made later has
    /// a notice.
    fn watch(&self, path: &str) -> Option<(Cgroup, fs::Metadata)> {
        let directory = self.root.join(path);
        for _ in 0..LOOKS {
            let before = id_of(&directory).ok()?;
            let watch = match self.watcher.add(&directory, mask()) {
                Ok(watch) => Some(watch),
                Err(Errno::ENOENT | Errno::ENOTDIR) => return None,
                // No watches or no memory left: it exists, and that is told all the same.
                Err(_) => None,
            };
            let after = fs::symlink_metadata(&directory).ok()?;
            if after.ino() == before {
                return Some((Cgroup { id: before, watch }, after));
            }
        }
        None
    }

    fn watch_the_unwatched(&mut self) {
        while let Some(path) = self.unwatched.pop_first() {
            let watch = self.watcher.add(&self.root.join(&path), mask());
            match (watch, self.cgroups.get_mut(&path)) {
                (Ok(watch), Some(cgroup)) => {
                    cgroup.watch = Some(watch);
                    self.by_watch.insert(watch, path);
                }
                // It is gone, and the comparison will find that out.
                (Err(Errno::ENOENT | Errno::ENOTDIR), _) => {}
                _ => {
                    self.unwatched.insert(path);
                    break;
                }
            }
        }
    }

    /// Drops a cgroup and all below it, the deepest first.
    fn forget(&mut self, path: &str) {
        let prefix = below(path, "");
        let inside = self.cgroups.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let mut paths: Vec<_> = inside.map(|(path, _)| path.clone()).collect();
        paths.insert(0, path.to_owned());
        for path in paths.into_iter().rev() {
            let Some(cgroup) = self.cgroups.remove(&path) else { continue };
            if let Some(watch) = cgroup.watch {
                // The cgroup file system would keep the watch of a directory that went, and it counts for the limit.
                self.by_watch.remove(&watch);
                self.watcher.remove(watch);
            }
            self.unwatched.remove(&path);
            if !path.is_empty() {
                self.changes.push(Change::CgroupGone(path));
            }
        }
    }

    /// The directories right below; none where it is gone meanwhile.
    fn children(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        // A name that is not UTF-8 cannot be told of: such a cgroup counts as part of the one it lies in.
        directories.filter_map(|entry| entry.file_name().to_str().map(|name| below(path, name))).collect()
    }
}

/// Whether a directory has directories in it. The cgroup file system counts a link for each, and two more for the directory
/// itself; that saves reading the dozens of control files of every leaf.
fn may_have_children(directory: &fs::Metadata) -> bool {
    directory.nlink() != 2
}

fn below(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn mask() -> AddWatchFlags {
    AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DONT_FOLLOW
}
