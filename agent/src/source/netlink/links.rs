//! The links, addresses and host routes as they were last seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::reader::{Reader, is_main_unicast, ways};
use crate::source::LinkFact;

/// Links by index. What belongs to a link may be seen before the link itself.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<u32, Link>);

#[derive(Debug, Default)]
struct Link {
    name: Option<String>,
    alias: Option<String>,
    up: bool,
    controller: Option<u32>,
    addresses: BTreeSet<Assigned>,
    /// Targets of host routes.
    targets: BTreeSet<IpAddr>,
}

/// An address of the host's on a link. IPv4 may have the same one twice, with different peers or prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Assigned {
    own: IpAddr,
    prefix: u8,
    peer: Option<IpAddr>,
}

/// What notices leave to be looked at.
#[derive(Debug, Default)]
pub(super) struct Doubtful {
    /// Links that may have changed.
    pub(super) links: BTreeSet<u32>,
    /// Those of them whose routes may have changed.
    pub(super) routes: BTreeSet<u32>,
    /// Routes changed, and it is not known through which link.
    pub(super) all_routes: bool,
}

impl Links {
    /// Reads everything.
    pub(super) async fn read(reader: &mut Reader) -> anyhow::Result<Self> {
        let mut links = Self::default();
        let mut ignored = Doubtful::default();
        for link in reader.links().await? {
            links.absorb(RouteNetlinkMessage::NewLink(link), &mut ignored);
        }
        for address in reader.addresses().await? {
            links.absorb(RouteNetlinkMessage::NewAddress(address), &mut ignored);
        }
        links.set_routes(None, &reader.routes(None).await?);
        Ok(links)
    }

    /// Every link.
    pub(super) fn facts(&self) -> BTreeMap<u32, LinkFact> {
        self.0.keys().filter_map(|index| Some((*index, self.fact(*index)?))).collect()
    }

    /// The index of every link.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    /// One link, where it exists.
    pub(super) fn fact(&self, index: u32) -> Option<LinkFact> {
        let link = self.0.get(&index)?;
        let own: BTreeSet<_> = link.addresses.iter().map(|address| address.own).collect();
        let mut peers: BTreeSet<_> = link.addresses.iter().filter_map(|address| address.peer).collect();
        peers.extend(&link.targets);
        Some(LinkFact {
            index,
            name: link.name.clone()?,
            alias: link.alias.clone(),
            // The kernel makes host routes to its own IPv6 addresses too.
            peer_addresses: peers.difference(&own).copied().collect(),
            host_addresses: own.into_iter().collect(),
        })
    }

    /// Takes in a notice, or an entry of a table.
    pub(super) fn absorb(&mut self, message: RouteNetlinkMessage, doubtful: &mut Doubtful) {
        match message {
            // Bridges tell of their ports as of links too, and IPv6 of its settings: other families, and not what is meant.
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.link_is(&link, doubtful);
            }
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.0.remove(&link.header.index);
                doubtful.links.insert(link.header.index);
                doubtful.routes.remove(&link.header.index);
            }
            RouteNetlinkMessage::NewAddress(address) => {
                let Some(assigned) = Assigned::of(&address) else { return };
                let index = address.header.index;
                let addresses = &mut self.0.entry(index).or_default().addresses;
                if assigned.own.is_ipv6() {
                    // IPv6 has each address once; a new peer replaces the old one.
                    addresses.retain(|other| other.own != assigned.own);
                }
                addresses.insert(assigned);
                doubtful.links.insert(index);
            }
            RouteNetlinkMessage::DelAddress(address) => {
                let Some(assigned) = Assigned::of(&address) else { return };
                let index = address.header.index;
                let Some(link) = self.0.get_mut(&index) else { return };
                link.addresses.retain(|other| {
                    if assigned.own.is_ipv6() { other.own != assigned.own } else { *other != assigned }
                });
                doubtful.links.insert(index);
                // Its routes go with it, and not every kernel tells.
                doubtful.routes.insert(index);
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                self.route_changed(&route, doubtful);
            }
            _ => {}
        }
    }

    /// Sets the targets of host routes: those of one link, or of all.
    pub(super) fn set_routes(&mut self, link: Option<u32>, routes: &[RouteMessage]) {
        let concerned = |index: u32| link.is_none_or(|link| link == index);
        for (index, link) in &mut self.0 {
            if concerned(*index) {
                link.targets.clear();
            }
        }
        for route in routes {
            let Some(target) = host_target(route) else { continue };
            for (index, by_gateway) in ways(route) {
                if !by_gateway && concerned(index) {
                    self.0.entry(index).or_default().targets.insert(target);
                }
            }
        }
    }

    fn link_is(&mut self, message: &LinkMessage, doubtful: &mut Doubtful) {
        let index = message.header.index;
        let mut name = None;
        let mut alias = None;
        let mut controller = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::IfAlias(text) if !text.is_empty() => alias = Some(text.clone()),
                LinkAttribute::Controller(index) => controller = Some(*index),
                _ => {}
            }
        }
        // Wireless links tell of their radio in messages that are no state.
        if name.is_none() {
            return;
        }
        let up = message.header.flags.contains(LinkFlags::Up);
        let known = self.0.get(&index).is_some_and(|link| link.name.is_some());
        let link = self.0.entry(index).or_default();
        if known && (link.up != up || link.controller != controller) {
            // Routes go without a notice where a link goes down or changes its routing domain.
            doubtful.routes.insert(index);
        }
        (link.name, link.alias, link.up, link.controller) = (name, alias, up, controller);
        doubtful.links.insert(index);
    }

    fn route_changed(&self, route: &RouteMessage, doubtful: &mut Doubtful) {
        let Some(target) = host_target(route) else { return };
        let now = ways(route);
        doubtful.all_routes |= now.is_empty();
        let before = self.0.iter().filter(|(_, link)| link.targets.contains(&target)).map(|(index, _)| *index);
        for index in before.chain(now.into_iter().map(|(index, _)| index)) {
            doubtful.links.insert(index);
            doubtful.routes.insert(index);
        }
    }
}

impl Assigned {
    fn of(message: &AddressMessage) -> Option<Self> {
        let mut address = None;
        let mut local = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                _ => {}
            }
        }
        // With both, `address` is the other end's; where there is no other end IPv4 repeats itself.
        let own = local.or(address)?;
        Some(Self { own, prefix: message.header.prefix_len, peer: address.filter(|address| *address != own) })
    }
}

/// The one address that a route of the main table leads to.
fn host_target(route: &RouteMessage) -> Option<IpAddr> {
    if !is_main_unicast(route) {
        return None;
    }
    let target = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let bits = if target.is_ipv4() { 32 } else { 128 };
    (route.header.destination_prefix_length == bits).then_some(target)
}
