//! Asking the kernel what is in the place of a filter, as a link says of itself.

use std::io;
use std::os::fd::AsRawFd;

use aya::programs::TcAttachType;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcBpfFlags, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::{HANDLE, PRIORITY};

/// `ETH_P_ALL` (include/uapi/linux/if_ether.h): a filter of ours looks at every packet.
const EVERY_PROTOCOL: u16 = 3;
/// The kernel's own limit for a message about one thing (`NLMSG_GOODSIZE`).
const ANSWER: usize = 8192;

/// What is in the place of a filter.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::kernel::attach) enum Found {
    /// Nothing.
    Nothing,
    /// A filter whose verdict is that of the program of this ID.
    Program(u32),
    /// Another kind of filter.
    Other,
}

/// Looks at the place of our filter at one side of an interface.
///
/// # Errors
/// As netlink(7), and an answer that makes no sense.
pub(super) fn look(interface: u32, side: TcAttachType) -> io::Result<Found> {
    let answer = ask(NetlinkMessage::from(RouteNetlinkMessage::GetTrafficFilter(place(interface, side))))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(filter)) => Ok(found(&filter)),
        NetlinkPayload::Error(error) => match Errno::from_raw(error.raw_code().saturating_neg()) {
            // No filter; no qdisc or chain that could hold one; no interface.
            Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENODEV => Ok(Found::Nothing),
            errno => Err(errno.into()),
        },
        other => Err(io::Error::other(format!("the kernel answers {other:?}"))),
    }
}

/// One request, to this thread's network namespace, that has one answer.
fn ask(mut request: NetlinkMessage<RouteNetlinkMessage>) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut answer = [0; ANSWER];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    NetlinkMessage::deserialize(&answer[..length]).map_err(|error| io::Error::other(error.to_string()))
}

/// The place of our filter, as the kernel names it.
fn place(interface: u32, side: TcAttachType) -> TcMessage {
    let minor = if side == TcAttachType::Ingress { TcHandle::MIN_INGRESS } else { TcHandle::MIN_EGRESS };
    let header = TcHeader {
        index: interface.cast_signed(),
        handle: u32::from(HANDLE).into(),
        parent: TcHandle { minor, ..TcHandle::CLSACT },
        info: u32::from(PRIORITY) << 16 | u32::from(EVERY_PROTOCOL.to_be()),
        ..TcHeader::default()
    };
    TcMessage::from_parts(header, Vec::new())
}

/// What filter this is. One that only classifies runs a program too, but lets pass whatever that says.
fn found(filter: &TcMessage) -> Found {
    let options = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let (mut program, mut decides) = (None, false);
    for option in options.flatten() {
        match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => program = Some(*id),
            TcOption::Bpf(TcFilterBpfOption::Flags(flags)) => decides = flags.contains(TcBpfFlags::DirectAction),
            _ => {}
        }
    }
    program.filter(|_| decides).map_or(Found::Other, Found::Program)
}

#[cfg(test)]
mod tests;
