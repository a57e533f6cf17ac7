//! The kernel's notices of links, addresses and routes.

use std::os::fd::AsFd;

use anyhow::Context;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::proto::Connection;
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{MulticastGroup, new_multicast_connection};

/// A subscription. It reads its socket only while [`Notices::next`] is waited for.
pub(in crate::source) struct Notices {
    connection: Connection<RouteNetlinkMessage>,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

/// What had happened when it was asked.
pub(in crate::source) enum Batch {
    /// This, in order.
    Messages(Vec<RouteNetlinkMessage>),
    /// Something that is lost.
    Overflow,
}

impl Notices {
    /// Subscribes, with room for so many bytes of notices that are not read yet.
    pub(in crate::source) fn subscribe(receive_buffer: usize) -> anyhow::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (mut connection, _requests, messages) =
            new_multicast_connection(&groups).context("the kernel refuses a netlink subscription")?;
        let socket = connection.socket_mut().socket_ref().as_fd();
        // The forced size may exceed net.core.rmem_max, but takes CAP_NET_ADMIN of the first user namespace.
        if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &receive_buffer).context("a netlink receive buffer")?;
        }
        Ok(Self { connection, messages })
    }

    /// Waits for notices, and takes all there are: several changes of one link make one.
    ///
    /// # Errors
    /// The socket cannot be read any more.
    pub(in crate::source) async fn next(&mut self) -> anyhow::Result<Batch> {
        let first = tokio::select! {
            biased;
            () = &mut self.connection => None,
            message = self.messages.next() => message,
        };
        let mut next = Some(first.context("the netlink subscription broke")?);
        let mut messages = Vec::new();
        let mut overflow = false;
        while let Some((message, _kernel)) = next {
            match message.payload {
                NetlinkPayload::InnerMessage(message) => messages.push(message),
                NetlinkPayload::Overrun(_) => overflow = true,
                _ => {}
            }
            next = self.messages.next().now_or_never().flatten();
        }
        Ok(if overflow { Batch::Overflow } else { Batch::Messages(messages) })
    }
}
