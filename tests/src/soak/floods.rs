//! Floods while a hundred connections go on: SYNs from very many senders that are not there, datagrams to any port, and new
//! flows that are allowed, from a workload of this host.
//!
//! No connection is cut, and the agent would cut those that it had forgotten (`--midstream deny`). The table of embryonic flows
//! is full, and says so; that of established ones is not touched. Who knocks and may come in still does, in `ENTRY`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::Effort;
use crate::bench::load::spray;
use crate::bench::load::spray::{FLOW_PORTS, Kind, Spray};
use crate::bench::{Figure, rounded};
use crate::check::slowed;
use crate::document::group;
use crate::lab::{Agent, Kept, Lab, Outcome, UPLINK, Version, Workload};
use crate::world::Random;

/// Established flows that the table holds; half as many embryonic ones, so that a short flood fills it.
const MAX_FLOWS: &str = "32768";
/// Connections that go on, one half from a workload of the host, the other from beyond the uplink.
const CONNECTIONS: usize = 100;
/// How long a connection that is allowed may take to come about in a flood: the kernel itself loses packets then, and TCP sends
/// its first segment again after one second and after three.
const ENTRY: Duration = Duration::from_secs(10);
/// The first of the senders that are not there (RFC 6598).
const NOBODY: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);
/// The first of the ports where everyone may send and nobody listens.
const SILENT: u16 = 20_000;
/// Packets of one flood at least: more than the table of embryonic flows holds.
const LEAST: u32 = 20_000;
/// Packets of one flood at most.
const MOST: u32 = 1_000_000;

/// Floods and looks.
///
/// # Panics
/// A connection was cut, somebody came in who must not or did not who may, or a full table was not told of.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let scene = Scene::new();
    let agent = scene.lab.agent_with(&["--max-flows", MAX_FLOWS, "--midstream", "deny"]);
    let connections = scene.connections();
    let mut seen = Seen { random: Random::new(1), sent: [0; 3], entries: Vec::new() };
    // Two rounds of three floods at least, or what is left of a short time.
    let time = slowed((effort.time / 8).clamp(Duration::from_millis(1_200), Duration::from_secs(20)));
    let deadline = effort.deadline();
    while seen.sent[0] == 0 || Instant::now() < deadline {
        for (number, kind) in [Kind::Syns, Kind::Datagrams, Kind::Flows].into_iter().enumerate() {
            let first = seen.sent[number] as u32;
            thread::scope(|threads| {
                let flood = threads.spawn(|| scene.flood(kind, first, time));
                seen.sent[number] += scene.look(&agent, &connections, flood, &mut seen.entries, &mut seen.random);
            });
        }
        scene.is_told_of(&agent);
    }
    let lost = connections.iter().filter(|(who, kept)| who.exchange(*kept) != Outcome::Reached).count();
    assert_eq!(lost, 0, "connections were cut\n{}", agent.dump());
    seen.figures(&agent)
}

/// What was seen.
struct Seen {
    random: Random,
    sent: [u64; 3],
    entries: Vec<Duration>,
}

impl Seen {
    fn figures(&self, agent: &Agent) -> Vec<Figure> {
        let worst = self.entries.iter().max().expect("somebody came in").as_secs_f64();
        let told = |name, value: u64, unit| Figure::told(name, value as f64, unit);
        vec![
            told("SYNs, each from another sender", self.sent[0], "packets"),
            told("datagrams to any port, each from another sender", self.sent[1], "packets"),
            told("new allowed flows of a workload", self.sent[2], "packets"),
            told("connections that went on, none of which was cut", CONNECTIONS as u64, "connections"),
            told("new connections meanwhile", self.entries.len() as u64, "connections"),
            Figure::at_most("a new connection, the slowest", rounded(worst), "s", ENTRY.as_secs_f64()),
            Figure::told("denied at the uplink", agent.packets("xdp", "deny", "no_rule"), "packets"),
            Figure::told("events lost", agent.metric("bulkhead_events_lost_total", &[]), "events"),
        ]
    }
}

struct Scene {
    server: Workload,
    friend: Workload,
    flooder: Workload,
    outsider: Workload,
    lab: Lab,
}

