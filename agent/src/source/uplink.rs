//! Which interfaces lead out of this host: those of the default routes.

use std::collections::BTreeMap;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::netlink::notices::{Batch, Notices};
use super::netlink::reader::{Reader, ways};
use super::restart::{Closed, keep_running};
use crate::controller::Event;
use crate::exit::{Exit, Failure};

/// A change of network brings several notices; the routes are read when it has been quiet for so long, at most twice that
/// after the first.
const QUIET: Duration = Duration::from_millis(100);
/// How often the default routes are read without a notice.
const SAFETY_NET: Duration = Duration::from_secs(60);
/// Room for notices that are not read yet, in bytes. Nothing is lost with them: the routes are read again.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The names of the interfaces that the default routes go through: IPv4 and IPv6, in the main table of this thread's network
/// namespace, each name once. Empty where there is no default route.
///
/// # Errors
/// The kernel does not answer over netlink.
pub async fn default_route_interfaces() -> Result<Vec<String>, Failure> {
    let read = async { find(&mut Reader::open()?).await };
    let uplinks = read.await.map_err(|error: anyhow::Error| {
        let error = error.context("cannot read the default routes");
        Failure::new(Exit::OsErr, error, "name the interfaces with --uplink, or give --uplink none")
    })?;
    Ok(uplinks.into_values().collect())
}

/// Tells of these interfaces at the start and whenever they change, until `stop` turns true or nobody listens any more.
pub async fn watch(events: mpsc::Sender<Event>, stop: watch::Receiver<bool>) {
    keep_running("uplink", &events, stop, || run(&events)).await;
}

async fn run(events: &mpsc::Sender<Event>) -> anyhow::Result<Closed> {
    let mut notices = Notices::subscribe(RECEIVE_BUFFER)?;
    let mut reader = Reader::open()?;
    let mut told = None;
    loop {
        let uplinks = find(&mut reader).await?;
        if told.as_ref() != Some(&uplinks) {
            tracing::debug!(?uplinks, "the default routes' interfaces");
            if events.send(Event::Uplinks(uplinks.values().cloned().collect())).await.is_err() {
                return Ok(Closed);
            }
        }
        let safety_net = Instant::now() + SAFETY_NET;
        loop {
            tokio::select! {
                batch = notices.next() => if concerns(&batch?, &uplinks) { break },
                () = sleep_until(safety_net) => break,
            }
        }
        let latest = Instant::now() + 2 * QUIET;
        while let Ok(batch) = timeout_at((Instant::now() + QUIET).min(latest), notices.next()).await {
            batch?;
        }
        told = Some(uplinks);
    }
}

/// Whether a default route may have changed: it was itself told of, or its link or that one's addresses were, with which
/// routes go without a notice.
fn concerns(batch: &Batch, uplinks: &BTreeMap<u32, String>) -> bool {
    let Batch::Messages(messages) = batch else { return true };
    messages.iter().any(|message| match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.destination_prefix_length == 0
        }
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            uplinks.contains_key(&link.header.index)
        }
        RouteNetlinkMessage::DelAddress(address) => uplinks.contains_key(&address.header.index),
        _ => false,
    })
}

/// The default routes' links, by index.
async fn find(reader: &mut Reader) -> anyhow::Result<BTreeMap<u32, String>> {
    let routes = reader.routes(None).await?;
    let defaults = routes.iter().filter(|route| route.header.destination_prefix_length == 0);
    let indices: Vec<u32> = defaults.flat_map(ways).map(|(index, _by_gateway)| index).collect();
    let links = reader.links().await?;
    let uplinks = links.iter().filter(|link| indices.contains(&link.header.index));
    Ok(uplinks.filter_map(|link| Some((link.header.index, name(link)?))).collect())
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
