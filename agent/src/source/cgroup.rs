//! The cgroup source: which cgroups exist below the cgroup root.
//!
//! Every directory of the tree has an inotify watch, so that a new cgroup is told of as soon as it is made. The kernel's notices
//! are hints only: each makes `Tree` look at the directory itself. Where watches run out, the tree is read again and again
//! instead.

mod mount;
mod tree;

use std::fs;
use std::future::ready;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep_until;

use crate::controller::Event;
use crate::source::Change;
use crate::source::inotify::MORE_WATCHES;
use crate::source::restart::{Closed, keep_running, tell};

pub use mount::cgroup_root;
use tree::{Doubt, Tree};

/// How often the whole tree is compared with what was told, in case a notice was lost.
const SAFETY_NET: Duration = Duration::from_secs(60);
/// How often it is where some directories have no watch.
const WITHOUT_WATCHES: Duration = Duration::from_secs(1);

/// Tells of the cgroups below `root` until `stop` turns true or nobody listens any more.
pub async fn watch(root: PathBuf, events: mpsc::Sender<Event>, stop: watch::Receiver<bool>) {
    keep_running("cgroup", &events, stop, || run(root.clone(), &events)).await;
}

/// The kernel's ID of the cgroup at this path: its directory's inode number.
///
/// # Errors
/// There is no such directory.
pub fn id_of(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() { Ok(metadata.ino()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

async fn run(root: PathBuf, events: &mpsc::Sender<Event>) -> anyhow::Result<Closed> {
    let (mut tree, ()) = elsewhere(Tree::new(root)?, Tree::plant).await?;
    let mut limits = Limits::default();
    limits.log(&tree);
    if tell(events, Instant::now(), Change::CgroupResync(tree.facts())).await.is_err() {
        return Ok(Closed);
    }
    let mut compared = tokio::time::Instant::now();
    let mut doubt = Doubt::None;
    loop {
        let pause = if tree.has_unwatched() { WITHOUT_WATCHES } else { SAFETY_NET };
        let queued = tokio::select! {
            biased;
            () = ready(()), if doubt == Doubt::Lost => Vec::new(),
            () = sleep_until(compared + pause) => Vec::new(),
            queued = tree.queued() => queued.context("reading from inotify")?,
        };
        let seen = Instant::now();
        for event in &queued {
            doubt = doubt.max(tree.notice(event)?);
            for change in tree.changes() {
                if tell(events, seen, change).await.is_err() {
                    return Ok(Closed);
                }
            }
        }
        if doubt == Doubt::None && compared.elapsed() < pause {
            continue;
        }
        if doubt == Doubt::Lost {
            tracing::warn!("cgroups come and go faster than the kernel's queue holds: all are read again");
        }
        let (compared_tree, found) = elsewhere(tree, Tree::compare).await?;
        tree = compared_tree;
        compared = tokio::time::Instant::now();
        if found == Doubt::Differs && !tree.has_unwatched() {
            tracing::info!("cgroups came or went without a notice of the kernel's: all are told anew");
        }
        let news: Vec<_> = tree.changes().collect();
        let news = if doubt.max(found) == Doubt::None { news } else { vec![Change::CgroupResync(tree.facts())] };
        for change in news {
            if tell(events, seen, change).await.is_err() {
                return Ok(Closed);
            }
        }
        doubt = if found == Doubt::Lost { Doubt::Lost } else { Doubt::None };
        limits.log(&tree);
    }
}

/// Reading the whole tree takes long enough to hold up other tasks.
async fn elsewhere<T: Send + 'static>(
    mut tree: Tree,
    work: fn(&mut Tree) -> anyhow::Result<T>,
) -> anyhow::Result<(Tree, T)> {
    spawn_blocking(move || work(&mut tree).map(|outcome| (tree, outcome)))
        .await
        .context("reading the cgroup tree was cut short")?
}

/// Says once when watches run out, and once when there are enough again.
#[derive(Default)]
struct Limits {
    warned: bool,
}

impl Limits {
    fn log(&mut self, tree: &Tree) {
        match (tree.has_unwatched(), self.warned) {
            (true, false) => tracing::warn!(
                "the kernel allows no more inotify watches: new cgroups may stay unidentified for {WITHOUT_WATCHES:?}; {MORE_WATCHES}"
            ),
            (false, true) => tracing::info!("every cgroup is watched again"),
            _ => return,
        }
        self.warned = tree.has_unwatched();
    }
}

#[cfg(test)]
mod tests;
