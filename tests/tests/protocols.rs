//! What is more than a port: path MTU discovery, fragments, ICMP by type and code, errors of closed ports, protocols by number.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bulkhead_tests::case::Way::Echo;
use bulkhead_tests::case::{is_dropped, is_refused, reaches, tried};
use bulkhead_tests::check::is_emulated;
use bulkhead_tests::document::group;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Transport, Version, Workload};
use bulkhead_tests::packet::{Ip, ethernet, icmp, udp};

/// Fits no link.
const LARGE: usize = 5_000;
/// Of the link that is narrower than all others.
const NARROW: &str = "1400";
/// Enough for many full segments.
const BULK: usize = 4 << 20;
/// How long a transfer may stand still: TCP repeats what was too big once it is told.
const STANDSTILL: Duration = Duration::from_secs(8);
/// Connections that may be tried for one transfer.
const CONNECTIONS: usize = 3;

/// From everyone and to everyone, only this.
fn only(ports: &str) -> [String; 2] {
    let all = "[{cidr: 0.0.0.0/0}, {cidr: \"::/0\"}]";
    [format!("ingress: [{{from: {all}, ports: [{ports}]}}]"), format!("egress: [{{to: {all}, ports: [{ports}]}}]")]
}

/// `subject` may send and receive this alone; `outsider` is beyond the uplink, and nothing holds for it.
struct Scene {
    agent: Agent,
    subject: Workload,
    outsider: Workload,
    lab: Lab,
}

impl Scene {
    fn new(ports: &str) -> Self {
        let mut lab = Lab::new();
        let subject = lab.container("subject", "app=subject");
        let outsider = lab.outsider("outsider", "");
        lab.declare(&subject);
        let [ingress, egress] = only(ports);
        lab.policy("groups.yaml", &group("subjects", 100, "subject", &[&ingress, &egress]));
        let agent = lab.agent();
        Self { agent, subject, outsider, lab }
    }

    fn serving() -> Self {
        let scene = Self::new("{protocol: tcp, port: 8000}, {protocol: udp, port: 8000}");
        scene.subject.serve(&[8000, 9000]);
        scene.outsider.serve(&[8000, 9000]);
        scene
    }

    fn ends(&self, what: &str, version: Version, expected: &Outcome, seen: &Outcome) {
        assert_eq!(expected, seen, "{what} by {version:?}\n{}", self.agent.dump());
    }
}

/// What a workload has learned of the path to somebody: `mtu 1400` in the route's cache.
fn learned(who: &Workload, to: IpAddr) -> bool {
    who.ip(&format!("route get {to}")).contains(&format!("mtu {NARROW}"))
}

/// A transfer by a connection of its own, and by another where that stood still: on a busy machine a kernel without any agent
/// does not always get the first through a link that has just become narrow.
fn transfers(from: &Workload, to: SocketAddr) -> Outcome {
    let attempt = || from.transfer(from.keep(to), BULK, STANDSTILL);
    (1..CONNECTIONS).fold(attempt(), |outcome, _| if outcome == Outcome::Reached { outcome } else { attempt() })
}

/// Whether this kernel gets a transfer through a narrow link where no agent ever ran. That of Debian's 6.12 does not in emulation:
/// its TCP gives the connection up for a time-out (`TCPAbortOnTimeout`) after ten seconds.
fn is_up_to_narrow_links() -> bool {
    let mut lab = Lab::new();
    let (server, outsider) = (lab.container("server", ""), lab.outsider("outsider", ""));
    server.serve(&[8000]);
    lab.site().host.ip(&format!("link set v-server mtu {NARROW}")).expect("the link takes it");
    let ends = Version::BOTH.map(|version| transfers(&outsider, server.at(version, 8000)));
    let is_up_to = ends == [Outcome::Reached, Outcome::Reached];
    assert!(is_up_to || is_emulated(), "a transfer through a narrow link, without an agent: {ends:?}");
    if !is_up_to {
        println!("not tested: without an agent, too, a transfer through a narrow link ends in {ends:?}");
    }
    is_up_to
}

