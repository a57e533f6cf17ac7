//! What a governed workload with CAP_NET_RAW tries in order to get round its policy: each attempt beside a twin that the
//! policy allows.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bulkhead_ebpf::packet::tcp::{ACK, FIN, RST, SYN};
use bulkhead_tests::document::{from_all, group, to_all};
use bulkhead_tests::frame;
use bulkhead_tests::lab::probe::RAW;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Version, Workload};
use bulkhead_tests::packet::{Ip, Transport as Segment, ethernet, icmp, icmpv6, other, tcp, udp};

/// `subject` may send to everyone's port 8000, `neighbour` to everyone's port 9000; both may receive at both ports. Nothing
/// holds for `outsider`, who is beyond the uplink.
struct Scene {
    agent: Agent,
    subject: Workload,
    neighbour: Workload,
    outsider: Workload,
    lab: Lab,
}

impl Scene {
    fn new(make: impl Fn(&mut Lab, &str, &str) -> Workload) -> Self {
        let mut lab = Lab::new();
        let subject = make(&mut lab, "subject", "app=subject");
        let neighbour = make(&mut lab, "neighbour", "app=neighbour");
        let outsider = lab.outsider("outsider", "");
        outsider.serve(&[8000, 9000]);
        lab.declare(&subject);
        lab.declare(&neighbour);
        Self::policy(&lab, &[8000], &[9000]);
        let agent = lab.agent();
        Self { agent, subject, neighbour, outsider, lab }
    }

    fn containers() -> Self {
        let scene = Self::new(Lab::container);
        scene.subject.serve(&[8000, 9000]);
        scene.neighbour.serve(&[8000, 9000]);
        scene
    }

    fn processes() -> Self {
        Self::new(|lab, name, labels| lab.process(name, labels))
    }

    /// Has `subject` and `neighbour` send to these ports alone, and receive at those that both have at first.
    fn policy(lab: &Lab, subject: &[u16], neighbour: &[u16]) {
        let ingress = from_all(&[8000, 9000]);
        let groups = [
            group("subjects", 100, "subject", &[&ingress, &to_all(subject)]),
            group("neighbours", 200, "neighbour", &[&ingress, &to_all(neighbour)]),
        ];
        lab.policy("groups.yaml", &groups.concat());
    }

    /// Puts frames on a workload's link of which none may pass the host's end, each for this reason; and then a datagram
    /// that is allowed, so that the others would have arrived.
    fn are_dropped(&self, who: &Workload, version: Version, reason: &str, frames: &[(String, Vec<u8>)]) {
        for (what, frame) in frames {
            let before = self.agent.packets("tc_egress", "deny", reason);
            who.inject("eth0", frame);
            self.agent.eventually(&format!("{what} is dropped as {reason} by {version:?}"), || {
                (self.agent.packets("tc_egress", "deny", reason) > before).then_some(())
            });
        }
        let port = if who.name == "subject" { 8000 } else { 9000 };
        let honest = format!("honest: {reason} {version:?}");
        let (from, to) = (who.at(version, 4000), self.outsider.at(version, port));
        who.inject("eth0", &frame::udp(who.gateway_mac(), from, to, honest.as_bytes()));
        self.agent
            .eventually("what is allowed arrives", || self.outsider.received(port).contains(&honest).then_some(()));
    }

    /// Nothing that was sent to be dropped is there: all of it says so.
    fn nothing_evil_arrived(&self) {
        for receiver in [&self.subject, &self.neighbour, &self.outsider] {
            for port in [8000, 9000] {
                let received = receiver.received(port);
                assert!(!received.contains(&EVIL.to_owned()), "{}, {port}\n{}", receiver.name, self.agent.dump());
            }
        }
    }
}

/// What no datagram that arrives may contain.
const EVIL: &str = "evil";

fn text(address: IpAddr) -> String {
    address.to_string()
}

/// A packet as a frame to the host's end of a workload's link.
fn framed(who: &Workload, packet: &Ip) -> Vec<u8> {
    let mut frame = ethernet(&[], &packet.bytes());
    frame[..6].copy_from_slice(&who.gateway_mac());
    frame
}

fn datagram(who: &Workload, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    frame::udp(who.gateway_mac(), from, to, EVIL.as_bytes())
}

/// A UDP datagram with its IP header, for a raw socket.
fn packet(from: SocketAddr, to: SocketAddr, content: &str) -> Vec<u8> {
    // Behind the Ethernet header.
    frame::udp([0; 6], from, to, content.as_bytes()).split_off(14)
}

fn address_of_nobody(version: Version) -> IpAddr {
    match version {
        Version::V4 => "203.0.113.9".parse().expect("a literal"),
        Version::V6 => "2001:db8:9::9".parse().expect("a literal"),
    }
}

