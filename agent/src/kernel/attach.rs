//! Attaching: links, pinned so that they outlive the agent, replaced in place when a new agent takes over.

pub mod audit;
mod clsact;
mod interface;
pub(super) mod link;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, Program, ProgramError, ProgramFd, XdpMode,
};

use super::error::{KernelError, Refusal};
use super::load::load_programs;
use super::pin::{Pins, file};
use crate::view::AttachmentView;
use audit::PinnedMaps;
use interface::TC_PROGRAMS;

/// The XDP program, by the name of its function.
const UPLINK: &str = "uplink";
/// The cgroup programs, by the name of their function.
const CGROUP_PROGRAMS: [&str; 6] = ["cgroup_egress", "cgroup_ingress", "connect4", "connect6", "sendmsg4", "sendmsg6"];

/// How tc is attached where the kernel has no links for it.
const CLSACT: &str = "clsact";

/// Everything that is attached. Dropping it detaches nothing: the pins hold the links.
pub struct Attachments {
    ebpf: Ebpf,
    pins: Pins,
    maps: PinnedMaps,
    /// The root of the cgroup tree, and its ID.
    root: Option<(PathBuf, u64)>,
    /// By pin.
    attached: BTreeMap<PathBuf, Attached>,
}

/// A program at a hook.
struct Attached {
    view: AttachmentView,
    /// What is pinned: its link or, for clsact, the program itself.
    object: Option<OwnedFd>,
}

impl Attachments {
    /// Takes over the loaded object, whose maps are pinned; nothing is attached yet.
    ///
    /// # Errors
    /// [`KernelError::Map`].
    pub fn new(ebpf: Ebpf, pins: Pins) -> Result<Self, KernelError> {
        Ok(Self { ebpf, maps: PinnedMaps::open(&pins)?, pins, root: None, attached: BTreeMap::new() })
    }

    /// Loads the programs that uplinks and workloads' links will need, those that are loaded already aside.
    ///
    /// # Errors
    /// [`KernelError::Program`].
    pub fn load(&mut self, uplinks: bool, links: bool) -> Result<(), KernelError> {
        load_programs(&mut self.ebpf, |name| uplinks && name == UPLINK || links && TC_PROGRAMS.contains(&name))
    }

    /// What is attached where.
    #[must_use]
    pub fn views(&self) -> Vec<AttachmentView> {
        self.attached.values().map(|attached| attached.view.clone()).collect()
    }

    /// Attaches the cgroup programs at the root of the cgroup tree. Where an earlier agent's links are pinned there, their
    /// programs are replaced in place: each packet passes the old one or the new one.
    ///
    /// # Errors
    /// [`KernelError::File`], [`KernelError::Program`], [`KernelError::Pin`].
    pub fn attach_cgroup(&mut self, root: &Path) -> Result<(), KernelError> {
        let cgroup = File::open(root).map_err(|source| file("opening", root, source))?;
        let id = cgroup.metadata().map_err(|source| file("reading", root, source))?.ino();
        self.root = Some((root.to_owned(), id));
        for name in CGROUP_PROGRAMS {
            let what = || format!("attaching {name} to {}", root.display());
            let refused = |source: Refusal| KernelError::Program { what: what(), source };
            let pin = self.pins.cgroup_link(name);
            let pinned = link::open(&pin).map_err(|source| file("opening", &pin, source))?;
            // A link to another root, or to one that was removed meanwhile, gives way.
            let pinned = pinned.filter(|pinned| link::info(pinned.as_fd()).is_ok_and(|info| info.target() == id));
            if let Some(pinned) = pinned {
                let program = self.cgroup_program(name).map_err(refused)?;
                link::update(pinned.as_fd(), program).map_err(|source| refused(source.into()))?;
            } else {
                let link = self.cgroup_link(name, &cgroup).map_err(refused)?;
                pin_over(link, &pin)?;
            }
            self.note(pin, name, &root.display().to_string(), "");
        }
        Ok(())
    }

    /// Attaches those of the cgroup programs again that are not attached any more.
    ///
    /// # Errors
    /// As [`Self::attach_cgroup`].
    pub fn attach_cgroup_again(&mut self) -> Result<(), KernelError> {
        let is_lost = |name: &&str| !self.attached.contains_key(&self.pins.cgroup_link(name));
        match &self.root {
            Some((root, _)) if CGROUP_PROGRAMS.iter().any(is_lost) => self.attach_cgroup(&root.clone()),
            _ => Ok(()),
        }
    }

    fn note(&mut self, pin: PathBuf, program: &str, target: &str, mode: &str) {
        let view = AttachmentView { program: program.to_owned(), target: target.to_owned(), mode: mode.to_owned() };
        // Without it the pin alone holds the hook.
        let object = link::open(&pin).ok().flatten();
        self.attached.insert(pin, Attached { view, object });
    }

    fn cgroup_program(&self, name: &str) -> Result<&ProgramFd, Refusal> {
        match self.ebpf.program(name).ok_or(ProgramError::NotLoaded)? {
            Program::CgroupSkb(program) => Ok(program.fd()?),
            Program::CgroupSockAddr(program) => Ok(program.fd()?),
            _ => Err(ProgramError::UnexpectedProgramType.into()),
        }
    }

