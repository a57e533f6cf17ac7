//! Real links, each test in a network namespace of its own.

use std::net::IpAddr;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::source::netns::{in_namespace, ip, pair};

/// Far longer than any notice takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A listener that keeps the view that the facts give.
struct Listener {
    facts: mpsc::Receiver<Event>,
    view: BTreeMap<u32, LinkFact>,
    changes: usize,
    resyncs: usize,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listener {
    async fn start(receive_buffer: usize) -> Self {
        let (events, facts) = mpsc::channel(16);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::task::spawn_local(async move {
            keep_running("netlink", &events, stopped, || run(receive_buffer, &events)).await;
        });
        let mut listener = Self { facts, view: BTreeMap::new(), changes: 0, resyncs: 0, stop, task };
        listener.hear().await;
        assert_eq!(listener.resyncs, 1, "it begins with everything");
        listener
    }

    async fn hear(&mut self) {
        let event = timeout(PATIENCE, self.facts.recv()).await;
        let event = event.unwrap_or_else(|_| panic!("silence; the view is {:#?}", self.view));
        let Some(Event::Fact(fact)) = event else { panic!("{event:?}") };
        self.changes += 1;
        match fact.change {
            Change::LinkResync(all) => {
                self.resyncs += 1;
                self.view = all.into_iter().map(|link| (link.index, link)).collect();
            }
            Change::LinkChanged(link) => {
                let before = self.view.insert(link.index, link.clone());
                assert_ne!(before, Some(link), "nothing changed");
            }
            Change::LinkGone(index) => assert!(self.view.remove(&index).is_some(), "{index} went twice"),
            change => panic!("{change:?}"),
        }
    }

    fn link(&self, name: &str) -> Option<&LinkFact> {
        self.view.values().find(|link| link.name == name)
    }

    /// Listens until a link is as it should be.
    async fn until(&mut self, name: &str, is: impl Fn(&LinkFact) -> bool) {
        while !self.link(name).is_some_and(&is) {
            self.hear().await;
        }
    }

    async fn gone(&mut self, name: &str) {
        while self.link(name).is_some() {
            self.hear().await;
        }
    }

    /// Runs commands whose effect is one change, of one link; what was done before has none.
    async fn one_change(&mut self, commands: &str, name: &str, is: impl Fn(&LinkFact) -> bool) {
        let before = self.changes;
        ip(commands);
        self.hear().await;
        assert!(self.link(name).is_some_and(is), "after {commands}: {:#?}", self.view);
        assert_eq!(self.changes, before + 1);
    }
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
    let mut addresses = texts.map(|text| text.parse().expect("an address")).to_vec();
    addresses.sort();
    addresses
}

#[test]
fn links_come_are_renamed_get_labels_and_go() {
    in_namespace(|| async {
        let mut listener = Listener::start(RECEIVE_BUFFER).await;
        assert!(listener.link("lo").is_some());
        pair();
        ip("link set veth-a up");
        listener.until("veth-a", |link| link.alias.is_none()).await;
        listener.until("veth-b", |_| true).await;
        let index = listener.link("veth-a").expect("it is there").index;

        // Before Linux 6.2 a link has to be down to be renamed.
        let rename = "link set veth-a down\nlink set veth-a name web\nlink set web up";
        listener.one_change(rename, "web", |link| link.index == index).await;
        let label = "link set web alias app=web,env=prod";
        listener.one_change(label, "web", |link| link.alias.as_deref() == Some("app=web,env=prod")).await;
        listener.one_change("link set web alias \"\"", "web", |link| link.alias.is_none()).await;
        // Neither state nor size of a link is told of.
        ip("link set web mtu 1400\nlink set web down\nlink set web up");
        listener.one_change("link set web alias x=y", "web", |link| link.alias.is_some()).await;

        ip("link del web");
        listener.gone("web").await;
        listener.gone("veth-b").await;
        assert_eq!(listener.resyncs, 1);
    });
}

#[test]
fn a_bridge_that_loses_a_port_loses_no_link() {
    in_namespace(|| async {
        pair();
        ip("link add bridge type bridge\nlink set veth-a up\naddr add 10.0.0.1/24 dev veth-a");
        let mut listener = Listener::start(RECEIVE_BUFFER).await;
        ip("link set veth-a master bridge\nlink set veth-a nomaster");
        listener
            .one_change("link set veth-a alias x=y", "veth-a", |link| {
                link.alias.is_some() && link.host_addresses == addresses(["10.0.0.1"])
            })
            .await;
    });
}

#[test]
fn addresses_of_the_host_and_of_peers_come_and_go() {
    in_namespace(|| async {
        pair();
        let mut listener = Listener::start(RECEIVE_BUFFER).await;
        let host =
            |own: Vec<IpAddr>| move |link: &LinkFact| link.host_addresses == own && link.peer_addresses.is_empty();
        let own = host(addresses(["10.0.0.1"]));
        listener.one_change("addr add 10.0.0.1/24 dev veth-a", "veth-a", own).await;
        let both = host(addresses(["10.0.0.1", "fd00::1"]));
        listener.one_change("addr add fd00::1/64 dev veth-a nodad", "veth-a", both).await;
        // A second prefix of the same address says nothing new.
        ip("addr add 10.0.0.1/16 dev veth-a\naddr del 10.0.0.1/16 dev veth-a");
        listener.one_change("addr del fd00::1/64 dev veth-a", "veth-a", host(addresses(["10.0.0.1"]))).await;
        listener.one_change("addr del 10.0.0.1/24 dev veth-a", "veth-a", host(Vec::new())).await;

        ip("link set veth-a up\nlink set veth-b up");
        for (own, peer, length) in [("10.1.0.1", "10.1.0.2", 32), ("fd01::1", "fd01::2", 128)] {
            let with_peer = format!("addr add {own} peer {peer}/{length} dev veth-a");
            let (own, peer) = (addresses([own]), addresses([peer]));
            let is = |link: &LinkFact| link.host_addresses == own && link.peer_addresses == peer;
            ip(&with_peer);
            listener.until("veth-a", is).await;
            ip(&with_peer.replace("addr add", "addr del"));
            listener.until("veth-a", |link| link.host_addresses.is_empty() && link.peer_addresses.is_empty()).await;
        }
        assert_eq!(listener.resyncs, 1);
    });
}

#[test]
fn host_routes_tell_what_is_behind_a_link() {
    in_namespace(|| async {
        pair();
        ip(
            "addr add 10.0.0.1/24 dev veth-a\naddr add fd00::1/64 dev veth-a nodad\nlink set veth-a up\nlink set veth-b up",
        );
        let mut listener = Listener::start(RECEIVE_BUFFER).await;
        let peers = |peers: Vec<IpAddr>| move |link: &LinkFact| link.peer_addresses == peers;
        let one = peers(addresses(["10.9.0.1"]));
        listener.one_change("route add 10.9.0.1/32 dev veth-a", "veth-a", one).await;
        let both = peers(addresses(["10.9.0.1", "fd09::1"]));
        listener.one_change("route add fd09::1/128 dev veth-a", "veth-a", both).await;
        // By a gateway, of another table, of a net, to nowhere, and the same target once more: nothing new.
        ip(
            "route add 10.9.0.2/32 via 10.0.0.7\nroute add 10.9.0.3/32 dev veth-a table 100\nroute add 10.8.0.0/16 dev veth-a\n\
            route add blackhole 10.9.0.4/32\nroute add 10.9.0.1/32 dev veth-a metric 7\nroute add fd09::2/128 via fd00::7",
        );
        // What is behind a link moves to another one with the route.
        let before = listener.changes;
        ip("route del 10.9.0.1/32 metric 7\nroute replace 10.9.0.1/32 dev veth-b");
        listener.until("veth-a", peers(addresses(["fd09::1"]))).await;
        listener.until("veth-b", peers(addresses(["10.9.0.1"]))).await;
        assert_eq!(listener.changes, before + 2);
        // The kernel sends no notice of an IPv4 route that goes with its link.
        ip("link set veth-b down");
        listener.until("veth-b", peers(Vec::new())).await;
        listener.one_change("route del fd09::1/128 dev veth-a", "veth-a", peers(Vec::new())).await;
        assert_eq!(listener.resyncs, 1);
    });
}

#[test]
fn a_host_route_that_goes_with_the_last_address_is_told_of() {
    in_namespace(|| async {
        pair();
        ip("addr add 10.0.0.1/24 dev veth-a\nlink set veth-a up\nroute add 10.9.0.1/32 dev veth-a");
        let mut listener = Listener::start(RECEIVE_BUFFER).await;
        listener.until("veth-a", |link| link.peer_addresses == addresses(["10.9.0.1"])).await;
        ip("addr del 10.0.0.1/24 dev veth-a");
        listener.until("veth-a", |link| link.host_addresses.is_empty() && link.peer_addresses.is_empty()).await;
    });
}

#[test]
fn after_an_overflow_everything_is_told_anew() {
    in_namespace(|| async {
        let mut listener = Listener::start(4096).await;
        // The source does not run meanwhile: it shares this thread.
        let links: String =
            (0..300).map(|number| format!("link add veth-{number} type veth peer name peer-{number}\n")).collect();
        ip(&links);
        ip("link del veth-7\nlink set veth-8 name renamed\nlink set veth-9 alias x=y\naddr add 10.0.0.1/24 dev veth-9");
        while listener.resyncs < 2 || listener.view.len() < 599 {
            listener.hear().await;
        }
        listener.until("veth-9", |link| link.host_addresses == addresses(["10.0.0.1"])).await;
        assert_eq!(listener.view.len(), 599);
        assert!(listener.link("peer-7").is_none() && listener.link("veth-8").is_none());
        assert!(listener.link("renamed").is_some() && listener.link("veth-299").is_some());
        assert_eq!(listener.link("veth-9").and_then(|link| link.alias.as_deref()), Some("x=y"));
        ip("link set veth-9 up alias z=y");
        listener.until("veth-9", |link| link.alias.as_deref() == Some("z=y")).await;
    });
}

#[test]
fn many_links_at_once_are_followed_without_an_overflow() {
    in_namespace(|| async {
        let mut listener = Listener::start(RECEIVE_BUFFER).await;
        let links: String = (0..200)
            .map(|number| {
                format!(
                    "link add veth-{number} type veth peer name peer-{number}\nlink set veth-{number} up\n\
                 addr add 10.0.{number}.1/24 dev veth-{number}\nroute add 10.9.0.{number}/32 dev veth-{number}\n"
                )
            })
            .collect();
        ip(&links);
        for number in 0..200 {
            let behind = addresses([&format!("10.9.0.{number}")]);
            listener.until(&format!("veth-{number}"), |link| link.peer_addresses == behind).await;
        }
        let links: String = (0..200).map(|number| format!("link del veth-{number}\n")).collect();
        ip(&links);
        while listener.view.len() > 1 {
            listener.hear().await;
        }
        assert_eq!(listener.resyncs, 1);
    });
}

#[test]
fn it_ends_when_told_to_and_when_nobody_listens() {
    in_namespace(|| async {
        let listener = Listener::start(RECEIVE_BUFFER).await;
        listener.stop.send(true).expect("it listens");
        timeout(PATIENCE, listener.task).await.expect("it ends").expect("without panic");

        let listener = Listener::start(RECEIVE_BUFFER).await;
        drop(listener.facts);
        timeout(PATIENCE, listener.task).await.expect("it ends").expect("without panic");
    });
}
