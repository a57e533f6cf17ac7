//! The agent is killed at any moment, again and again: while it starts, reads an edit, hears of workloads, or has nothing to do.
//!
//! Meanwhile strangers knock, friends connect and connections go on. No packet passes that the policy denies, no connection
//! breaks, and in the end the kernel's maps hold what an agent that was never killed leaves there.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Effort;
use super::contents::{contents, differences};
use crate::bench::Figure;
use crate::document::group;
use crate::lab::probe::Work;
use crate::lab::protocol::Tally;
use crate::lab::{Kept, Lab, Outcome, Version, Workload, agent, cgroup};
use crate::world::Random;

/// The agent is killed at most so long after it was started: it is ready earlier, and then has time for what is going on.
const LONGEST: Duration = Duration::from_millis(1_500);
/// After so many kills everything is looked at.
const BETWEEN_LOOKS: usize = 10;
/// At least so many times it is killed, however little time there is.
const LEAST: usize = 10;

/// Kills and looks.
///
/// # Panics
/// Something passed, broke, was lost or was left over.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    println!("kills: seed {seed}");
    let scene = Scene::new();
    let traffic = scene.traffic();
    let mut disturbance = Disturbance { random: Random::new(seed), lab: &scene.lab, units: 0 };
    let (mut kills, mut passed, mut denied) = (0, 0, 0);
    let deadline = effort.deadline();
    while kills < LEAST || Instant::now() < deadline {
        let mut agent = start(&scene.lab);
        let life = crate::check::slowed(LONGEST).mul_f64(disturbance.random.below(1_000) as f64 / 1_000.0);
        let end = Instant::now() + life;
        while Instant::now() < end {
            disturbance.cause();
            // What is left to chance is the moment: there is no condition to wait for.
            thread::sleep(Duration::from_millis(disturbance.random.below(120) as u64));
        }
        let ended = agent.try_wait().expect("it is our child");
        assert!(ended.is_none(), "the agent ended by itself: {ended:?}\n{}", log(&scene.lab));
        kill(&mut agent);
        kills += 1;
        if kills % BETWEEN_LOOKS == 0 {
            let (more, fewer) = scene.look(&traffic, kills);
            passed += more;
            denied += fewer;
        }
    }
    scene.compare(kills);
    vec![
        Figure::told("kills of the agent", kills as f64, "kills"),
        Figure::told("denied attempts meanwhile, none of which passed", denied as f64, "attempts"),
        Figure::told("allowed attempts meanwhile, none of which was refused", passed as f64, "attempts"),
        Figure::told("connections kept open over all kills", traffic.kept.len() as f64, "connections"),
    ]
}

struct Scene {
    server: Workload,
    friend: Workload,
    stranger: Workload,
    outsider: Workload,
    lab: Lab,
}

/// What goes on all the time.
struct Traffic {
    kept: Vec<Kept>,
    allowed: Vec<Work>,
    /// Of the friend and of the outsider.
    denied: [Vec<Work>; 2],
}