    fn cgroup_link(&mut self, name: &'static str, cgroup: &File) -> Result<FdLink, Refusal> {
        let program = self.ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
        let mode = CgroupAttachMode::Single;
        match name {
            "cgroup_egress" | "cgroup_ingress" => {
                let direction =
                    if name == "cgroup_egress" { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
                let program: &mut CgroupSkb = program.try_into()?;
                let id = program.attach(cgroup, direction, mode)?;
                Ok(program.take_link(id)?.try_into()?)
            }
            _ => {
                let program: &mut CgroupSockAddr = program.try_into()?;
                let id = program.attach(cgroup, mode)?;
                Ok(program.take_link(id)?.try_into()?)
            }
        }
    }

    /// Attaches XDP to an uplink, in the driver where it can, generically elsewhere.
    ///
    /// # Errors
    /// [`KernelError::NoInterface`], [`KernelError::Program`], [`KernelError::Pin`].
    pub fn attach_uplink(&mut self, name: &str) -> Result<(), KernelError> {
        self.load(true, false)?;
        let index = interface::index(name)?;
        let pin = self.pins.interface_link("uplink", index);
        let mut used = None;
        let link = match PinnedLink::from_pin(&pin) {
            Ok(pinned) => interface::replace_xdp(&mut self.ebpf, pinned.into()).map(|()| None),
            Err(_) => [(XdpMode::Driver, "native"), (XdpMode::Skb, "generic")]
                .into_iter()
                .find_map(|(mode, text)| {
                    let link = interface::attach_xdp(&mut self.ebpf, index, mode);
                    used = Some(text);
                    // The last mode's error is the one to tell.
                    (link.is_ok() || mode == XdpMode::Skb).then_some(link)
                })
                .expect("the last mode always answers")
                .map(Some),
        }
        .map_err(|source| KernelError::Program { what: format!("attaching XDP to {name}"), source })?;
        if let Some(link) = link {
            pin_over(link, &pin)?;
        }
        self.note(pin, "xdp", name, used.unwrap_or("kept"));
        Ok(())
    }

    /// The names of the uplinks that have the program.
    pub fn uplinks(&self) -> impl Iterator<Item = String> {
        self.attached.values().map(|at| &at.view).filter(|view| view.program == "xdp").map(|view| view.target.clone())
    }

    /// Forgets an uplink, so that [`Self::release_other_uplinks`] lets go of it.
    pub fn forget_uplink(&mut self, name: &str) {
        self.attached.retain(|_, at| at.view.program != "xdp" || at.view.target != name);
    }

    /// Attaches tc in both directions (tcx where the kernel has it, clsact before 6.6) to exactly the given interfaces, and lets go of all others.
    ///
    /// # Errors
    /// The first that failed, after all were tried.
    pub fn attach_interfaces(&mut self, wanted: &BTreeMap<u32, String>) -> Result<(), KernelError> {
        self.load(false, !wanted.is_empty())?;
        let mut result = Ok(());
        for (index, name) in wanted {
            for program in TC_PROGRAMS {
                let pin = self.pins.interface_link(program, *index);
                if self.attached.get(&pin).is_some_and(|at| at.view.target == *name) {
                    continue;
                }
                match self.attach_tc(program, name, &pin) {
                    Ok(mode) => self.note(pin, program, name, mode),
                    Err(error) => result = Err(error),
                }
            }
        }
        let stale: Vec<PathBuf> = self.stale_interfaces(wanted);
        for pin in stale {
            if let Err(error) = link::remove(&pin) {
                result = Err(error);
            }
            self.attached.remove(&pin);
        }
        result
    }

    fn attach_tc(&mut self, program: &'static str, name: &str, pin: &Path) -> Result<&'static str, KernelError> {
        let fail = |source| KernelError::Program { what: format!("attaching {program} to {name}"), source };
        if clsact::is_used() {
            let classifier = interface::classifier(&mut self.ebpf, program).map_err(fail)?;
            return clsact::attach(classifier, program, name, pin).map(|()| CLSACT).map_err(fail);
        }
        if let Ok(pinned) = PinnedLink::from_pin(pin) {
            if interface::replace_tc(&mut self.ebpf, program, pinned.into()).is_ok() {
                return Ok("tcx");
            }
            // The interface is gone and its number has come back: the old link holds nothing.
            link::remove(pin)?;
        }
        let link = interface::attach_tc(&mut self.ebpf, program, name).map_err(fail)?;
        pin_over(link, pin).map(|()| "tcx")
    }

    /// Pins of tc links that nobody wants: of interfaces that went, and what an earlier agent left.
    fn stale_interfaces(&self, wanted: &BTreeMap<u32, String>) -> Vec<PathBuf> {
        let keep = |path: &PathBuf| {
            TC_PROGRAMS
                .iter()
                .any(|program| wanted.keys().any(|index| *path == self.pins.interface_link(program, *index)))
        };
        let is_tc = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| TC_PROGRAMS.iter().any(|program| name.starts_with(program)))
        };
        let pinned =
            fs::read_dir(self.pins.links()).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        let mut stale: Vec<PathBuf> =
            pinned.chain(self.attached.keys().cloned()).filter(is_tc).filter(|path| !keep(path)).collect();
        stale.sort();
        stale.dedup();
        stale
    }

    /// Lets go of XDP links of interfaces that are no uplinks any more.
    ///
    /// # Errors
    /// [`KernelError::File`].
    pub fn release_other_uplinks(&mut self) -> Result<(), KernelError> {
        for entry in fs::read_dir(self.pins.links()).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with("uplink-") && !self.attached.contains_key(&path) {
                link::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Where links are pinned, and what else.
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Hands out the object, for the kernel's log.
    pub const fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

/// Pins a link, replacing an older pin in one step: at no time does nothing hold the hook.
fn pin_over(link: FdLink, pin: &Path) -> Result<(), KernelError> {
    // A bpffs takes no dots in names.
    let mut fresh = pin.as_os_str().to_owned();
    fresh.push("_new");
    let fresh = PathBuf::from(fresh);
    link::remove(&fresh)?;
    link.pin(&fresh).map_err(|source| KernelError::Pin { path: fresh.clone(), source })?;
    fs::rename(&fresh, pin).map_err(|source| file("renaming", &fresh, source))
}
