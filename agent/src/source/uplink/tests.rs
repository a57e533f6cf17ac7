//! Real default routes, each test in a network namespace of its own.

use aya::util::KernelVersion;

use super::*;
use crate::source::netns::{in_namespace, ip, pair};

/// Far longer than any notice takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn uplinks_are_the_interfaces_of_the_default_routes() {
    in_namespace(|| async {
        let uplinks = || async { default_route_interfaces().await.expect("the kernel answers") };
        assert!(uplinks().await.is_empty());
        pair();
        ip("link add veth-c type veth peer name veth-d");
        for (link, number) in [("veth-a", 1), ("veth-b", 2), ("veth-c", 3), ("veth-d", 4)] {
            ip(&format!("link set {link} up\naddr add 10.0.{number}.1/24 dev {link}"));
        }
        // A route to somewhere, and a default route of another table, make no uplink.
        ip("route add 10.9.0.0/16 dev veth-d\nroute add default dev veth-d table 100");
        assert!(uplinks().await.is_empty());
        ip("route add default via 10.0.1.7");
        assert_eq!(uplinks().await, ["veth-a"]);
        ip("addr add fd00::1/64 dev veth-c nodad\nroute add default via fd00::7");
        assert_eq!(uplinks().await.len(), 2);
        ip("route replace default nexthop via 10.0.1.7 nexthop via 10.0.2.7");
        let mut all = uplinks().await;
        all.sort();
        assert_eq!(all, ["veth-a", "veth-b", "veth-c"]);
    });
}

#[test]
fn uplinks_are_told_of_as_default_routes_come_and_go() {
    in_namespace(|| async {
        let (events, mut facts) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        tokio::task::spawn_local(watch(events, stopped));
        let mut told = async || match tokio::time::timeout(PATIENCE, facts.recv()).await.expect("news in time") {
            Some(Event::Uplinks(names)) => names,
            event => panic!("{event:?}"),
        };
        assert!(told().await.is_empty());
        pair();
        ip("link set veth-a up\nlink set veth-b up\naddr add 10.0.1.1/24 dev veth-a\nroute add default via 10.0.1.7");
        assert_eq!(told().await, ["veth-a"]);
        if KernelVersion::current().expect("a kernel has a version") < KernelVersion::new(6, 2, 0) {
            // A link has to be down to be renamed, and its routes go with that.
            ip("link set veth-a down");
            assert!(told().await.is_empty());
            ip("link set veth-a name uplink\nlink set uplink up\nroute add default via 10.0.1.7");
        } else {
            ip("link set veth-b name other\nlink set veth-a name uplink");
        }
        assert_eq!(told().await, ["uplink"]);
        // The kernel sends no notice of an IPv4 route that goes with its link.
        ip("link set uplink down");
        assert!(told().await.is_empty());
        ip("link set uplink up\nroute add default dev uplink");
        assert_eq!(told().await, ["uplink"]);
        ip("addr flush dev uplink");
        assert!(told().await.is_empty());
    });
}
