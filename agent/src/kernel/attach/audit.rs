//! Holding what is attached against what should be: links and filters that somebody took off their hook or gave another program,
//! pins that somebody removed.
//!
//! While the agent runs it holds every link itself, so that removing a pin takes nothing off its hook.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError, MapInfo};

use super::clsact::{self, Found};
use super::{Attached, Attachments, CLSACT, UPLINK, link};
use crate::kernel::batch::BatchMap;
use crate::kernel::error::KernelError;
use crate::kernel::load::{JUDGES, MAPS, set_judges};
use crate::kernel::mirror::Store;
use crate::kernel::pin::{Pins, file};

/// What was found and is mended, or will be as soon as what is missing is attached again.
#[derive(Debug, Default)]
pub struct Findings {
    /// Programs that are not where they should be: `PROGRAM at TARGET`.
    pub detached: Vec<String>,
    /// Pins that were gone or led elsewhere, and are back.
    pub pins: Vec<PathBuf>,
}

/// The maps, held so that their pins can be made again.
#[derive(Debug)]
pub(super) struct PinnedMaps(Vec<(PathBuf, MapData, u32)>);

impl PinnedMaps {
    /// Opens every map's pin.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub(super) fn open(pins: &Pins) -> Result<Self, KernelError> {
        let opened = MAPS.iter().map(|map| {
            let failed = |source| KernelError::Map { map, operation: "opening", source };
            let path = pins.map(map);
            let data = MapData::from_pin(&path).map_err(failed)?;
            let id = data.info().map_err(failed)?.id();
            Ok((path, data, id))
        });
        opened.collect::<Result<_, _>>().map(Self)
    }

    fn audit(&self) -> Result<Vec<PathBuf>, KernelError> {
        let mut mended = Vec::new();
        for (path, data, id) in &self.0 {
            if MapInfo::from_pin(path).is_ok_and(|info| info.id() == *id) {
                continue;
            }
            clear(path)?;
            data.pin(path).map_err(|source| KernelError::Pin { path: path.clone(), source })?;
            mended.push(path.clone());
        }
        Ok(mended)
    }
}

impl Attachments {
    /// Compares, and mends pins. What is not attached is forgotten here, so that whoever attaches next attaches it.
    ///
    /// # Errors
    /// [`KernelError::File`], [`KernelError::Pin`].
    pub fn audit(&mut self) -> Result<Findings, KernelError> {
        let mut findings = Findings { pins: self.maps.audit()?, ..Findings::default() };
        let lost = self.lost_judges()?;
        if !lost.is_empty() {
            set_judges(&mut self.ebpf)?;
            findings.detached.extend(lost.into_iter().map(|name| format!("{name} behind its hook's program")));
        }
        let mut lost = Vec::new();
        for (pin, attached) in &self.attached {
            let Some(object) = &attached.object else { continue };
            if !is_same(pin, object) {
                clear(pin)?;
                link::pin(object.as_fd(), pin).map_err(|source| file("pinning", pin, source))?;
                findings.pins.push(pin.clone());
            }
            match self.state(pin, attached)? {
                State::Holds => {}
                State::Elsewhere => lost.push((pin.clone(), false)),
                State::Detached => lost.push((pin.clone(), true)),
            }
        }
        for (pin, is_dead) in lost {
            if is_dead {
                link::remove(&pin)?;
            }
            if let Some(attached) = self.attached.remove(&pin) {
                findings.detached.push(format!("{} at {}", attached.view.program, attached.view.target));
            }
        }
        Ok(findings)
    }

    /// The judging programs, of those that are loaded, that the programs of the hooks would not find.
    fn lost_judges(&self) -> Result<Vec<&'static str>, KernelError> {
        let mut lost = Vec::new();
        for (name, map) in JUDGES {
            let Some(info) = self.ebpf.program(name).and_then(|program| program.info().ok()) else { continue };
            let failed = |source| KernelError::Map { map, operation: "reading", source };
            let data = MapData::from_pin(self.pins.map(map)).map_err(failed)?;
            // User space reads a program's ID where it writes its descriptor.
            let array = BatchMap::<u32, u32>::new(data).map_err(|error| failed(MapError::IoError(error)))?;
            if array.get(&0).map_err(|error| failed(MapError::IoError(error)))? != Some(info.id()) {
                lost.push(name);
            }
        }
        Ok(lost)
    }

    fn state(&self, pin: &Path, attached: &Attached) -> Result<State, KernelError> {
        let Some(object) = &attached.object else { return Ok(State::Holds) };
        let interface = interface_of(pin);
        if interface.is_some_and(|index| nix::net::if_::if_indextoname(index).is_err()) {
            // What was attached there went with it, as it should.
            return Ok(State::Holds);
        }
        let name = if attached.view.program == "xdp" { UPLINK } else { &attached.view.program };
        let program = self.ebpf.program(name).and_then(|program| program.info().ok()).map(|info| info.id());
        if let (Some(index), CLSACT) = (interface, attached.view.mode.as_str()) {
            // No link stands for a filter, which has to be looked at itself.
            let found = clsact::look(name, index).map_err(|source| file("looking for the filter of", pin, source))?;
            return Ok(match found {
                Found::Nothing => State::Detached,
                Found::Program(id) if Some(id) == program => State::Holds,
                Found::Program(_) | Found::Other => State::Elsewhere,
            });
        }
        let info = link::info(object.as_fd()).map_err(|source| file("reading", pin, source))?;
        let target = interface.map_or_else(|| self.root.as_ref().map_or(0, |(_, id)| *id), u64::from);
        Ok(if info.target() != target {
            State::Detached
        } else if Some(info.program) != program {
            State::Elsewhere
        } else {
            State::Holds
        })
    }
}

/// What a link or a filter does.
enum State {
    /// What it should.
    Holds,
    /// It is at its hook, with another program.
    Elsewhere,
    /// It is at no hook.
    Detached,
}

/// The index of the interface in a pin's name; the programs at the cgroup root have none.
fn interface_of(pin: &Path) -> Option<u32> {
    pin.file_name()?.to_str()?.rsplit_once('-')?.1.parse().ok()
}

/// Whether a pin leads to this object.
fn is_same(pin: &Path, object: &OwnedFd) -> bool {
    let id = |object: &OwnedFd| link::info(object.as_fd()).ok().map(|info| info.id);
    let pinned = link::open(pin).ok().flatten();
    pinned.is_some_and(|pinned| id(&pinned).is_some() && id(&pinned) == id(object))
}

/// Removes what is at a pin's place, if anything is.
fn clear(pin: &Path) -> Result<(), KernelError> {
    match fs::remove_file(pin) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file("removing", pin, source)),
        _ => Ok(()),
    }
}
