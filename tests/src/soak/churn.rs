//! Workloads that come and go, ten thousand a minute: as cgroups below a managed scope, and as `Workload` documents.
//!
//! Traffic goes on meanwhile. In the end the agent knows exactly what there is, and it and the kernel hold what they held in the
//! beginning: memory, file descriptors, entries.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::Effort;
use super::contents::{contents, differences};
use crate::bench::{Figure, rounded};
use crate::check::slowed;
use crate::document::{from_all, group, selecting, to_all};
use crate::lab::{Agent, Lab, Version, Workload, cgroup};

/// One workload comes and an older one goes in this time: ten thousand a minute.
const INTERVAL: Duration = Duration::from_millis(6);
/// So many of each kind are there at a time.
const AT_ONCE: u64 = 20;
/// One of so many is a document; the others are cgroups.
const DOCUMENT: u64 = 10;
/// Resident memory that may be more in the end: what an allocator keeps for itself, KiB.
const SLACK: f64 = 8_192.0;
/// Threads that may be more in the end: the runtime keeps those that waited for a disk or the kernel for ten seconds (tokio's
/// `thread_keep_alive`), and one looks for pressure every five.
const IDLE_THREADS: f64 = 2.0;
/// What is looked at before and afterwards takes less.
const AROUND: Duration = Duration::from_secs(30);
/// All time-outs, so that addresses that went are forgotten soon.
const TIME_OUTS: &str = "tcp-handshake=5,tcp-established=5,tcp-closing=2,udp-one-way=2,udp-stream=2,icmp=2,other=2";

/// Has them come and go.
///
/// # Panics
/// Traffic was disturbed, the agent knows what is not there, or something has grown.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let scene = Scene::new();
    let agent = scene.lab.agent_with(&["--timeout", TIME_OUTS, "--managed-scope", "pods.slice"]);
    let stream = scene.friend.stream(scene.friend.keep(scene.server.at(Version::V4, 8000)));
    let hammer = scene.friend.hammer(scene.server.at(Version::V6, 8000));
    let knock = scene.friend.hammer(scene.server.at(Version::V4, 9000));
    // What is made once is made before it is measured.
    let mut turn = scene.churn(0, Duration::from_secs(2).min(effort.time / 4));
    let before = scene.settled(&agent);
    let began = Instant::now();
    let first = turn;
    // What comes before and after it takes seconds, of a long time as of a short one.
    let time = (effort.time / 2).max(effort.time.saturating_sub(AROUND));
    turn = scene.churn(turn, slowed(time));
    let rate = (turn - first) as f64 / began.elapsed().as_secs_f64() * 60.0;
    let after = scene.settled(&agent);

    for (work, port) in [(stream, 8000), (hammer, 8000)] {
        agent.left_alone(&scene.friend, work, port);
    }
    let knocked = scene.friend.tally(knock);
    assert!(knocked.reached == 0 && knocked.denied() > 0, "{knocked:?}\n{}", agent.dump());
    let differences = differences(&before.contents, &after.contents);
    assert!(differences.is_empty(), "{}\n{}", differences.join("\n"), agent.dump());
    let mut figures = vec![
        Figure::told("workloads that came and went", (turn - first) as f64, "workloads"),
        Figure::told("of them a minute", rounded(rate), "workloads"),
    ];
    for (what, value) in &after.held {
        let was = before.held[what];
        // Traffic that goes on has flows come and go in the meantime.
        let most = match *what {
            "resident memory, KiB" => was + SLACK,
            "threads" => was + IDLE_THREADS,
            _ => was,
        };
        assert!(*value <= most, "{what}: {was} before, {value} afterwards\n{}", agent.dump());
        figures.push(Figure::told(format!("{what}, before"), was, ""));
        figures.push(Figure::told(format!("{what}, afterwards"), *value, ""));
    }
    figures
}

/// What there is when nothing has come or gone for a while.
struct Settled {
    contents: std::collections::BTreeSet<String>,
    held: BTreeMap<&'static str, f64>,
}

