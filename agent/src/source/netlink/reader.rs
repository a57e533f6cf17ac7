//! Reading whole tables of links, addresses and routes.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::StreamExt;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::{Handle, new_connection_with_strict_check};
use tokio::time::timeout;

/// The kernel answers at once, unless a table is huge; an answer that never ends is a connection that broke.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a table is read that changes while it is read. After that the last
/// reading holds: what changed has notices, and the safety net mends the rest.
const READINGS: usize = 5;

/// A connection for requests, to this thread's network namespace.
#[derive(Debug)]
pub(in crate::source) struct Reader(Handle);

impl Reader {
    /// Needs a running tokio.
    pub(in crate::source) fn open() -> anyhow::Result<Self> {
        // The strict check is what makes the kernel heed filters in requests for tables.
        let (mut connection, handle, _notices) =
            new_connection_with_strict_check().context("the kernel refuses a netlink connection")?;
        connection.set_forward_done(true);
        // It ends when the handle is dropped.
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    pub(in crate::source) async fn links(&mut self) -> anyhow::Result<Vec<LinkMessage>> {
        let answers =
            self.table(RouteNetlinkMessage::GetLink(LinkMessage::default())).await.context("reading links")?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(links.collect())
    }

    pub(in crate::source) async fn addresses(&mut self) -> anyhow::Result<Vec<AddressMessage>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.table(request).await.context("reading addresses")?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => Some(address),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// The main table's unicast routes of both families; those through one link alone, if told so.
    pub(in crate::source) async fn routes(&mut self, link: Option<u32>) -> anyhow::Result<Vec<RouteMessage>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            request.header.table = RouteHeader::RT_TABLE_MAIN;
            request.header.kind = RouteType::Unicast;
            request.attributes.push(RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()));
            request.attributes.extend(link.map(RouteAttribute::Oif));
            let answers = self.table(RouteNetlinkMessage::GetRoute(request)).await.context("reading routes")?;
            routes.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) if is_main_unicast(&route) => Some(route),
                _ => None,
            }));
        }
        Ok(routes)
    }

    async fn table(&mut self, request: RouteNetlinkMessage) -> anyhow::Result<Vec<RouteNetlinkMessage>> {
        let mut reading = self.table_once(&request).await?;
        for _ in 1..READINGS {
            if !reading.interrupted {
                break;
            }
            reading = self.table_once(&request).await?;
        }
        Ok(reading.answers)
    }

    async fn table_once(&mut self, request: &RouteNetlinkMessage) -> anyhow::Result<Reading> {
        let mut request = NetlinkMessage::from(request.clone());
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut stream = self.0.request(request)?;
        let mut reading = Reading { answers: Vec::new(), interrupted: false };
        // Only the last message says that all came; the stream also ends where the connection breaks.
        while let Some(message) = timeout(PATIENCE, stream.next()).await.context("the kernel does not answer")? {
            reading.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            let code = match message.payload {
                NetlinkPayload::InnerMessage(answer) => {
                    reading.answers.push(answer);
                    continue;
                }
                NetlinkPayload::Done(done) => done.code,
                NetlinkPayload::Error(error) => error.raw_code(),
                other => bail!("the kernel answers {other:?}"),
            };
            return match Errno::from_raw(code.saturating_neg()) {
                Errno::UnknownErrno if code == 0 => Ok(reading),
                // The table or the filter's link does not exist, or the kernel has no IPv6.
                Errno::ENOENT | Errno::ENODEV | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => Ok(reading),
                error => Err(error).context("the kernel refuses"),
            };
        }
        bail!("the netlink connection broke")
    }
}

struct Reading {
    answers: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

/// Whether a route is one of the main table's that leads somewhere; not every kernel filters.
pub(super) fn is_main_unicast(route: &RouteMessage) -> bool {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or(route.header.table.into()) == u32::from(RouteHeader::RT_TABLE_MAIN)
        && route.header.kind == RouteType::Unicast
        && !route.header.flags.contains(RouteFlags::Cloned)
}

/// The links that a route leads through, and whether by a gateway. None where it goes by a nexthop object alone.
pub(in crate::source) fn ways(route: &RouteMessage) -> Vec<(u32, bool)> {
    let mut ways = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ways.push((*index, has_gateway(&route.attributes))),
            RouteAttribute::MultiPath(hops) => {
                ways.extend(hops.iter().map(|hop| (hop.interface_index, has_gateway(&hop.attributes))));
            }
            _ => {}
        }
    }
    ways
}

fn has_gateway(attributes: &[RouteAttribute]) -> bool {
    attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)))
}
