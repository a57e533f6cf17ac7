//! Which interfaces lead out of this host.

use std::collections::BTreeSet;
use std::time::Duration;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use tokio::sync::{mpsc, watch};

use super::netlink::reader::{Reader, ways};
use super::restart::{Closed, keep_running};
use crate::controller::Event;
use crate::exit::{Exit, Failure};

/// The names of the interfaces that the default routes go through: IPv4 and IPv6, in the main table of this thread's network
/// namespace, each name once. Empty where there is no default route.
///
/// # Errors
/// The kernel does not answer over netlink.
pub async fn default_route_interfaces() -> Result<Vec<String>, Failure> {
    find().await.map_err(|error| {
        let error = error.context("cannot read the default routes");
        Failure::new(Exit::OsErr, error, "name the interfaces with --uplink, or give --uplink none")
    })
}

/// How often the default routes are looked at: they change rarely, and an uplink without the program only loses what is
/// dropped early there.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells of the interfaces of the default routes whenever they change, until `stop` turns true or nobody listens any more.
pub async fn watch(events: mpsc::Sender<Event>, stop: watch::Receiver<bool>) {
    keep_running("uplink", &events, stop, || async {
        let mut last = None;
        loop {
            let names = find().await?;
            if last.as_ref() != Some(&names) && events.send(Event::Uplinks(names.clone())).await.is_err() {
                return Ok(Closed);
            }
            last = Some(names);
            tokio::time::sleep(INTERVAL).await;
        }
    })
    .await;
}

async fn find() -> anyhow::Result<Vec<String>> {
    let mut reader = Reader::open()?;
    let routes = reader.routes(None).await?;
    let defaults = routes.iter().filter(|route| route.header.destination_prefix_length == 0);
    let indices: BTreeSet<u32> = defaults.flat_map(ways).map(|(index, _by_gateway)| index).collect();
    let links = reader.links().await?;
    Ok(links.iter().filter(|link| indices.contains(&link.header.index)).filter_map(name).collect())
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}
