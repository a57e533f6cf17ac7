//! An edit that changes every one of 10,000 rules: from the file's change to the policy in force, beside `nft -f`.

use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::agent::milliseconds;
use crate::bench::{Effort, Figure, median, nftables};
use crate::lab::{Agent, Lab, Version, Workload};

/// Groups whose members may reach the server, each at [`PORTS`] ports: a rule each.
const GROUPS: u8 = 100;
const PORTS: u16 = 100;
/// The first port, which an edit moves.
const FIRST_PORTS: [u16; 2] = [10_000, 20_000];

/// What the agent logs.
const IN_FORCE: &str = "the policy is in force";
const PATIENCE: Duration = Duration::from_secs(30);

/// At most so many milliseconds.
const TARGET: f64 = 100.0;

pub(super) fn measure(effort: Effort) -> Result<Vec<Figure>> {
    let mut lab = Lab::try_new()?;
    let server = lab.container("server", "app=server");
    lab.declare(&server);
    lab.policy("peers.yaml", &peers());
    lab.policy("rules.yaml", &rules(FIRST_PORTS[1]));
    let agent = lab.agent();

    let (mut edit, mut seen, mut map, mut linear) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=effort.rounds {
        let first = FIRST_PORTS[round % 2];
        let (total, since_seen) = edited(&lab, &agent, &rules(first))?;
        let of_map = loaded(&lab, &nftables::forward(&pairs(&server, first)))?;
        let of_rules = loaded(&lab, &nftables::linear(&lines(&server, first)))?;
        // The first time there is nothing to replace.
        if round > 0 {
            edit.push(total);
            seen.push(since_seen);
            map.push(of_map);
            linear.push(of_rules);
        }
    }
    let tenths = |values: Vec<f64>| (median(values) * 10.0).round() / 10.0;
    let (map, linear) = (tenths(map), tenths(linear));
    Ok(vec![
        Figure::told("replacing 10,000 rules, nftables, a map", map, "ms"),
        Figure::told("replacing 10,000 rules, nftables, a rule each", linear, "ms"),
        Figure::told("replacing 10,000 rules, from the change being seen", tenths(seen), "ms"),
        Figure::at_most("replacing 10,000 rules, edit to in force", tenths(edit.clone()), "ms", TARGET),
        Figure::at_most("the same, to be below nftables with a map", tenths(edit), "ms", map),
    ])
}

/// Replaces the policy file, and returns the milliseconds until the new policy is in force: from the edit, and from when the
/// agent saw it.
fn edited(lab: &Lab, agent: &Agent, text: &str) -> Result<(f64, f64)> {
    let count = |log: &str| log.matches(IN_FORCE).count();
    let before = count(&agent.log());
    let began = Instant::now();
    lab.policy("rules.yaml", text);
    loop {
        let log = agent.log();
        if count(&log) > before && log.ends_with('\n') {
            let total = began.elapsed().as_secs_f64() * 1e3;
            let since_seen = milliseconds(&log, IN_FORCE).context("the agent logs how long it took")?;
            return Ok((total, since_seen));
        }
        ensure!(began.elapsed() < PATIENCE, "the policy does not take force\n{}", agent.dump());
        sleep(Duration::from_millis(1));
    }
}

fn loaded(lab: &Lab, ruleset: &str) -> Result<f64> {
    let began = Instant::now();
    nftables::load(&lab.site().host, ruleset)?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// A hundred groups with a remote member each.
fn peers() -> String {
    let mut text = String::new();
    for number in 1..=GROUPS {
        write!(
            text,
            "apiVersion: bulkhead.dev/v1alpha1\n\
             kind: SecurityGroup\n\
             metadata: {{name: peer-{number}}}\n\
             spec: {{id: {}, selector: {{matchLabels: {{peer: \"{number}\"}}}}}}\n\
             ---\n\
             apiVersion: bulkhead.dev/v1alpha1\n\
             kind: Workload\n\
             metadata: {{name: peer-{number}, labels: {{peer: \"{number}\"}}}}\n\
             spec: {{addresses: [{}]}}\n\
             ---\n",
            1_000 + u32::from(number),
            address(number)
        )
        .expect("a string takes everything");
    }
    text
}

/// One group with 10,000 ingress rules.
fn rules(first: u16) -> String {
    let mut text = "apiVersion: bulkhead.dev/v1alpha1\n\
                    kind: SecurityGroup\n\
                    metadata: {name: server}\n\
                    spec:\n  \
                      id: 1\n  \
                      selector: {matchLabels: {app: server}}\n  \
                      ingress:\n"
        .to_owned();
    for (number, port) in each(first) {
        writeln!(text, "    - {{from: [{{group: peer-{number}}}], ports: [{{protocol: tcp, port: {port}}}]}}")
            .expect("a string takes everything");
    }
    text
}

/// The same as elements of nftables' map.
fn pairs(server: &Workload, first: u16) -> Vec<String> {
    let to = server.address(Version::V4);
    each(first).map(|(number, port)| nftables::element(address(number), to, "tcp", port)).collect()
}

/// The same as rules of nftables.
fn lines(server: &Workload, first: u16) -> Vec<String> {
    let to = server.address(Version::V4);
    each(first)
        .map(|(number, port)| format!("ip saddr {} ip daddr {to} tcp dport {port} accept", address(number)))
        .collect()
}

fn each(first: u16) -> impl Iterator<Item = (u8, u16)> {
    (1..=GROUPS).flat_map(move |number| (first..first + PORTS).map(move |port| (number, port)))
}

fn address(number: u8) -> String {
    format!("10.78.0.{number}")
}