struct Scene {
    server: Workload,
    friend: Workload,
    groups: String,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let mut lab = Lab::new();
        let server = lab.container("server", "app=server");
        let friend = lab.container("friend", "app=friend");
        server.serve(&[8000, 9000]);
        for workload in [&server, &friend] {
            lab.declare(workload);
        }
        let job = selecting("job", 300, "{matchExpressions: [{key: unit, operator: Exists}]}", &[&to_all(&[8000])]);
        let groups =
            [group("server", 100, "server", &[&from_all(&[8000])]), group("passing", 200, "passing", &[]), job];
        let scene = Self { server, friend, groups: groups.concat(), lab };
        scene.edit(400);
        scene
    }

    /// Changes the policy in what nobody here is about. Rows of groups that nobody is in any more stay until a policy is computed,
    /// as somebody may come back.
    fn edit(&self, id: u32) {
        self.lab.policy("groups.yaml", &[self.groups.as_str(), group("nobody", id, "nobody", &[]).as_str()].concat());
    }

    /// Has workloads come and go from this number on, and returns the number after the last; all are gone then.
    fn churn(&self, first: u64, time: Duration) -> u64 {
        let (began, mut number) = (Instant::now(), first);
        while began.elapsed() < time {
            if number % DOCUMENT == 0 {
                let (name, address) = (Self::document(number), number / DOCUMENT % 250);
                self.lab.policy(
                    &name,
                    &format!(
                        "apiVersion: bulkhead.dev/v1alpha1\nkind: Workload\n\
                         metadata: {{name: passing-{number}, labels: {{app: passing}}}}\n\
                         spec: {{addresses: [203.0.113.{address}]}}\n"
                    ),
                );
            } else {
                cgroup::make(&self.unit(number)).expect("a cgroup can be made");
            }
            if let Some(older) = number.checked_sub(AT_ONCE * DOCUMENT).filter(|older| *older >= first) {
                self.end(older);
            }
            number += 1;
            thread::sleep((began + INTERVAL * (number - first) as u32).saturating_duration_since(Instant::now()));
        }
        (number.saturating_sub(AT_ONCE * DOCUMENT).max(first)..number).for_each(|left| self.end(left));
        number
    }

    fn end(&self, number: u64) {
        if number.is_multiple_of(DOCUMENT) {
            fs::remove_file(self.lab.site().policies().join(Self::document(number))).expect("it was written");
        } else {
            cgroup::remove(&self.unit(number)).expect("nobody is in it");
        }
    }

    fn document(number: u64) -> String {
        format!("passing-{number}.yaml")
    }

    fn unit(&self, number: u64) -> PathBuf {
        self.lab.site().cgroup_root.join(format!("pods.slice/passing-{number}.service"))
    }

    /// Waits until the agent knows what there is, and addresses that went are forgotten.
    fn settled(&self, agent: &Agent) -> Settled {
        agent.eventually("the agent knows those that are there, and no other", || {
            let mut names: Vec<String> = agent.workloads().into_iter().map(|workload| workload.name).collect();
            names.retain(|name| name != "cgroup:pods.slice");
            (names == ["friend", "server"]).then_some(())
        });
        let reloads = agent.status().reloads;
        self.edit(401 + u32::try_from(reloads).expect("a few hundred"));
        agent.eventually("the policy was computed again", || (agent.status().reloads > reloads).then_some(()));
        let entries = |map| agent.metric("bulkhead_map_entries", &[("map", map)]);
        agent.eventually("addresses that went are forgotten", || (entries("tombstones") == 0.0).then_some(()));
        let mut settled: Option<Settled> = None;
        // Identities that nobody has are taken away one look later.
        agent.eventually("nothing changes any more", || {
            let now = Settled { contents: contents(self.lab.site()).expect("the maps are pinned"), held: held(agent) };
            let stays = settled.as_ref().is_some_and(|before| {
                before.contents == now.contents && before.held["descriptors"] == now.held["descriptors"]
            });
            settled = Some(now);
            if !stays {
                thread::sleep(Duration::from_millis(300));
            }
            stays.then_some(())
        });
        settled.expect("it was looked at")
    }
}

/// What the agent and its maps hold.
fn held(agent: &Agent) -> BTreeMap<&'static str, f64> {
    let process = PathBuf::from(format!("/proc/{}", agent.pid()));
    let field = |text: &str, name: &str| -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().split(' ').next()?.parse().ok())
    };
    let status = fs::read_to_string(process.join("status")).expect("it runs");
    let mut descriptors = 0;
    let mut kernel: BTreeMap<String, f64> = BTreeMap::new();
    for entry in fs::read_dir(process.join("fdinfo")).expect("it runs") {
        let Ok(info) = fs::read_to_string(entry.expect("it runs").path()) else { continue };
        descriptors += 1;
        // The same map may be open more than once. Flows and events come and go with the traffic, in memory of their own.
        if let (Some(id), Some(bytes)) = (field(&info, "map_id:"), field(&info, "memlock:")) {
            kernel.insert(id.to_string(), bytes);
        }
    }
    let entries = |map| agent.metric("bulkhead_map_entries", &[("map", map)]);
    BTreeMap::from([
        ("resident memory, KiB", field(&status, "VmRSS:").expect("it has memory")),
        ("threads", field(&status, "Threads:").expect("it has threads")),
        ("descriptors", f64::from(descriptors)),
        ("kernel memory of the maps, KiB", rounded(kernel.values().sum::<f64>() / 1_024.0)),
        ("entries: addresses", entries("addresses")),
        ("entries: cgroups", entries("cgroups")),
        ("entries: interfaces", entries("interfaces")),
        ("entries: identities", entries("identities")),
        ("entries: rows", entries("rows")),
        ("entries: rule_refs", entries("rule_refs")),
    ])
}
