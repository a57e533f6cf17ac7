//! The policies' directory is rewritten without a pause, and one edit in a few is broken.
//!
//! What every version denies never passes, what every version allows is never denied, and in the end the last good version is in
//! force: a broken one after it is told and changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Effort;
use crate::bench::{Figure, rounded};
use crate::check::slowed;
use crate::document::group;
use crate::lab::{Agent, Lab, Outcome, Version, Workload};
use crate::world::Random;

/// Between two edits.
const PAUSE: Duration = Duration::from_millis(2);
/// One edit in so many is broken.
const BROKEN: usize = 4;
/// What makes a file broken.
const MISTAKES: [&str; 4] = [
    "---\napiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\n",
    "---\n{[",
    "---\napiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGruop\nmetadata: {name: typing-error}\n",
    "---\napiVersion: bulkhead.dev/v1alpha1\nkind: SecurityGroup\nmetadata: {name: other}\nspec: {id: 100, selector: {}}\n",
];

/// Edits and looks.
///
/// # Panics
/// Something passed or was denied against all versions, or the last good version is not in force in the end.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let mut lab = Lab::new();
    let server = lab.container("server", "app=server");
    let friend = lab.container("friend", "app=friend");
    let stranger = lab.device("stranger", "app=stranger");
    server.serve(&[8000, 8001, 9000]);
    for workload in [&server, &friend, &stranger] {
        lab.declare(workload);
    }
    lab.policy("groups.yaml", &policy(8000, 1, ""));
    let agent = lab.agent();
    let stream = friend.stream(friend.keep(server.at(Version::V4, 8000)));
    let allowed = friend.hammer(server.at(Version::V6, 8000));
    let denied = [
        (&friend, friend.hammer(server.at(Version::V4, 9000))),
        (&stranger, stranger.hammer(server.at(Version::V4, 8000))),
        (&stranger, stranger.hammer(server.at(Version::V6, 9000))),
    ];
    let edits = AtomicU64::new(0);
    let began = Instant::now();
    let deadline = began + slowed(effort.time / 2);
    thread::scope(|threads| {
        for file in 0..2u64 {
            let (lab, edits) = (&lab, &edits);
            threads.spawn(move || {
                let mut random = Random::new(file);
                while Instant::now() < deadline {
                    let mistake = if random.below(BROKEN) == 0 { *random.pick(&MISTAKES) } else { "" };
                    let port = 10_000 + random.below(50_000);
                    if file == 0 {
                        lab.policy("groups.yaml", &policy(8000, port, mistake));
                    } else {
                        let rule = format!(
                            "ingress: [{{from: [{{cidr: 192.0.2.0/24}}], ports: [{{protocol: tcp, port: {port}}}]}}]"
                        );
                        lab.policy("extra.yaml", &(group("extra", 300, "extra", &[&rule]) + mistake));
                    }
                    edits.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(PAUSE);
                }
            });
        }
    });
    let rate = edits.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    for work in [stream, allowed] {
        agent.left_alone(&friend, work, 8000);
    }
    let mut knocked = 0;
    for (who, work) in denied {
        let tally = who.tally(work);
        assert_eq!(tally.reached, 0, "{} came in\n{}", who.name, agent.dump());
        knocked += tally.denied();
    }
    assert!(knocked > 0, "nobody knocked");
    let refused = agent.metric("bulkhead_policy_reloads_total", &[("result", "refused")]);
    let applied = agent.metric("bulkhead_policy_reloads_total", &[("result", "applied")]);
    // Which versions it reads of so many is a matter of chance.
    assert!(applied > 1.0, "{refused} refused, {applied} applied\n{}", agent.dump());
    let latency = ends_well(&lab, &agent, &server, &friend);
    vec![
        Figure::told("edits", edits.load(Ordering::Relaxed) as f64, "edits"),
        Figure::told("edits a second", rounded(rate), "edits"),
        Figure::told("reloads in force", applied, "reloads"),
        Figure::told("reloads refused", refused, "reloads"),
        Figure::told("denied attempts meanwhile, none of which passed", knocked as f64, "attempts"),
        Figure::told("the last good version in force after", rounded(latency.as_secs_f64() * 1e3), "ms"),
    ]
}

/// The last good version takes force, and stays when a broken one follows.
fn ends_well(lab: &Lab, agent: &Agent, server: &Workload, friend: &Workload) -> Duration {
    lab.policy("extra.yaml", &group("extra", 300, "extra", &[]));
    assert_eq!(friend.tcp(server.at(Version::V4, 8001)), Outcome::Silent, "{}", agent.dump());
    let began = Instant::now();
    lab.policy("groups.yaml", &policy(8001, 1, ""));
    agent.eventually("the last good version is in force", || {
        (friend.tcp(server.at(Version::V4, 8001)) == Outcome::Reached).then_some(())
    });
    let latency = began.elapsed();
    agent.eventually("nothing is said against it", || agent.status().problems.is_empty().then_some(()));
    lab.policy("groups.yaml", &policy(8000, 1, MISTAKES[0]));
    agent.eventually("the broken one is told", || (!agent.status().problems.is_empty()).then_some(()));
    assert!(agent.metric("bulkhead_policy_problems", &[]) > 0.0, "{}", agent.dump());
    assert!(agent.log().contains("the policy in force stays"), "{}", agent.dump());
    assert_eq!(friend.tcp(server.at(Version::V4, 8001)), Outcome::Reached, "{}", agent.dump());
    latency
}

/// Friends reach the server from port 8000 to the last one; somebody who is not there another one.
fn policy(last: u16, port: usize, mistake: &str) -> String {
    let rules = format!(
        "ingress: [{{from: [{{group: friends}}], ports: [{{protocol: tcp, port: 8000, endPort: {last}}}]}}, \
         {{from: [{{cidr: 192.0.2.77/32}}], ports: [{{protocol: tcp, port: {port}}}]}}]"
    );
    [&group("server", 100, "server", &[&rules]), &group("friends", 200, "friend", &[]), mistake].concat()
}
