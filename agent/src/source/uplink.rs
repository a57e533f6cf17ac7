//! Which interfaces lead out of this host.

use std::collections::BTreeSet;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::netlink::reader::{Reader, ways};
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