/// The address that the kernel gives the container's end of its link (RFC 4291, appendix A).
fn link_local(who: &Workload) -> IpAddr {
    let [_, _, _, _, _, number] = who.gateway_mac();
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x100 | u16::from(number)).into()
}

#[test]
fn frames_of_a_packet_socket_are_judged_at_the_link() {
    let scene = Scene::containers();
    let who = &scene.subject;
    for version in Version::BOTH {
        let own = who.at(version, 4000);
        let mut frames = Vec::new();
        for receiver in [&scene.neighbour, &scene.outsider] {
            let to = receiver.at(version, 9000);
            let ip = |transport: Segment| framed(who, &Ip::new(&text(own.ip()), &text(to.ip()), transport));
            let quote = Ip::new(&text(to.ip()), &text(own.ip()), udp(9000, 4000)).bytes();
            let error = match version {
                Version::V4 => icmp(3, 3, [0; 4], &quote),
                Version::V6 => icmpv6(1, 4, [0; 4], &quote),
            };
            for (what, frame) in [
                ("a datagram", datagram(who, own, to)),
                ("a SYN", ip(tcp(4000, 9000, SYN))),
                ("a segment of no connection", ip(tcp(4000, 9000, ACK))),
                ("an answer that nobody asked for", ip(tcp(8000, 9000, SYN | ACK))),
                ("a tunnel", ip(other(47, &[0; 16]))),
                ("an error that quotes nothing", ip(error)),
                ("a first fragment", framed(who, &fragment(own, to, udp(4000, 9000), 1, 0))),
            ] {
                frames.push((format!("{what} to {}", receiver.name), frame));
            }
        }
        scene.are_dropped(who, version, "no_rule", &frames);
        let later = framed(who, &fragment(own, scene.outsider.at(version, 8000), other(17, EVIL.as_bytes()), 2, 8));
        scene.are_dropped(who, version, "fragment_unseen", &[("a later fragment".to_owned(), later)]);
        scene.agent.eventually("the denials are told of", || {
            let flows = scene.agent.flows(&["--verdict", "deny", "--workload", "subject", "--port", "9000"]);
            let is_one = |destination: IpAddr| destination == scene.outsider.address(version);
            flows
                .into_iter()
                .find(|flow| flow.hook == "tc_egress" && flow.direction == "egress" && is_one(flow.destination))
        });
    }
    scene.nothing_evil_arrived();
}

/// A fragment of a datagram whose other fragments do not exist.
fn fragment(from: SocketAddr, to: SocketAddr, transport: Segment, id: u32, offset: u16) -> Ip {
    Ip::new(&text(from.ip()), &text(to.ip()), transport).fragment(id, offset, offset == 0)
}

#[test]
fn an_address_that_is_not_its_own_gets_a_workload_nowhere() {
    let scene = Scene::containers();
    let who = &scene.subject;
    for version in Version::BOTH {
        let mut frames = Vec::new();
        for (whose, from) in [
            ("the neighbour's address", scene.neighbour.address(version)),
            ("the host's", scene.lab.host_address(version)),
            ("the outsider's", scene.outsider.address(version)),
            ("nobody's", address_of_nobody(version)),
        ] {
            for receiver in [&scene.neighbour, &scene.outsider] {
                if receiver.address(version) != from {
                    let frame = datagram(who, (from, 4000).into(), receiver.at(version, 8000));
                    frames.push((format!("{whose} to {}", receiver.name), frame));
                }
            }
        }
        scene.are_dropped(who, version, "spoofed", &frames);
        // What the link address says makes no difference.
        let posed = |port, content: &str| {
            let (from, to) = (who.at(version, 4000), scene.outsider.at(version, port));
            let mut frame = frame::udp(who.gateway_mac(), from, to, content.as_bytes());
            let [.., number] = scene.neighbour.gateway_mac();
            frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, number]);
            frame
        };
        scene.are_dropped(who, version, "no_rule", &[("the neighbour's link address".to_owned(), posed(9000, EVIL))]);
        let twin = format!("twin {version:?}");
        who.inject("eth0", &posed(8000, &twin));
        scene.agent.eventually("the same to a port that is allowed arrives", || {
            scene.outsider.received(8000).contains(&twin).then_some(())
        });
    }
    scene.nothing_evil_arrived();
}

