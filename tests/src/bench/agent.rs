//! The agent itself: how soon it enforces, and how much memory it has when it has nothing to do.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Effort, Figure, median};
use crate::document;
use crate::lab::{Lab, agent};

/// How long the agent has nothing to do before its memory is looked at.
const IDLE: Duration = Duration::from_secs(3);

/// At most so much memory, in MiB, and so many milliseconds until it enforces.
const MEMORY: f64 = 30.0;
const START: f64 = 300.0;

/// Measures.
///
/// # Errors
/// The lab can't be set up.
///
/// # Panics
/// As the lab does.
pub fn measure(effort: Effort) -> Result<Vec<Figure>> {
    let mut lab = Lab::try_new()?;
    let workloads =
        [lab.container("web", "app=web"), lab.container("api", "app=api"), lab.process("batch", "app=batch")];
    lab.policy("web.yaml", &document::group("web", 100, "web", &["ingress: [{from: [{cidr: 0.0.0.0/0}]}]"]));
    lab.policy("api.yaml", &document::group("api", 200, "api", &["ingress: [{from: [{group: web}]}]"]));
    workloads.iter().for_each(|workload| lab.declare(workload));

    let (mut told, mut seen, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..effort.rounds {
        let began = Instant::now();
        let agent = lab.agent();
        seen.push(began.elapsed().as_secs_f64() * 1e3);
        told.push(milliseconds(&agent.log(), " enforcing ").context("the agent logs how long its start took")?);
        if round == 0 {
            sleep(IDLE);
            memory.push(resident(agent.pid())?);
        }
        ensure!(agent.stop().success(), "the agent does not stop as it should");
        // Everything goes, so that the next start begins from nothing.
        let detached = agent::run(lab.site(), &["detach"])?;
        ensure!(detached.status.success(), "detaching: {}", String::from_utf8_lossy(&detached.stderr));
    }
    let tenths = |value: f64| (value * 10.0).round() / 10.0;
    Ok(vec![
        Figure::at_most("resident memory of the idle agent", tenths(median(memory)), "MiB", MEMORY),
        Figure::at_most("start to enforcing, as the agent tells", tenths(median(told)), "ms", START),
        Figure::at_most("start to enforcing, process start to /readyz", tenths(median(seen)), "ms", START),
    ])
}

/// The milliseconds that the last log line with `what` tells.
pub(super) fn milliseconds(log: &str, what: &str) -> Option<f64> {
    let line = log.lines().rev().find(|line| line.contains(what))?;
    line.split_once("milliseconds=")?.1.split(' ').next()?.parse().ok()
}

/// Resident memory of a process, in MiB.
fn resident(pid: u32) -> Result<f64> {
    status(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// A size in a process's status (proc_pid_status(5)), in MiB.
pub(super) fn status(path: &str, field: &str) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let rest = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    let kibibytes: f64 = rest.trim().trim_end_matches(" kB").parse().context("a size in kB")?;
    Ok(kibibytes / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_start_counts() {
        let log = "INFO bulkhead::start: enforcing milliseconds=5.5 adopted=false\n\
                   INFO bulkhead::policy: the policy is in force milliseconds=7\n\
                   INFO bulkhead::start: enforcing milliseconds=6.5 adopted=true\n";
        assert_eq!(milliseconds(log, " enforcing "), Some(6.5));
        assert_eq!(milliseconds(log, "in force"), Some(7.0));
        assert_eq!(milliseconds(log, "stopped"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(status("/proc/self/status", "VmRSS:").expect("procfs") > 0.1);
    }
}
