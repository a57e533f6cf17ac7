//! The agent is killed at any moment, again and again: while it starts, reads an edit, hears of workloads, or has nothing to do.
//!
//! Meanwhile strangers knock, friends connect and connections go on. No packet passes that the policy denies, no connection
//! breaks, and in the end the kernel's maps hold what an agent that was never killed leaves there.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Effort;
use super::contents::{contents, differences};
use super::scene::{Scene, kill, log, start};
use crate::bench::Figure;
use crate::document::group;
use crate::lab::{Lab, agent, cgroup};
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
        let mut agent = start(&scene.lab, agent::command(scene.lab.site(), &[]));
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
            let (more, fewer) = scene.look(&traffic, &format!("after {kills} kills"));
            passed += more;
            denied += fewer;
        }
    }
    compare(&scene.lab, kills);
    vec![
        Figure::told("kills of the agent", kills as f64, "kills"),
        Figure::told("denied attempts meanwhile, none of which passed", denied as f64, "attempts"),
        Figure::told("allowed attempts meanwhile, none of which was refused", passed as f64, "attempts"),
        Figure::told("connections kept open over all kills", traffic.kept.len() as f64, "connections"),
    ]
}

/// What a last agent finds and completes is what one leaves that finds nothing.
fn compare(lab: &Lab, kills: usize) {
    let site = lab.site();
    let last = lab.agent();
    last.eventually("the last agent has nothing to complain of", || last.status().enforcing.then_some(()));
    let after = contents(site).expect("the maps are pinned");
    assert!(last.stop().success());
    let detached = agent::run(site, &["detach"]).expect("the binary is there");
    assert!(detached.status.success(), "{detached:?}");
    let fresh = lab.agent();
    fresh.eventually("a fresh agent has nothing to complain of", || fresh.status().enforcing.then_some(()));
    let expected = contents(site).expect("the maps are pinned");
    let entries = |of: &str| expected.iter().filter(|line| line.starts_with(of)).count();
    let least = [("address", 10), ("cgroup", 2), ("interface", 3), ("cidr", 0), ("rows", 1), ("rules", 1)];
    let is_whole = least.iter().all(|(of, least)| entries(of) >= *least);
    assert!(is_whole, "the maps were not read: {expected:#?}");
    let differences = differences(&expected, &after);
    assert!(differences.is_empty(), "after {kills} kills:\n{}\n{}", differences.join("\n"), fresh.dump());
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