#[test]
fn a_raw_socket_is_judged_by_the_cgroup_of_its_process() {
    for is_container in [true, false] {
        let scene = if is_container { Scene::containers() } else { Scene::processes() };
        let who = &scene.subject;
        for version in Version::BOTH {
            let send = |from: IpAddr, port, content: &str| {
                let to = scene.outsider.at(version, port);
                who.raw(to.ip(), RAW, &packet((from, 4000).into(), to, content))
            };
            let own = who.address(version);
            let denied = |reason| scene.agent.packets("cgroup_egress", "deny", reason);
            let before = denied("no_rule");
            assert_eq!(send(own, 9000, EVIL), Outcome::Refused, "{}", scene.agent.dump());
            assert!(denied("no_rule") > before, "{}", scene.agent.dump());

            let mut not_its_own = vec![];
            if is_container {
                not_its_own.push(scene.neighbour.address(version));
                not_its_own.push(scene.lab.host_address(version));
                not_its_own.push(address_of_nobody(version));
                if version == Version::V6 {
                    not_its_own.push(link_local(who));
                }
            }
            for from in not_its_own {
                let before = denied("spoofed");
                assert_eq!(send(from, 8000, EVIL), Outcome::Refused, "{from}\n{}", scene.agent.dump());
                assert!(denied("spoofed") > before, "{from}\n{}", scene.agent.dump());
            }

            let honest = format!("honest {version:?}");
            assert_eq!(send(own, 8000, &honest), Outcome::Silent, "it is taken\n{}", scene.agent.dump());
            scene.agent.eventually("what is allowed arrives", || {
                scene.outsider.received(8000).contains(&honest).then_some(())
            });
        }
        scene.nothing_evil_arrived();
    }
}

#[test]
fn a_process_of_the_host_cannot_pose_as_a_workload_with_a_link() {
    let mut lab = Lab::new();
    let subject = lab.process("subject", "app=subject");
    let container = lab.container("container", "app=neighbour");
    let outsider = lab.outsider("outsider", "");
    outsider.serve(&[8000]);
    lab.declare(&subject);
    lab.declare(&container);
    lab.policy("groups.yaml", &group("subjects", 100, "subject", &[&to_all(&[8000])]));
    let agent = lab.agent();
    for version in Version::BOTH {
        let to = outsider.at(version, 8000);
        let send = |from, content: &str| subject.raw(to.ip(), RAW, &packet(from, to, content));
        let before = agent.packets("cgroup_egress", "deny", "spoofed");
        assert_eq!(send(container.at(version, 4000), EVIL), Outcome::Refused, "{}", agent.dump());
        assert!(agent.packets("cgroup_egress", "deny", "spoofed") > before, "{}", agent.dump());
        let honest = format!("honest {version:?}");
        assert_eq!(send((lab.host_address(version), 4000).into(), &honest), Outcome::Silent, "{}", agent.dump());
        agent.eventually("what is allowed arrives", || outsider.received(8000).contains(&honest).then_some(()));
    }
    assert!(!outsider.received(8000).contains(&EVIL.to_owned()), "{}", agent.dump());
}

#[test]
fn addresses_that_a_workload_gives_itself_are_not_its_own() {
    let scene = Scene::containers();
    let who = &scene.subject;
    let fresh = |version| -> IpAddr {
        let text = if version == Version::V4 { "10.77.0.200" } else { "fd77::5eed:beef" };
        text.parse().expect("a literal")
    };
    who.ip(&format!(
        "address add {}/32 dev eth0\naddress add {}/128 dev eth0 nodad\n",
        fresh(Version::V4),
        fresh(Version::V6)
    ));
    let spoofed = |hook| scene.agent.packets(hook, "deny", "spoofed");
    for version in Version::BOTH {
        let to = scene.outsider.at(version, 8000);
        let (own, fresh) = (who.address(version), fresh(version));
        let before = spoofed("cgroup_egress");
        assert_eq!(who.tcp_from(to, Some(fresh)), Outcome::Silent, "{}", scene.agent.dump());
        assert_eq!(who.udp_with(to, Some((fresh, 0).into()), false), Outcome::Refused, "{}", scene.agent.dump());
        assert!(spoofed("cgroup_egress") >= before + 2.0, "{}", scene.agent.dump());
        assert_eq!(who.tcp_from(to, Some(own)), Outcome::Reached, "{}", scene.agent.dump());
        assert_eq!(who.udp_with(to, Some((own, 0).into()), false), Outcome::Reached, "{}", scene.agent.dump());
        let frame = datagram(who, (fresh, 4000).into(), to);
        scene.are_dropped(who, version, "spoofed", &[("an address of its own making".to_owned(), frame)]);
    }
    let to = scene.outsider.at(Version::V6, 8000);
    let frame = datagram(who, (link_local(who), 4000).into(), to);
    scene.are_dropped(who, Version::V6, "spoofed", &[("the link's own address".to_owned(), frame)]);
    scene.nothing_evil_arrived();
}

