//! tc before Linux 6.6: filters of the clsact qdisc, which no link stands for.
//!
//! A filter stays by itself. What is pinned in the place of a link is its program, as a mark: by it a later agent puts its own
//! program into the filter in one step, and whoever removes the pin knows of the filter.

mod filter;

use std::io;
use std::mem;
use std::path::Path;

use aya::programs::SchedClassifier;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact, qdisc_detach_program,
};
use aya::util::KernelVersion;

pub(super) use self::filter::Found;
use super::interface::{TC_PROGRAMS, side};
use crate::kernel::error::Refusal;

/// Where the filters go in the order of filters: late enough to leave room before them.
const PRIORITY: u16 = 0xb0;
/// Their number at that place.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Whether this kernel has no tcx.
pub(in crate::kernel) fn is_used() -> bool {
    KernelVersion::current().is_ok_and(|current| current < KernelVersion::new(6, 6, 0))
}

/// Attaches the program `name` to an interface. Where `pin` says that an earlier agent did, its program is replaced in place:
/// each packet passes the old one or the new one.
pub(super) fn attach(program: &mut SchedClassifier, name: &str, interface: &str, pin: &Path) -> Result<(), Refusal> {
    let was_attached = pin.exists();
    let id = match was_attached.then(|| replace(program, name, interface)) {
        Some(Ok(id)) => id,
        // The earlier filter went with its interface.
        Some(Err(_)) | None => create(program, name, interface)?,
    };
    // Dropped, it would take the filter with it.
    mem::forget(program.take_link(id)?);
    let fresh = pin.with_file_name(format!("{}_new", pin.file_name().unwrap_or_default().display()));
    // What an agent left that was killed at this point.
    let _ = std::fs::remove_file(&fresh);
    program.pin(&fresh)?;
    Ok(std::fs::rename(&fresh, pin)?)
}

type LinkId = <SchedClassifierLink as aya::programs::links::Link>::Id;

fn replace(program: &mut SchedClassifier, name: &str, interface: &str) -> Result<LinkId, Refusal> {
    let link = SchedClassifierLink::attached(interface, side(name), PRIORITY, HANDLE, None)?;
    Ok(program.attach_to_link(link)?)
}

fn create(program: &mut SchedClassifier, name: &str, interface: &str) -> Result<LinkId, Refusal> {
    // It may be there already, ours or somebody else's.
    if let Err(error) = qdisc_add_clsact(interface) {
        tracing::debug!("clsact on {interface}: {error}");
    }
    // The filter of an agent that was killed before it left its mark.
    let _ = qdisc_detach_program(interface, side(name), name);
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, ..NlOptions::default() };
    Ok(program.attach_with_options(interface, side(name), TcAttachOptions::Netlink(options))?)
}

/// Looks at the place of the filter of the program `name`.
///
/// # Errors
/// As netlink(7).
pub(super) fn look(name: &str, interface: u32) -> io::Result<Found> {
    filter::look(interface, side(name))
}

/// Removes the filter that a pin stands for, if it stands for one; the qdisc stays, which others may use. That the interface
/// is gone, and the filter with it, is no error.
pub(super) fn detach(pin: &Path) {
    let name = pin.file_name().unwrap_or_default().to_string_lossy();
    let Some((program, interface)) = filter_of(&name) else { return };
    let Ok(interface) = nix::net::if_::if_indextoname(interface) else { return };
    let interface = interface.to_string_lossy();
    if let Err(error) = qdisc_detach_program(&interface, side(program), program) {
        tracing::debug!("{program} of {interface}: {error}");
    }
}

/// The program and the interface's index in a pin's name.
fn filter_of(pin: &str) -> Option<(&'static str, u32)> {
    let (program, index) = pin.rsplit_once('-')?;
    let program = TC_PROGRAMS.into_iter().find(|name| *name == program)?;
    Some((program, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pins_of_tc_programs_stand_for_filters() {
        assert_eq!(filter_of("tc_egress-7"), Some(("tc_egress", 7)));
        assert_eq!(filter_of("tc_ingress-12"), Some(("tc_ingress", 12)));
        assert_eq!(filter_of("uplink-7"), None);
        assert_eq!(filter_of("connect4"), None);
        assert_eq!(filter_of("tc_egress-7_new"), None);
    }
}
