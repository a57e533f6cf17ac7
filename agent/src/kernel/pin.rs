//! Pins: what keeps enforcement in the kernel when the agent is gone.
//!
//! Below the bpffs, where `LAYOUT` is [`bulkhead_ebpf::abi::LAYOUT`]:
//!
//! ```text
//! bulkhead/
//!   vLAYOUT/
//!     maps/NAME
//!     links/PROGRAM             cgroup programs
//!     links/PROGRAM-INTERFACE   XDP and tc, INTERFACE being the index
//! ```
//!
//! An agent that finds an older layout fills maps of its own beside it, takes over the links one by one, each of which holds the old
//! program or the new one at any time, and removes the rest. One that finds a newer layout leaves it in force.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_ebpf::abi::LAYOUT;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::attach::link;
use super::error::KernelError;
use super::load::MAPS;

/// The directories of one agent's pins.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    is_new: bool,
}

impl Pins {
    /// Makes the directories, mounting a bpffs at `bpffs` where there is none.
    ///
    /// # Errors
    /// [`KernelError::Bpffs`], [`KernelError::File`].
    pub fn prepare(bpffs: &Path) -> Result<Self, KernelError> {
        if !is_bpffs(bpffs) {
            fs::create_dir_all(bpffs).map_err(|source| file("making", bpffs, source))?;
            mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
                .map_err(|errno| KernelError::Bpffs { path: bpffs.to_owned(), source: errno.into() })?;
            tracing::info!("mounted a bpffs at {}", bpffs.display());
        }
        let mut pins = Self { root: bpffs.join("bulkhead"), is_new: false };
        pins.is_new = !pins.map(MAPS[0]).exists();
        if let Some(newer) = pins.layouts().into_iter().find(|layout| *layout > LAYOUT) {
            return Err(KernelError::Newer(newer));
        }
        for directory in [pins.layout(), pins.maps(), pins.links()] {
            fs::create_dir_all(&directory).map_err(|source| file("making", &directory, source))?;
        }
        Ok(pins)
    }

    fn layout(&self) -> PathBuf {
        self.of(LAYOUT)
    }

    fn of(&self, layout: u32) -> PathBuf {
        self.root.join(format!("v{layout}"))
    }

    /// The layouts that are there, the newest first.
    fn layouts(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        let mut layouts: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix('v')?.parse().ok()).collect();
        layouts.sort_unstable_by(|a, b| b.cmp(a));
        layouts
    }

    fn older(&self) -> impl Iterator<Item = u32> {
        self.layouts().into_iter().filter(|layout| *layout < LAYOUT)
    }

    /// Where the maps of this name of older layouts are pinned.
    pub(super) fn older_maps(&self, name: &str) -> Vec<PathBuf> {
        let maps = self.older().map(|layout| self.of(layout).join("maps").join(name));
        maps.filter(|map| map.exists()).collect()
    }

    /// Takes over the links of older layouts, those of which this layout has none: they are found like an earlier agent's.
    ///
    /// # Errors
    /// [`KernelError::File`].
    pub fn inherit(&self) -> Result<(), KernelError> {
        for links in self.older().map(|layout| self.of(layout).join("links")) {
            for entry in fs::read_dir(links).into_iter().flatten().filter_map(Result::ok) {
                let (older, pin) = (entry.path(), self.links().join(entry.file_name()));
                if !pin.exists() {
                    fs::rename(&older, pin).map_err(|source| file("taking over", &older, source))?;
                }
            }
        }
        Ok(())
    }

    /// Removes what is left of older layouts, once no link has a program of theirs.
    ///
    /// # Errors
    /// [`KernelError::File`].
    pub fn remove_older(&self) -> Result<(), KernelError> {
        for layout in self.older() {
            let removed = remove_layout(&self.of(layout))?;
            tracing::info!(layout, pins = removed.len(), "took over from an agent with an older layout");
        }
        Ok(())
    }

    /// Whether no map was pinned when this was prepared: those that are there now are empty until somebody writes them.
    pub(super) const fn are_new(&self) -> bool {
        self.is_new
    }

    /// Where maps are pinned.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.layout().join("maps")
    }

    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where links are pinned.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.layout().join("links")
    }

    /// Where the link of a cgroup program is pinned.
    #[must_use]
    pub fn cgroup_link(&self, program: &str) -> PathBuf {
        self.links().join(program)
    }

    /// Where the link of an XDP or tc program is pinned.
    #[must_use]
    pub fn interface_link(&self, program: &str, index: u32) -> PathBuf {
        self.links().join(format!("{program}-{index}"))
    }

    /// Whether an earlier agent, of this layout or an older one, left anything attached.
    #[must_use]
    pub fn has_links(&self) -> bool {
        let mut links = self.layouts().into_iter().map(|layout| self.of(layout).join("links"));
        links.any(|links| fs::read_dir(links).is_ok_and(|mut entries| entries.next().is_some()))
    }

    /// Removes every pin, and with the pins everything that they hold: links first, so that no program outlives its maps.
    ///
    /// # Errors
    /// [`KernelError::File`].
    pub fn remove(&self) -> Result<Vec<String>, KernelError> {
        remove_below(&self.root)
    }
}

/// Removes everything that an agent left in the kernel, and returns what it was.
///
/// # Errors
/// An [`anyhow::Error`] that names the file that could not be removed.
pub fn detach(bpffs: &Path) -> anyhow::Result<Vec<String>> {
    Ok(remove_below(&bpffs.join("bulkhead"))?)
}

fn remove_below(root: &Path) -> Result<Vec<String>, KernelError> {
    let mut removed = Vec::new();
    let layouts = match fs::read_dir(root) {
        Ok(layouts) => layouts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        Err(source) => return Err(file("reading", root, source)),
    };
    for layout in layouts.filter_map(Result::ok) {
        removed.extend(remove_layout(&layout.path())?);
    }
    fs::remove_dir(root).map_err(|source| file("removing", root, source))?;
    removed.sort();
    Ok(removed)
}

fn remove_layout(layout: &Path) -> Result<Vec<String>, KernelError> {
    let mut removed = Vec::new();
    for kind in ["links", "maps"] {
        let directory = layout.join(kind);
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if kind == "links" {
                link::remove(&path)?;
            } else {
                fs::remove_file(&path).map_err(|source| file("removing", &path, source))?;
            }
            removed.push(format!("{} {}", kind.trim_end_matches('s'), entry.file_name().to_string_lossy()));
        }
        fs::remove_dir(&directory).map_err(|source| file("removing", &directory, source))?;
    }
    fs::remove_dir(layout).map_err(|source| file("removing", layout, source))?;
    Ok(removed)
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|info| info.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn file(what: &'static str, path: &Path, source: io::Error) -> KernelError {
    KernelError::File { what, path: path.to_owned(), source }
}
