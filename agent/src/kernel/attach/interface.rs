//! XDP and tc on one interface, by links.

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};

use crate::kernel::error::{KernelError, Refusal};

/// The tc programs, by the name of their function. What a workload sends arrives at the host's end of its link, and what it
/// receives leaves there.
pub(super) const TC_PROGRAMS: [&str; 2] = ["tc_egress", "tc_ingress"];

pub(super) fn index(name: &str) -> Result<u32, KernelError> {
    nix::net::if_::if_nametoindex(name).map_err(|_| KernelError::NoInterface(name.to_owned()))
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, Refusal> {
    Ok(ebpf.program_mut("uplink").ok_or(ProgramError::NotLoaded)?.try_into()?)
}

pub(super) fn classifier<'a>(ebpf: &'a mut Ebpf, program: &str) -> Result<&'a mut SchedClassifier, Refusal> {
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

/// Attaches by tcx, which a kernel with links for tc has.
pub(super) fn attach_tc(ebpf: &mut Ebpf, name: &str, interface: &str) -> Result<FdLink, Refusal> {
    let program = classifier(ebpf, name)?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(interface, side(name), options)?;
    Ok(program.take_link(id)?.try_into()?)
}

pub(super) fn replace_tc(ebpf: &mut Ebpf, name: &str, link: FdLink) -> Result<(), Refusal> {
    let program = classifier(ebpf, name)?;
    let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
    program.take_link(id)?;
    Ok(())
}

pub(super) fn side(program: &str) -> TcAttachType {
    if program == TC_PROGRAMS[0] { TcAttachType::Ingress } else { TcAttachType::Egress }
}