impl Scene {
    /// A server that its friends may reach at one port, with its policy in force and no agent.
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.container("server", "app=server");
        let friend = lab.container("friend", "app=friend");
        let stranger = lab.device("stranger", "app=stranger");
        let outsider = lab.outsider("outsider", "");
        server.serve(&[8000, 9000]);
        for workload in [&server, &friend, &stranger] {
            lab.declare(workload);
        }
        let rule = "ingress: [{from: [{group: friends}], ports: [{protocol: tcp, port: 8000}]}]";
        lab.policy(
            "groups.yaml",
            &[group("server", 100, "server", &[rule]), group("friends", 200, "friend", &[])].concat(),
        );
        lab.agent().kill();
        Self { server, friend, stranger, outsider, lab }
    }

    fn traffic(&self) -> Traffic {
        let at = |version, port| self.server.at(version, port);
        let keep = |number: usize| self.friend.keep(at(Version::BOTH[number % 2], 8000));
        let kept: Vec<Kept> = (0..20).map(keep).collect();
        let stream = self.friend.stream(self.friend.keep(at(Version::V4, 8000)));
        let hammer = self.friend.hammer(at(Version::V6, 8000));
        let knock = |who: &Workload, ats: &[SocketAddr]| ats.iter().map(|at| who.hammer(*at)).collect();
        let denied = [
            knock(&self.stranger, &[at(Version::V4, 8000), at(Version::V6, 9000)]),
            knock(&self.outsider, &[at(Version::V4, 8000), at(Version::V6, 8000)]),
        ];
        Traffic { kept, allowed: vec![stream, hammer], denied }
    }

    /// Everything that passed and was denied since the last look, as it should be.
    fn look(&self, traffic: &Traffic, kills: usize) -> (u64, u64) {
        let mut passed = 0;
        for work in &traffic.allowed {
            let tally = self.friend.tally(*work);
            // What only came late on a busy machine is silent, too; what is kept open says whether anything was cut.
            assert!(tally.refused + tally.other == 0, "after {kills} kills: {tally:?}\n{}", log(&self.lab));
            passed += tally.reached;
        }
        let mut denied = 0;
        for (who, works) in [&self.stranger, &self.outsider].into_iter().zip(&traffic.denied) {
            for work in works {
                let tally: Tally = who.tally(*work);
                assert_eq!(tally.reached, 0, "after {kills} kills {} got through\n{}", who.name, log(&self.lab));
                denied += tally.denied();
            }
        }
        for kept in &traffic.kept {
            assert_eq!(self.friend.exchange(*kept), Outcome::Reached, "after {kills} kills\n{}", log(&self.lab));
        }
        (passed, denied)
    }

    /// What a last agent finds and completes is what one leaves that finds nothing.
    fn compare(&self, kills: usize) {
        let site = self.lab.site();
        let last = self.lab.agent();
        last.eventually("the last agent has nothing to complain of", || last.status().enforcing.then_some(()));
        let after = contents(site).expect("the maps are pinned");
        assert!(last.stop().success());
        let detached = agent::run(site, &["detach"]).expect("the binary is there");
        assert!(detached.status.success(), "{detached:?}");
        let fresh = self.lab.agent();
        fresh.eventually("a fresh agent has nothing to complain of", || fresh.status().enforcing.then_some(()));
        let expected = contents(site).expect("the maps are pinned");
        let entries = |of: &str| expected.iter().filter(|line| line.starts_with(of)).count();
        let least = [("address", 10), ("cgroup", 2), ("interface", 3), ("cidr", 0), ("rows", 1), ("rules", 1)];
        let is_whole = least.iter().all(|(of, least)| entries(of) >= *least);
        assert!(is_whole, "the maps were not read: {expected:#?}");
        let differences = differences(&expected, &after);
        assert!(differences.is_empty(), "after {kills} kills:\n{}\n{}", differences.join("\n"), fresh.dump());
    }
}

/// What else happens on a host.
struct Disturbance<'a> {
    random: Random,
    lab: &'a Lab,
    units: usize,
}

impl Disturbance<'_> {
    /// Something that leaves alone what the traffic is about.
    fn cause(&mut self) {
        let number = self.random.below(4);
        match self.random.below(4) {
            0 => {
                let ports = self.random.below(60_000) + 1;
                let rule = format!("ingress: [{{from: [{{cidr: 203.0.113.0/24}}], ports: [{{protocol: tcp, port: {ports}}}]}}]");
                self.lab.policy(&format!("extra-{number}.yaml"), &group(&format!("extra-{number}"), 300 + number as u32, "extra", &[&rule]));
            }
            1 => self.lab.policy(
                &format!("remote-{number}.yaml"),
                &format!(
                    "apiVersion: bulkhead.dev/v1alpha1\nkind: Workload\nmetadata: {{name: remote-{number}, labels: {{app: {}}}}}\n\
                     spec: {{addresses: [203.0.113.{}]}}\n",
                    self.random.pick(&["friend", "extra", "stranger"]),
                    number + 1
                ),
            ),
            2 => {
                let file = self.lab.site().policies().join(format!("remote-{number}.yaml"));
                // It may not be there.
                let _ = fs::remove_file(file);
            }
            _ => {
                let unit = |number| self.lab.site().cgroup_root.join(format!("system.slice/soak-{number}.service"));
                cgroup::make(&unit(self.units)).expect("a cgroup can be made");
                if let Some(older) = self.units.checked_sub(4) {
                    cgroup::remove(&unit(older)).expect("nobody is in it");
                }
                self.units += 1;
            }
        }
    }
}

/// Starts an agent, and does not wait for anything.
fn start(lab: &Lab) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(lab.site().log()).expect("the lab has a directory");
    agent::command(lab.site(), &[]).stderr(log).stdin(Stdio::null()).spawn().expect("the agent's binary can be started")
}

fn kill(agent: &mut Child) {
    agent.kill().expect("it is our child");
    agent.wait().expect("it is our child");
}

fn log(lab: &Lab) -> String {
    let log = fs::read_to_string(lab.site().log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
