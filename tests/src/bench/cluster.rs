//! The agent on a node of a large cluster: all of its pods loaded, pods that come one by one and by the thousand, and what the API
//! server is asked for.
//!
//! Seen from outside: a pod counts as known when the kernel's table has its address. The API server is that of the tests, within
//! this process; the agent has one of its own.

use std::fs;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bulkhead::source::kubernetes::Pace;

use super::agent::status;
use super::{Figure, median, quantile, rounded};
use crate::apiserver::End;
use crate::crowd::{Crowd, Table};
use crate::document::group;
use crate::lab::Agent;

const PODS: usize = 100_000;
const NODES: usize = 5_000;
/// Pods that come one at a time.
const SINGLE: usize = 500;
/// Pods that come each second, while as many go.
const A_SECOND: u32 = 1_000;
const CHURN: Duration = Duration::from_secs(20);
/// While bookmarks are counted, one comes so often instead of each minute.
const BOOKMARK: Duration = Duration::from_millis(500);
const MINUTE: Duration = Duration::from_secs(60);
const BOOKMARKS: u32 = 10;

/// How long anything may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(300);
const BETWEEN_LOOKS: Duration = Duration::from_micros(200);

/// At most so many MiB, and so many milliseconds behind the server after the churn.
const MEMORY: f64 = 150.0;
const BEHIND: f64 = 1_000.0;

/// Measures.
///
/// # Errors
/// The lab can't be set up, or the agent doesn't get there.
///
/// # Panics
/// As the lab does.
pub fn measure() -> Result<Vec<Figure>> {
    let mut crowd = Crowd::new(PODS, NODES)?;
    let began = Instant::now();
    let agent = crowd.agent();
    let table = crowd.table();
    let mut figures = loaded(&crowd, &agent, &table, began)?;
    figures.extend(idle(&crowd, &agent)?);
    figures.extend(single(&mut crowd, &agent, &table)?);
    figures.extend(churned(&mut crowd, &agent, &table)?);
    figures.extend(edited(&crowd, &agent)?);
    let (held, there) = (table.addresses(), crowd.addresses().collect());
    ensure!(held == there, "the table has {} addresses, the server {}", held.len(), there.len());
    Ok(figures)
}

