//! XDP and tc on one interface: tcx where the kernel has it (6.6), clsact elsewhere.

use std::mem;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::util::KernelVersion;

use crate::kernel::error::{KernelError, Refusal};
use crate::view::AttachmentView;

/// The tc programs, by the name of their function. What a workload sends arrives at the host's end of its link, and what it
/// receives leaves there.
pub(super) const TC_PROGRAMS: [&str; 2] = ["tc_egress", "tc_ingress"];

/// Where clsact's filters go in the order of filters: late enough to leave room before them.
const PRIORITY: u16 = 0xb0;

pub(super) fn index(name: &str) -> Result<u32, KernelError> {
    nix::net::if_::if_nametoindex(name).map_err(|_| KernelError::NoInterface(name.to_owned()))
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, Refusal> {
    Ok(ebpf.program_mut("uplink").ok_or(ProgramError::NotLoaded)?.try_into()?)
}

fn classifier<'a>(ebpf: &'a mut Ebpf, program: &str) -> Result<&'a mut SchedClassifier, Refusal> {
    Ok(ebpf.program_mut(program).ok_or(ProgramError::NotLoaded)?.try_into()?)
}

pub(super) fn attach_xdp(ebpf: &mut Ebpf, index: u32, mode: XdpMode) -> Result<FdLink, Refusal> {
    let program = xdp(ebpf)?;
    let id = program.attach_to_if_index(index, mode)?;
    Ok(program.take_link(id)?.try_into()?)
}

pub(super) fn replace_xdp(ebpf: &mut Ebpf, link: FdLink) -> Result<(), Refusal> {
    let program = xdp(ebpf)?;
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    // The pin goes on holding the link; this handle of it may close.
    program.take_link(id)?;
    Ok(())
}

/// Attaches by tcx and returns the link, or by clsact, where the filter stays by itself.
pub(super) fn attach_tc(ebpf: &mut Ebpf, name: &str, index: u32, interface: &str) -> Result<Option<FdLink>, Refusal> {
    let program = classifier(ebpf, name)?;
    let side = side(name);
    if KernelVersion::current()? >= KernelVersion::new(6, 6, 0) {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let id = program.attach_with_options(interface, side, options)?;
        return Ok(Some(program.take_link(id)?.try_into()?));
    }
    tracing::debug!("interface {interface} ({index}): no tcx before Linux 6.6, using clsact");
    match qdisc_add_clsact(interface) {
        Ok(()) => {}
        // It is there already, ours or somebody else's.
        Err(error) => tracing::debug!("clsact on {interface}: {error}"),
    }
    // A filter of an earlier agent is in the way of a second one with the same name.
    let _ = qdisc_detach_program(interface, side, name);
    let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, ..NlOptions::default() });
    let id = program.attach_with_options(interface, side, options)?;
    mem::forget(program.take_link(id)?);
    Ok(None)
}

pub(super) fn replace_tc(ebpf: &mut Ebpf, name: &str, link: FdLink) -> Result<(), Refusal> {
    let program = classifier(ebpf, name)?;
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    program.take_link(id)?;
    Ok(())
}

/// Removes a clsact filter; tcx links go with their pin.
pub(super) fn detach_clsact(pin: &Path, view: Option<&AttachmentView>) {
    if let Some(view) = view.filter(|view| view.mode == "clsact")
        && let Err(error) = qdisc_detach_program(&view.target, side(&view.program), &view.program)
    {
        tracing::debug!("{}: {error}", pin.display());
    }
}

fn side(program: &str) -> TcAttachType {
    if program == TC_PROGRAMS[0] { TcAttachType::Ingress } else { TcAttachType::Egress }
}