#[test]
fn a_governed_sender_learns_of_a_narrow_link_beyond() {
    if !is_up_to_narrow_links() {
        return;
    }
    let scene = Scene::serving();
    scene.lab.beyond().ip(&format!("link set v-outsider mtu {NARROW}")).expect("the link takes it");
    for version in Version::BOTH {
        let to = scene.outsider.at(version, 8000);
        assert!(!learned(&scene.subject, to.ip()), "nobody told it yet");
        let seen = transfers(&scene.subject, to);
        scene.ends("a transfer through a narrow link", version, &Outcome::Reached, &seen);
        let routes = || scene.subject.ip(&format!("route get {}", to.ip()));
        assert!(learned(&scene.subject, to.ip()), "{}\n{}", routes(), scene.agent.dump());
    }
    let related = scene.agent.packets("tc_ingress", "allow", "related");
    assert!(related > 0.0, "the IPv4 error is part of the flow\n{}", scene.agent.dump());
}

#[test]
fn a_sender_beyond_learns_of_a_narrow_link_to_a_governed_receiver() {
    if !is_up_to_narrow_links() {
        return;
    }
    let scene = Scene::serving();
    scene.lab.site().host.ip(&format!("link set v-subject mtu {NARROW}")).expect("the link takes it");
    for version in Version::BOTH {
        let seen = transfers(&scene.outsider, scene.subject.at(version, 8000));
        scene.ends("a transfer through a narrow link", version, &Outcome::Reached, &seen);
        assert!(learned(&scene.outsider, scene.subject.address(version)), "{}", scene.agent.dump());
    }
}

/// An error that belongs to no flow could shrink a path at anybody's will.
#[test]
fn an_error_that_quotes_no_flow_is_not_believed() {
    let scene = Scene::serving();
    let (subject, outsider) = (scene.subject.address(Version::V4), scene.outsider.address(Version::V4));
    let error = || {
        let quote = Ip::new(&subject.to_string(), &outsider.to_string(), udp(8000, 4000)).bytes();
        // The next hop's MTU is the last half of the second word (RFC 1191 section 4).
        let message = icmp(3, 4, [0, 0, 5, 0x78], &quote);
        let mut frame = ethernet(&[], &Ip::new(&outsider.to_string(), &subject.to_string(), message).bytes());
        frame[..6].copy_from_slice(&scene.outsider.gateway_mac());
        frame
    };
    let denied = || scene.agent.packets("xdp", "deny", "no_rule");
    let before = denied();
    scene.outsider.inject("eth0", &error());
    scene.agent.eventually("an error that quotes no flow is dropped", || (denied() > before).then_some(()));
    assert!(!learned(&scene.subject, outsider), "{}", scene.agent.dump());
    let asks = scene.outsider.udp_with(scene.subject.at(Version::V4, 8000), Some((outsider, 4000).into()), false);
    scene.ends("a datagram", Version::V4, &Outcome::Reached, &asks);
    let related = || scene.agent.packets("tc_ingress", "allow", "related");
    let before = related();
    scene.outsider.inject("eth0", &error());
    scene.agent.eventually("its twin, which quotes one, passes", || (related() > before).then_some(()));
    scene.agent.eventually("and is believed", || learned(&scene.subject, outsider).then_some(()));
}