/// Everything at once, at the start.
fn loaded(crowd: &Crowd, agent: &Agent, table: &Table, began: Instant) -> Result<Vec<Figure>> {
    for address in crowd.addresses() {
        known(table, address, began, agent)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let burnt = cpu(agent)?;
    let watches = settled(crowd, agent)?;
    let [resident, highest] = memory(agent)?;
    let (asked, bytes) = (crowd.server.take_asked(), crowd.server.bytes_sent());
    let name = |what: &str| format!("{what}, {PODS} pods on {NODES} nodes");
    Ok(vec![
        Figure::told(name("process start to all in the table"), rounded(seconds), "s"),
        Figure::told(name("the agent's CPU time for it"), rounded(burnt.as_secs_f64()), "s"),
        Figure::at_most(name("resident memory afterwards"), rounded(resident), "MiB", MEMORY),
        Figure::at_most(name("highest resident memory meanwhile"), rounded(highest), "MiB", MEMORY),
        Figure::told(name("requests to the API server"), asked.len() as f64, "requests"),
        Figure::told(name("answers"), rounded(bytes as f64 / 1e6), "MB"),
        Figure::told(name("watches that stay open"), watches as f64, "watches"),
    ])
}

/// An hour in which nothing happens, by what some bookmarks take.
fn idle(crowd: &Crowd, agent: &Agent) -> Result<Vec<Figure>> {
    // A watch that ends within its first seconds is taken for trouble.
    sleep(Duration::from_secs(6));
    crowd.server.bookmark_every(BOOKMARK);
    crowd.server.end_watches(End::Well);
    let watches = settled(crowd, agent)?;
    let (before, burnt) = (crowd.server.bytes_sent(), cpu(agent)?);
    sleep(BOOKMARK * BOOKMARKS);
    let bytes = (crowd.server.bytes_sent() - before) as f64 / f64::from(BOOKMARKS);
    let burnt = (cpu(agent)? - burnt).as_secs_f64() / (BOOKMARK * BOOKMARKS).as_secs_f64();
    crowd.server.bookmark_every(MINUTE);
    sleep(Duration::from_secs(6));
    crowd.server.end_watches(End::Well);
    settled(crowd, agent)?;
    crowd.server.take_asked();
    // Each lasts as long as it was asked for, or up to twice that.
    let lasts = Pace::default().watch.as_secs_f64() * 1.5;
    let hour = 3_600.0;
    Ok(vec![
        Figure::told(
            "an idle hour, by its bookmarks: answers",
            rounded(bytes * hour / MINUTE.as_secs_f64() / 1e3),
            "kB",
        ),
        Figure::told("an idle hour, by its watches: requests", rounded(watches as f64 * hour / lasts), "requests"),
        Figure::told("idle, with two bookmarks a second: the agent's CPU", rounded(burnt * 100.0), "% of one"),
    ])
}

/// One pod at a time, among all the others.
fn single(crowd: &mut Crowd, agent: &Agent, table: &Table) -> Result<Vec<Figure>> {
    let before = Applied::of(agent);
    let mut times = Vec::new();
    for _ in 0..SINGLE {
        let began = Instant::now();
        let address = crowd.comes();
        known(table, address, began, agent)?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        sleep(Duration::from_millis(2));
    }
    let applied = Applied::of(agent);
    Ok(vec![
        Figure::told("pod put to in the table, median", rounded(median(times.clone())), "ms"),
        Figure::told("pod put to in the table, 99th percentile", rounded(quantile(times, 0.99)), "ms"),
        Figure::told("of that from the agent seeing it, mean", rounded(applied.mean_since(&before) * 1e3), "ms"),
    ])
}

/// A thousand a second.
fn churned(crowd: &mut Crowd, agent: &Agent, table: &Table) -> Result<Vec<Figure>> {
    let (before, burnt, bytes, applied) = (Instant::now(), cpu(agent)?, crowd.server.bytes_sent(), Applied::of(agent));
    let (turns, last, ended) = crowd.churn(A_SECOND, CHURN);
    let took = ended - before;
    known(table, last, ended, agent)?;
    let behind = ended.elapsed().as_secs_f64() * 1e3;
    let burnt = (cpu(agent)? - burnt).as_secs_f64() / before.elapsed().as_secs_f64();
    let [resident, highest] = memory(agent)?;
    let bytes = (crowd.server.bytes_sent() - bytes) as f64;
    let requests = crowd.server.take_asked().len() as f64;
    let applied = Applied::of(agent).mean_since(&applied);
    let name = |what: &str| format!("{A_SECOND} pods/s that come and as many that go: {what}");
    Ok(vec![
        Figure::at_least(
            name("sustained"),
            rounded(turns as f64 / took.as_secs_f64()),
            "pods/s",
            f64::from(A_SECOND) * 0.99,
        ),
        Figure::told(name("the agent's CPU"), rounded(burnt * 100.0), "% of one"),
        Figure::at_most(name("behind in the end"), rounded(behind), "ms", BEHIND),
        Figure::told(name("seen to in the table, mean"), rounded(applied * 1e3), "ms"),
        Figure::told(name("answers a second"), rounded(bytes / took.as_secs_f64() / 1e6), "MB/s"),
        Figure::told(name("requests"), requests, "requests"),
        Figure::at_most(name("resident memory afterwards"), rounded(resident), "MiB", MEMORY),
        Figure::at_most(name("highest resident memory so far"), rounded(highest), "MiB", MEMORY),
    ])
}

/// An edit of the policy, which has everything computed: a group more, that selects some of the pods.
fn edited(crowd: &Crowd, agent: &Agent) -> Result<Vec<Figure>> {
    let in_force = |log: &str| log.matches("the policy is in force").count();
    let (before, began) = (in_force(&agent.log()), Instant::now());
    crowd.lab().policy("edit.yaml", &group("edit", 10_000, "app-7", &["ingress: []"]));
    while in_force(&agent.log()) == before {
        ensure!(began.elapsed() < PATIENCE, "the edit does not take force\n{}", agent.log());
        sleep(Duration::from_millis(2));
    }
    let took = began.elapsed().as_secs_f64() * 1e3;
    let [_, highest] = memory(agent)?;
    Ok(vec![
        Figure::told(format!("an edit of the policy among {PODS} pods, to in force"), rounded(took), "ms"),
        Figure::told("highest resident memory, that included", rounded(highest), "MiB"),
    ])
}

/// Waits until the table has an address.
fn known(table: &Table, address: IpAddr, since: Instant, agent: &Agent) -> Result<()> {
    while !table.holds(address) {
        ensure!(since.elapsed() < PATIENCE, "{address} does not come into the table\n{}", agent.log());
        sleep(BETWEEN_LOOKS);
    }
    Ok(())
}

/// Waits until the agent watches all that it asks for; how many that is.
fn settled(crowd: &Crowd, agent: &Agent) -> Result<u64> {
    let (mut watches, mut since, began) = (0, Instant::now(), Instant::now());
    while watches == 0 || since.elapsed() < Duration::from_secs(2) {
        ensure!(began.elapsed() < PATIENCE, "the agent watches nothing\n{}", agent.log());
        if crowd.server.watches() != watches {
            (watches, since) = (crowd.server.watches(), Instant::now());
        }
        sleep(Duration::from_millis(20));
    }
    Ok(watches)
}

/// What the agent has, and has had at most, in MiB.
fn memory(agent: &Agent) -> Result<[f64; 2]> {
    let path = format!("/proc/{}/status", agent.pid());
    Ok([status(&path, "VmRSS:")?, status(&path, "VmHWM:")?])
}

/// The CPU time that the agent has used (proc_pid_stat(5)).
fn cpu(agent: &Agent) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).context("the agent's stat")?;
    // The name in brackets may hold anything; utime and stime are the 12th and 13th fields behind it.
    let (_, fields) = text.rsplit_once(')').context("a name in brackets")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("a clock ticks")?;
    Ok(Duration::from_secs_f64(f64::from(ticks) / a_second as f64))
}

/// What the agent tells of the time from its seeing a change to its table holding it.
struct Applied {
    count: f64,
    seconds: f64,
}

impl Applied {
    fn of(agent: &Agent) -> Self {
        let metric = |part| agent.metric(&format!("bulkhead_workload_apply_seconds_{part}"), &[]);
        Self { count: metric("count"), seconds: metric("sum") }
    }

    fn mean_since(&self, before: &Self) -> f64 {
        (self.seconds - before.seconds) / (self.count - before.count)
    }
}
