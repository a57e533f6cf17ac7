//! What several themes are about: a server that its friends may reach at one port, friends that do, and strangers that try.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::document::group;
use crate::lab::probe::Work;
use crate::lab::protocol::Tally;
use crate::lab::{Kept, Lab, Outcome, Version, Workload};

/// A server, and who may reach it and who may not.
pub(super) struct Scene {
    server: Workload,
    friend: Workload,
    stranger: Workload,
    outsider: Workload,
    pub(super) lab: Lab,
}

/// What goes on all the time.
pub(super) struct Traffic {
    pub(super) kept: Vec<Kept>,
    allowed: Vec<Work>,
    /// Of the friend and of the outsider.
    denied: [Vec<Work>; 2],
}

impl Scene {
    /// A server that its friends may reach at one port, with its policy in force and no agent.
    pub(super) fn new() -> Self {
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

    pub(super) fn traffic(&self) -> Traffic {
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
    ///
    /// # Panics
    /// It is not as it should be.
    pub(super) fn look(&self, traffic: &Traffic, when: &str) -> (u64, u64) {
        let mut passed = 0;
        for work in &traffic.allowed {
            let tally = self.friend.tally(*work);
            // What only came late on a busy machine is silent, too; what is kept open says whether anything was cut.
            assert!(tally.refused + tally.other == 0, "{when}: {tally:?}\n{}", log(&self.lab));
            passed += tally.reached;
        }
        let mut denied = 0;
        for (who, works) in [&self.stranger, &self.outsider].into_iter().zip(&traffic.denied) {
            for work in works {
                let tally: Tally = who.tally(*work);
                assert_eq!(tally.reached, 0, "{when} {} got through\n{}", who.name, log(&self.lab));
                denied += tally.denied();
            }
        }
        for kept in &traffic.kept {
            assert_eq!(self.friend.exchange(*kept), Outcome::Reached, "{when}\n{}", log(&self.lab));
        }
        (passed, denied)
    }
}

/// Starts an agent, and does not wait for anything.
pub(super) fn start(lab: &Lab, mut command: Command) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(lab.site().log()).expect("the lab has a directory");
    command.stderr(log).stdin(Stdio::null()).spawn().expect("the agent's binary can be started")
}

pub(super) fn kill(agent: &mut Child) {
    agent.kill().expect("it is our child");
    agent.wait().expect("it is our child");
}

/// The end of the agents' log.
pub(super) fn log(lab: &Lab) -> String {
    let log = fs::read_to_string(lab.site().log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
