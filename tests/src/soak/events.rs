//! More denials than the agent is told of: more than the kernel may send in a second, and more than the ring buffer holds while
//! the agent does not read at all.
//!
//! What is lost is counted and told. Verdicts and counters are not touched, and the agent answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Effort;
use crate::bench::load::spray;
use crate::bench::load::spray::{Kind, Spray};
use crate::bench::{Figure, rounded};
use crate::check::slowed;
use crate::document::{from_all, group};
use crate::lab::{Agent, Lab, Outcome, UPLINK, Version, Workload};

/// How long an answer may take while events come.
const ANSWER: Duration = Duration::from_secs(2);
/// A second's events that a CPU may send, as the agent sets it (`Settings::events_per_second`).
const PER_SECOND: f64 = 1_000.0;
/// Events that the ring buffer holds: 512 KiB of 68 bytes and a header of 8 each, in words of 8.
const RING: f64 = 524_288.0 / 80.0;
/// Longer than two CPUs need to fill it.
const STOPPED: Duration = Duration::from_millis(4_500);

/// Sends what is denied, and looks.
///
/// # Panics
/// A loss was not counted or not told, a verdict was wrong, or the agent did not answer.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let mut lab = Lab::new();
    let server = lab.container("server", "app=server");
    let friend = lab.container("friend", "");
    server.serve(&[8000, 9000]);
    lab.declare(&server);
    lab.policy("groups.yaml", &group("server", 100, "server", &[&from_all(&[8000])]));
    let agent = lab.agent();
    let kept = friend.keep(server.at(Version::V4, 8000));
    let lost = || agent.metric("bulkhead_events_lost_total", &[]);
    let denied = || agent.packets("xdp", "deny", "no_rule");
    let (mut slowest, mut rounds) = (Duration::ZERO, 0);
    let deadline = effort.deadline();
    while rounds == 0 || Instant::now() < deadline {
        // The agent reads, but is not told of all.
        let before = [lost(), denied()];
        flooding(&lab, &server, Duration::from_millis(1_500), || {
            let began = Instant::now();
            assert!(agent.status().enforcing, "{}", agent.dump());
            slowest = slowest.max(began.elapsed());
            works(&agent, &server, &friend);
            assert_eq!(friend.transfer(kept, 64, ANSWER), Outcome::Reached, "{}", agent.dump());
        });
        let [more_lost, more_denied] = [lost() - before[0], denied() - before[1]];
        // Of each second of each CPU; a flood begins in one second and ends in another.
        assert!(more_denied > 10_000.0, "no flood: {more_denied} were denied");
        assert!(
            more_lost > more_denied - 10.0 * PER_SECOND,
            "{more_lost} of {more_denied} were lost\n{}",
            agent.dump()
        );
        agent.eventually("the status warns of lost events", || {
            agent.status().warnings.iter().any(|warning| warning.starts_with("events are lost")).then_some(())
        });
        assert!(agent.log().contains("events are lost"), "{}", agent.dump());

        // It does not read at all, and the ring buffer is full.
        let before = [lost(), denied()];
        let stopped = Stopped::new(&agent);
        flooding(&lab, &server, STOPPED, || works(&agent, &server, &friend));
        drop(stopped);
        let [more_lost, more_denied] = [lost() - before[0], denied() - before[1]];
        assert!(more_denied - more_lost < 1.2 * RING, "{more_lost} of {more_denied} were lost\n{}", agent.dump());
        let from = friend.address(Version::V4);
        agent.eventually("the agent tells of new denials after what it missed", || {
            assert_eq!(friend.tcp(server.at(Version::V4, 9000)), Outcome::Silent);
            agent.flows(&["--verdict", "deny"]).iter().any(|flow| flow.source == from).then_some(())
        });
        rounds += 1;
    }
    assert!(slowest < slowed(ANSWER), "the agent took {slowest:?} to answer");
    vec![
        Figure::told("packets denied", denied(), "packets"),
        Figure::told("events lost, each of which was counted", lost(), "events"),
        Figure::at_most("`bulkhead status` meanwhile, the slowest", rounded(slowest.as_secs_f64()), "s", 2.0),
    ]
}

/// Verdicts are what they are.
fn works(agent: &Agent, server: &Workload, friend: &Workload) {
    for version in Version::BOTH {
        let came_in = (0..5).any(|_| friend.tcp(server.at(version, 8000)) == Outcome::Reached);
        assert!(came_in, "{}", agent.dump());
        assert_eq!(friend.tcp(server.at(version, 9000)), Outcome::Silent, "{}", agent.dump());
    }
}

/// Does something again and again while each CPU receives denied datagrams from beyond the uplink.
fn flooding(lab: &Lab, server: &Workload, time: Duration, mut meanwhile: impl FnMut()) {
    let SocketAddr::V4(to) = server.at(Version::V4, 0) else { panic!("it is IPv4") };
    let milliseconds = u64::try_from(slowed(time).as_millis()).expect("seconds");
    thread::scope(|threads| {
        let floods = [0, 1].map(|cpu| {
            threads.spawn(move || {
                let (from, interface) = (Ipv4Addr::new(100, 64, 0, 0), UPLINK.to_owned());
                let (mac, kind, first, count) = ("020000ff0001".to_owned(), Kind::Datagrams, 0, u32::MAX);
                let packets = Spray { interface, mac, kind, from, to, first, count, milliseconds, cpu };
                spray(&packets, |command| {
                    lab.beyond().place(command);
                    Ok(())
                })
                .expect("a flood can be sent")
            })
        });
        while !floods.iter().all(thread::ScopedJoinHandle::is_finished) {
            meanwhile();
        }
    });
}

/// An agent that the kernel does not let run.
pub(super) struct Stopped(Pid);

impl Stopped {
    pub(super) fn new(agent: &Agent) -> Self {
        let stopped = Self(Pid::from_raw(i32::try_from(agent.pid()).expect("process IDs are small")));
        kill(stopped.0, Signal::SIGSTOP).expect("it is our child");
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).expect("it is our child");
    }
}