#[test]
fn datagrams_larger_than_a_link_pass_in_fragments_both_ways() {
    let scene = Scene::serving();
    for version in Version::BOTH {
        let (out, back) = (|port| scene.outsider.at(version, port), |port| scene.subject.at(version, port));
        scene.ends("sent", version, &Outcome::Reached, &scene.subject.large(out(8000), LARGE));
        scene.ends("received", version, &Outcome::Reached, &scene.outsider.large(back(8000), LARGE));
        // More fragments than one.
        scene.ends("huge", version, &Outcome::Reached, &scene.subject.large(out(8000), 40_000));

        scene.ends("sent to another port", version, &Outcome::Refused, &scene.subject.large(out(9000), LARGE));
        // The uplink leaves later fragments to the link: it sees to it that they share their first one's fate.
        let denied = || ["xdp", "tc_ingress"].map(|hook| scene.agent.packets(hook, "deny", "no_rule"));
        let before = denied();
        let seen = scene.outsider.large(back(9000), LARGE);
        scene.ends("received at another port", version, &Outcome::Silent, &seen);
        let after = denied();
        assert!(after[0] - before[0] >= 1.0 && after[1] - before[1] >= 3.0, "{}", scene.agent.dump());
        assert!(scene.subject.received(9000).is_empty(), "{}", scene.agent.dump());
    }
}

#[test]
fn fragments_between_two_containers_are_judged_by_both() {
    let mut lab = Lab::new();
    let rules = only("{protocol: udp, port: 8000}");
    let (open, shut) = (lab.container("open", "app=open"), lab.container("shut", "app=shut"));
    for workload in [&open, &shut] {
        workload.serve(&[8000, 9000]);
        lab.declare(workload);
    }
    let everything = only("{protocol: udp}, {protocol: tcp}");
    let groups = [
        group("open", 100, "open", &[&everything[0], &everything[1]]),
        group("shut", 200, "shut", &[&rules[0], &rules[1]]),
    ];
    lab.policy("groups.yaml", &groups.concat());
    let agent = lab.agent();
    for version in Version::BOTH {
        for (from, to, port, expected) in [
            (&open, &shut, 8000, Outcome::Reached),
            (&open, &shut, 9000, Outcome::Silent),
            (&shut, &open, 8000, Outcome::Reached),
            (&shut, &open, 9000, Outcome::Refused),
        ] {
            let seen = from.large(to.at(version, port), LARGE);
            assert_eq!(seen, expected, "{} to {}:{port} by {version:?}\n{}", from.name, to.name, agent.dump());
        }
    }
}

#[test]
fn an_echo_is_allowed_by_its_type() {
    let mut lab = Lab::new();
    let make = |lab: &mut Lab, name: &str| {
        let workload = lab.container(name, &format!("app={name}"));
        lab.declare(&workload);
        workload
    };
    let (pings, stamps, open) = (make(&mut lab, "pings"), make(&mut lab, "stamps"), make(&mut lab, "open"));
    let of_type =
        |icmp, icmpv6| only(&format!("{{protocol: icmp, type: {icmp}}}, {{protocol: icmpv6, type: {icmpv6}}}"));
    // Echo requests; and other questions than that: a timestamp (RFC 792), a node's information (RFC 4620).
    let (echo, other) = (of_type(8, 128), of_type(13, 139));
    let all = only("{protocol: icmp}, {protocol: icmpv6}");
    let groups = [
        group("pings", 100, "pings", &[&echo[0], &echo[1]]),
        group("stamps", 200, "stamps", &[&other[0], &other[1]]),
        group("open", 300, "open", &[&all[0], &all[1]]),
    ];
    lab.policy("groups.yaml", &groups.concat());
    let agent = lab.agent();
    tried(&[
        reaches(&pings, Echo, &open),
        reaches(&open, Echo, &pings),
        is_refused(&stamps, Echo, &open),
        is_dropped(&open, Echo, &stamps),
    ])
    .end(|| agent.dump());
}

