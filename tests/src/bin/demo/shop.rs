//! The shop: who is in it, what is expected of whom, and what is changed live.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use bulkhead_tests::check::DEADLINE;
use bulkhead_tests::lab::{Agent, Lab, Outcome, Site, Version, Workload};

use crate::Flow;

/// The policy, as it stands in the repository.
const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/shop.yaml");
const POLICY_FILE: &str = "shop.yaml";

/// A way through the shop, and what policy makes of it: from, to, port, verdict.
type Way = (&'static str, &'static str, u16, &'static str);

/// What holds at one time.
pub struct Phase {
    name: &'static str,
    ways: &'static [Way],
}

/// With policies/shop.yaml as it is.
pub const AT_FIRST: Phase = Phase {
    name: "at_first",
    ways: &[
        ("outside", "web", 8443, "allow"),
        ("outside", "web", 8000, "deny"),
        ("outside", "api", 8000, "deny"),
        ("outside", "db", 5432, "deny"),
        ("web", "api", 8000, "allow"),
        ("web", "api", 8099, "allow"),
        ("web", "api", 9000, "deny"),
        ("web", "db", 5432, "deny"),
        ("api", "web", 8443, "deny"),
        ("api", "db", 5432, "allow"),
        ("api", "db", 8000, "deny"),
        ("db", "api", 8000, "deny"),
        ("batch", "db", 5432, "allow"),
        ("batch", "web", 8443, "audit"),
        ("batch", "api", 8000, "deny"),
        ("web", "batch", 8000, "deny"),
        ("outside", "batch", 8000, "audit"),
    ],
};

/// With batch labelled as an api.
pub const RELABELLED: Phase = Phase {
    name: "relabelled",
    ways: &[
        ("batch", "db", 5432, "allow"),
        ("batch", "web", 8443, "deny"),
        ("web", "batch", 8000, "allow"),
        ("outside", "batch", 8000, "deny"),
        ("web", "db", 5432, "deny"),
    ],
};

/// With web at another port.
pub const EDITED: Phase = Phase {
    name: "edited",
    ways: &[
        ("outside", "web", 8443, "deny"),
        ("outside", "web", 9443, "allow"),
        ("web", "api", 8000, "allow"),
        ("api", "db", 5432, "allow"),
    ],
};

/// Ports on which everyone listens, so that only policy can be in the way.
const PORTS: [u16; 6] = [5432, 8000, 8099, 8443, 9000, 9443];

/// The shop, open.
pub struct Shop {
    // Dropped in this order.
    agent: Agent,
    workloads: Vec<Workload>,
    lab: Lab,
}

impl Shop {
    /// Opens it: workloads, their documents, the policy, the agent.
    pub fn open() -> Result<Self> {
        let mut lab = Lab::try_new()?;
        let mut workloads: Vec<Workload> =
            ["web", "api", "db", "batch"].map(|name| lab.container(name, &format!("app={name},env=demo"))).into();
        for workload in &workloads {
            lab.declare(workload);
        }
        workloads.push(lab.outsider("outside", ""));
        for workload in &workloads {
            workload.serve(&PORTS);
        }
        lab.policy(POLICY_FILE, &policy()?);
        let agent = lab.agent();
        Ok(Self { agent, workloads, lab })
    }

    /// Who is there.
    pub fn introduction(&self) -> String {
        let mut text =
            "A shop on one host, each workload in a cgroup and a network namespace of its own:\n\n".to_owned();
        for workload in &self.workloads {
            let labels = if workload.labels.is_empty() { "in no group, beyond the uplink" } else { &workload.labels };
            text.push_str(&format!("  {:<8} {:<14} {labels}\n", workload.name, workload.address(Version::V4)));
        }
        text
    }

    /// What to try while it stays open.
    pub fn farewell(&self, metrics: SocketAddr) -> String {
        let site = self.lab.site();
        let bulkhead = bulkhead_tests::lab::binaries::bulkhead().display();
        let admin = site.admin();
        let admin = admin.display();
        format!(
            "\nThe shop stays open until Ctrl-C. Meanwhile:\n\n\
             \x20 curl http://{metrics}/metrics\n\
             \x20 {bulkhead} status --admin {admin}\n\
             \x20 {bulkhead} flows --follow --admin {admin}\n\
             \x20 an editor on {}/{POLICY_FILE}\n",
            site.policies().display(),
        )
    }

    /// The lab's host, where the metrics are.
    pub fn host(&self) -> Arc<Site> {
        self.lab.shared_site()
    }

    /// Tries each way, by IPv4 and IPv6, everyone at the same time.
    pub fn look(&self, phase: &Phase) -> Vec<Flow> {
        let attempt = |way: &Way| {
            let (from, to, port, expected) = *way;
            let seen: Vec<String> = Version::BOTH.iter().map(|version| self.see(from, to, port, *version)).collect();
            let seen = match seen.as_slice() {
                [first, second] if first == second => first.clone(),
                seen => format!("{} by IPv4, {} by IPv6", seen[0], seen[1]),
            };
            Flow { phase: phase.name, from: from.to_owned(), to: to.to_owned(), port, expected, seen }
        };
        let attempt = &attempt;
        let mut flows: Vec<(usize, Flow)> = thread::scope(|scope| {
            let of_sender = |sender: &Workload| {
                let name = sender.name.clone();
                let ways = phase.ways.iter().enumerate().filter(move |(_, way)| way.0 == name);
                scope.spawn(move || ways.map(|(place, way)| (place, attempt(way))).collect::<Vec<_>>())
            };
            let threads: Vec<_> = self.workloads.iter().map(of_sender).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("an attempt always ends")).collect()
        });
        flows.sort_by_key(|(place, _)| *place);
        flows.into_iter().map(|(_, flow)| flow).collect()
    }

    fn see(&self, from: &str, to: &str, port: u16, version: Version) -> String {
        let (from, at) = (self.workload(from), self.workload(to).at(version, port));
        let start = SystemTime::now();
        match from.tcp(at) {
            Outcome::Reached if self.was_audited(from.address(version), at, start) => "audit".to_owned(),
            Outcome::Reached => "allow".to_owned(),
            outcome if outcome.is_denied() => "deny".to_owned(),
            outcome => format!("{outcome:?}"),
        }
    }

    /// Whether the agent told of an audit on this way. Its events come a moment after the packets, and in their order: once it
    /// told of the receiver's judgement, it told of the sender's.
    fn was_audited(&self, source: IpAddr, at: SocketAddr, start: SystemTime) -> bool {
        let start_seconds = start.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (port, deadline) = (at.port().to_string(), Instant::now() + DEADLINE);
        loop {
            let mut flows = self.agent.flows(&["--protocol", "tcp", "--port", &port]);
            flows.retain(|flow| flow.time >= start_seconds && flow.source == source && flow.destination == at.ip());
            if flows.iter().any(|flow| flow.direction == "ingress") || Instant::now() > deadline {
                return flows.iter().any(|flow| flow.verdict == "audit");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives batch another label; says how long that took.
    pub fn relabel(&mut self) -> Result<String> {
        let batch = self.workloads.iter_mut().find(|workload| workload.name == "batch").context("batch is there")?;
        batch.labels = "app=api,env=demo".to_owned();
        let batch = batch.document();
        self.change("workload-batch.yaml", &batch)
    }

    /// Edits the policy; says how long that took.
    pub fn edit(&mut self) -> Result<String> {
        let (before, after) = ("port: 8443", "port: 9443");
        let policy = policy()?;
        ensure!(policy.contains(before), "{POLICY} does not say `{before}` any more: bring the demo in line with it");
        self.change(POLICY_FILE, &policy.replace(before, after))
    }

    /// Writes a file and waits until the agent has put it in force.
    fn change(&self, file: &str, text: &str) -> Result<String> {
        let before = self.agent.status().reloads;
        let start = Instant::now();
        self.lab.policy(file, text);
        loop {
            let status = self.agent.status();
            if status.reloads > before {
                return Ok(format!("after {} ms", start.elapsed().as_millis()));
            }
            if !status.problems.is_empty() {
                bail!("the agent refuses the change: {}", status.problems.join("; "));
            }
            ensure!(start.elapsed() < DEADLINE, "the agent does not take the change up\n{}", self.agent.dump());
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn workload(&self, name: &str) -> &Workload {
        self.workloads.iter().find(|workload| workload.name == name).expect("the tables name the shop's workloads")
    }
}

fn policy() -> Result<String> {
    fs::read_to_string(Path::new(POLICY)).with_context(|| format!("cannot read {POLICY}"))
}