impl Scene {
    /// A server where everyone may go to one port, and to many where nobody listens.
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.container("server", "app=server");
        let friend = lab.container("friend", "app=friend");
        let flooder = lab.device("flooder", "app=friend");
        let outsider = lab.outsider("outsider", "");
        server.serve(&[8000, 9000]);
        for workload in [&server, &friend, &flooder] {
            lab.declare(workload);
        }
        let silent = format!("{{protocol: udp, port: {SILENT}, endPort: {}}}", SILENT + FLOW_PORTS - 1);
        let rule = format!(
            "ingress: [{{from: [{{cidr: 0.0.0.0/0}}, {{cidr: \"::/0\"}}], ports: [{{protocol: tcp, port: 8000}}, {silent}]}}]"
        );
        lab.policy("groups.yaml", &group("server", 100, "server", &[&rule]));
        // Answers to those who are not there end here, instead of going round.
        lab.beyond().ip(&format!("route add blackhole {NOBODY}/10\n")).expect("the lab's `ip` commands hold");
        Self { server, friend, flooder, outsider, lab }
    }

    fn connections(&self) -> Vec<(&Workload, Kept)> {
        let keep = |number: usize| {
            let who = if number.is_multiple_of(2) { &self.friend } else { &self.outsider };
            (who, who.keep(self.server.at(Version::BOTH[number / 2 % 2], 8000)))
        };
        (0..CONNECTIONS).map(keep).collect()
    }

    /// Sends packets, and returns how many.
    fn flood(&self, kind: Kind, first: u32, time: Duration) -> u64 {
        let at = |port| match self.server.at(Version::V4, port) {
            SocketAddr::V4(at) => at,
            SocketAddr::V6(at) => panic!("{at} is not IPv4"),
        };
        let (interface, mac, from, port) = match kind {
            Kind::Syns => (UPLINK, "020000ff0001".to_owned(), NOBODY, 8000),
            Kind::Datagrams => (UPLINK, "020000ff0001".to_owned(), NOBODY, 0),
            Kind::Flows => {
                let IpAddr::V4(from) = self.flooder.address(Version::V4) else { panic!("it is IPv4") };
                ("eth0", self.flooder.gateway_mac().map(|byte| format!("{byte:02x}")).concat(), from, SILENT)
            }
        };
        let milliseconds = u64::try_from(time.as_millis()).expect("seconds");
        let (interface, to) = (interface.to_owned(), at(port));
        let packets = Spray { interface, mac, kind, from, to, first, count: MOST, milliseconds, cpu: 0 };
        let sent = spray(&packets, |command| {
            if kind == Kind::Flows {
                return self.flooder.place(self.lab.site(), command);
            }
            self.lab.beyond().place(command);
            Ok(())
        });
        sent.expect("a flood can be sent") as u64
    }

    /// As long as the flood goes on, everyone goes on.
    fn look(
        &self,
        agent: &Agent,
        connections: &[(&Workload, Kept)],
        flood: ScopedJoinHandle<'_, u64>,
        entries: &mut Vec<Duration>,
        random: &mut Random,
    ) -> u64 {
        while !flood.is_finished() {
            for _ in 0..10 {
                let (who, kept) = random.pick(connections);
                let outcome = who.transfer(*kept, 64, ENTRY);
                assert_eq!(outcome, Outcome::Reached, "a connection of {} was cut\n{}", who.name, agent.dump());
            }
            let who = if random.chance(50) { &self.friend } else { &self.outsider };
            let version = random.pick(&Version::BOTH);
            let denied = who.tcp(self.server.at(*version, 9000));
            assert_ne!(denied, Outcome::Reached, "{} came in where it must not\n{}", who.name, agent.dump());
            let began = Instant::now();
            while who.tcp(self.server.at(*version, 8000)) != Outcome::Reached {
                assert!(began.elapsed() < slowed(ENTRY), "{} does not come in\n{}", who.name, agent.dump());
            }
            entries.push(began.elapsed());
        }
        let sent = flood.join().expect("it was sent");
        assert!(sent > u64::from(LEAST), "no flood: {sent} packets");
        sent
    }

    /// The full table shows in the metric, in the status and in the log, and the other one is not.
    fn is_told_of(&self, agent: &Agent) {
        let entries = |map| agent.metric("bulkhead_map_entries", &[("map", map)]);
        let capacity = agent.metric("bulkhead_map_capacity", &[("map", "embryonic_flows")]);
        assert!(entries("embryonic_flows") > 0.95 * capacity, "it is not full\n{}", agent.dump());
        let (established, most) = (entries("flows"), 10.0 * CONNECTIONS as f64 + 1_000.0);
        assert!(established >= CONNECTIONS as f64 && established < most, "{established} are established");
        agent.eventually("the status warns of the full table", || {
            agent.status().warnings.iter().any(|warning| warning.contains("embryonic_flows is full")).then_some(())
        });
        assert!(agent.log().contains("the table embryonic_flows is full"), "{}", agent.dump());
    }
}