#[test]
fn a_neighbour_cannot_have_a_part_in_a_flow() {
    let scene = Scene::containers();
    for version in Version::BOTH {
        let (subject, outsider) = (scene.subject.at(version, 5000), scene.outsider.at(version, 8000));
        let asks = || scene.subject.udp_with(outsider, Some(subject), false);
        assert_eq!(asks(), Outcome::Reached, "{}", scene.agent.dump());
        let connection = scene.subject.keep(outsider);
        let port = scene.agent.eventually("the connection shows in the flows", || {
            let flows = scene.agent.flows(&["--workload", "subject", "--protocol", "tcp", "--port", "8000"]);
            flows.into_iter().rev().find(|flow| flow.destination == outsider.ip()).and_then(|flow| flow.source_port)
        });
        let who = &scene.neighbour;
        let mut frames = vec![
            ("the subject's datagram".to_owned(), datagram(who, subject, outsider)),
            ("the outsider's datagram".to_owned(), datagram(who, outsider, subject)),
        ];
        for (flags, name) in [(SYN, "SYN"), (ACK, "ACK"), (FIN | ACK, "FIN"), (RST, "RST")] {
            let there = Ip::new(&text(subject.ip()), &text(outsider.ip()), tcp(port, 8000, flags));
            let back = Ip::new(&text(outsider.ip()), &text(subject.ip()), tcp(8000, port, flags));
            frames.push((format!("the subject's {name}"), framed(who, &there)));
            frames.push((format!("the outsider's {name}"), framed(who, &back)));
        }
        scene.are_dropped(who, version, "spoofed", &frames);
        assert_eq!(scene.subject.exchange(connection), Outcome::Reached, "{}", scene.agent.dump());
        assert_eq!(asks(), Outcome::Reached, "{}", scene.agent.dump());
    }
    scene.nothing_evil_arrived();
}

/// What docs/security.md says of packet sockets in the host's own network namespace: no hook sees what they put on an uplink,
/// but whom they send to on this host is judged by his own rules.
#[test]
fn a_packet_socket_of_the_host_is_judged_as_what_its_receiver_gets() {
    let mut lab = Lab::new();
    let process = lab.process("process", "app=process");
    let receiver = lab.container("receiver", "app=receiver");
    receiver.serve(&[8000, 9000]);
    let outsider = lab.outsider("outsider", "");
    outsider.serve(&[9000]);
    lab.declare(&process);
    lab.declare(&receiver);
    let groups = [
        group("processes", 100, "process", &[&from_all(&[]), &to_all(&[])]),
        group("receivers", 200, "receiver", &[&from_all(&[8000])]),
    ];
    lab.policy("groups.yaml", &groups.concat());
    let agent = lab.agent();
    let link = receiver.interface().expect("a container has a link");
    for version in Version::BOTH {
        let (from, to) = (process.at(version, 4000), outsider.at(version, 9000));
        let out = format!("out by {version:?}");
        assert_eq!(process.udp(to), Outcome::Refused, "its sockets are judged\n{}", agent.dump());
        process.inject("uplink0", &frame::udp([2, 0, 0, 0xff, 0, 2], from, to, out.as_bytes()));
        agent.eventually("the frame leaves", || outsider.received(9000).contains(&out).then_some(()));

        let [.., number] = receiver.gateway_mac();
        let frame =
            |port, text: &str| frame::udp([2, 0, 0, 0, 1, number], from, receiver.at(version, port), text.as_bytes());
        let denied = || agent.packets("tc_ingress", "deny", "no_rule");
        let before = denied();
        assert!(!process.tries_to_inject(link, &frame(9000, EVIL)), "{}", agent.dump());
        agent.eventually("the receiver's rules hold", || (denied() > before).then_some(()));
        let twin = format!("twin by {version:?}");
        process.inject(link, &frame(8000, &twin));
        agent.eventually("what they allow arrives", || receiver.received(8000).contains(&twin).then_some(()));
        assert_eq!(receiver.received(9000), [""; 0], "{}", agent.dump());
    }
}

/// In the host's network namespace two processes can send with one source, but each is judged as who it is.
#[test]
fn a_process_beside_it_on_the_host_cannot_have_a_part_in_a_flow() {
    let scene = Scene::processes();
    for version in Version::BOTH {
        let (subject, outsider) = (scene.subject.at(version, 5000), scene.outsider.at(version, 8000));
        let asks = || scene.subject.udp_with(outsider, Some(subject), false);
        assert_eq!(asks(), Outcome::Reached, "{}", scene.agent.dump());
        let claims = || scene.neighbour.raw(outsider.ip(), RAW, &packet(subject, outsider, EVIL));
        for _ in 0..3 {
            assert_eq!(claims(), Outcome::Refused, "{}", scene.agent.dump());
            assert_eq!(asks(), Outcome::Reached, "{}", scene.agent.dump());
        }
        let (own, allowed) = (scene.neighbour.at(version, 5001), scene.outsider.at(version, 9000));
        let twin = packet(own, allowed, "twin");
        assert_eq!(scene.neighbour.raw(allowed.ip(), RAW, &twin), Outcome::Silent, "{}", scene.agent.dump());
    }
    scene.nothing_evil_arrived();
}