#[test]
fn an_icmp_rule_may_name_a_code() {
    let coded =
        |code| format!("{{protocol: icmp, type: 42, code: {code}}}, {{protocol: icmpv6, type: 160, code: {code}}}");
    // Extended echo requests (RFC 8335), which the kernel does not answer unless told to.
    let scene = Scene::new(&coded(0));
    for version in Version::BOTH {
        let (protocol, kind) = if version == Version::V4 { (1, 42) } else { (58, 160) };
        scene.outsider.overhear(scene.outsider.address(version), protocol);
        scene.subject.overhear(scene.subject.address(version), protocol);
        let transport = |code| {
            let body = if code == 0 { "rule" } else { "none" };
            icmp(kind, code, [0, 7, 0, 1], body.as_bytes())
        };
        let send = |from: &Workload, to: &Workload, code| {
            let mut message = transport(code);
            message.protocol = protocol;
            let packet = Ip::new(&from.address(version).to_string(), &to.address(version).to_string(), message).bytes();
            let header = if version == Version::V4 { 20 } else { 40 };
            from.raw(to.address(version), protocol, &packet[header..])
        };
        let count = |hook| scene.agent.packets(hook, "deny", "no_rule");
        let before = (count("cgroup_egress"), count("xdp"));
        scene.ends("another code", version, &Outcome::Refused, &send(&scene.subject, &scene.outsider, 1));
        scene.ends("the code", version, &Outcome::Silent, &send(&scene.subject, &scene.outsider, 0));
        scene.ends("another code comes", version, &Outcome::Silent, &send(&scene.outsider, &scene.subject, 1));
        scene.ends("the code comes", version, &Outcome::Silent, &send(&scene.outsider, &scene.subject, 0));
        for receiver in [&scene.outsider, &scene.subject] {
            let heard = |body: &str| receiver.overheard(protocol).iter().any(|text| text.ends_with(body));
            scene.agent.eventually("what the rule names arrives", || heard("rule").then_some(()));
            assert!(!heard("none"), "{}", scene.agent.dump());
        }
        assert!(count("cgroup_egress") > before.0 && count("xdp") > before.1, "{}", scene.agent.dump());
    }
}

#[test]
fn nobody_listening_is_told_to_whom_the_policy_allows() {
    let scene = Scene::new("{protocol: tcp, port: 7000}, {protocol: udp, port: 7000}");
    for version in Version::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            for (from, to) in [(&scene.subject, &scene.outsider), (&scene.outsider, &scene.subject)] {
                let attempt = |port| match transport {
                    Transport::Tcp => from.tcp(to.at(version, port)),
                    // The error of an unconnected socket is nobody's.
                    Transport::Udp => from.udp_with(to.at(version, port), None, true),
                };
                let what = format!("{transport:?} from {} to a closed port", from.name);
                scene.ends(&what, version, &Outcome::Reset, &attempt(7000));
                let denied = if from.name == "subject" { Outcome::Refused } else { Outcome::Silent };
                scene.ends(&format!("{what} that no rule names"), version, &denied, &attempt(7001));
            }
        }
    }
}

#[test]
fn a_protocol_is_allowed_by_its_number() {
    const GRE: u8 = 47;
    const IPIP: u8 = 4;
    let scene = Scene::new("{protocol: 47}");
    for version in Version::BOTH {
        for protocol in [GRE, IPIP] {
            scene.outsider.overhear(scene.outsider.address(version), protocol);
            scene.subject.overhear(scene.subject.address(version), protocol);
        }
        for (from, to) in [(&scene.subject, &scene.outsider), (&scene.outsider, &scene.subject)] {
            let content = format!("{} by {version:?}", from.name);
            // What looks like a header of either, with nothing in it.
            let bytes = [&[0; 4], content.as_bytes()].concat();
            let send = |protocol| from.raw(to.address(version), protocol, &bytes);
            let denied = if from.name == "subject" { Outcome::Refused } else { Outcome::Silent };
            scene.ends("another protocol", version, &denied, &send(IPIP));
            scene.ends("the protocol", version, &Outcome::Silent, &send(GRE));
            let heard = |protocol| to.overheard(protocol).iter().any(|text| text.ends_with(&content));
            scene.agent.eventually("what the rule names arrives", || heard(GRE).then_some(()));
            assert!(!heard(IPIP), "{}", scene.agent.dump());
        }
    }
}
