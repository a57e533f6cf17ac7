//! The agent in the lab: the real binary, asked through its own command line, its admin socket and its metrics.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bulkhead::flow::record::Line;
use bulkhead::view::{FlowView, GroupView, GroupsView, GuardrailView, StatusView, WorkloadView};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;

use super::probe::Work;
use super::site::Site;
use super::{UPLINK, Version, Workload, binaries};
use crate::check;

/// Where the agent listens for metrics, in the host's namespace.
pub const METRICS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9469);

/// How long it may take to enforce: most of it is the kernel's verifier, for which a busy machine may need long.
const STARTING: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOPPING: Duration = Duration::from_secs(30);

/// A running agent, killed when dropped; what it enforces stays until the lab goes.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    site: Arc<Site>,
}

impl Agent {
    /// Starts it and waits until it enforces.
    ///
    /// # Panics
    /// It ends, or does not enforce in time.
    pub(super) fn start(site: Arc<Site>, mut command: Command) -> Self {
        let log =
            OpenOptions::new().create(true).append(true).open(site.log()).expect("the lab's directory is writable");
        command.stderr(log).stdin(Stdio::null());
        let child = command.spawn().expect("the agent's binary can be started");
        let mut agent = Self { child, site };
        let deadline = Instant::now() + check::slowed(STARTING);
        while !agent.is_ready() {
            let ended = agent.child.try_wait().expect("it is our child");
            assert!(ended.is_none() && Instant::now() < deadline, "the agent does not get ready\n{}", agent.dump());
            thread::sleep(Duration::from_millis(2));
        }
        agent
    }

    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it says that it enforces.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|(status, _)| status == 200)
    }

    /// Asks the metrics listener: the status and the body.
    ///
    /// # Errors
    /// It does not listen.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        get(&self.site, path)
    }

    /// All metrics.
    ///
    /// # Panics
    /// There is no answer.
    #[must_use]
    pub fn metrics(&self) -> String {
        let (status, text) = self.get("/metrics").expect("the metrics listener answers");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// The sum of a metric's series that have all of these labels.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        self.metrics()
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']) && wanted.iter().all(|label| rest.contains(label)))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Packets that a hook judged so.
    #[must_use]
    pub fn packets(&self, hook: &str, verdict: &str, reason: &str) -> f64 {
        self.metric("bulkhead_packets_total", &[("hook", hook), ("verdict", verdict), ("reason", reason)])
    }

    /// `bulkhead status`, whether or not the agent enforces all that it should.
    ///
    /// # Panics
    /// There is no answer.
    #[must_use]
    pub fn status(&self) -> StatusView {
        let output = run(&self.site, &["status", "--json"]).expect("the agent's binary can be started");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }

    /// `bulkhead workloads`.
    #[must_use]
    pub fn workloads(&self) -> Vec<WorkloadView> {
        self.json(&["workloads"])
    }

    /// `bulkhead groups`: the groups.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupView> {
        self.json::<GroupsView>(&["groups"]).groups
    }

    /// `bulkhead groups`: the guardrails.
    #[must_use]
    pub fn guardrails(&self) -> Vec<GuardrailView> {
        self.json::<GroupsView>(&["groups"]).guardrails
    }

    /// `bulkhead flows`, oldest first; `filters` as its options.
    ///
    /// # Panics
    /// It fails, or says something that is no flow.
    #[must_use]
    pub fn flows(&self, filters: &[&str]) -> Vec<Arc<FlowView>> {
        let output = self.ask(&[&["flows", "--limit", "4096"], filters].concat());
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("not a flow: {error}: {line}"));
        lines
            .lines()
            .filter_map(|line| match parse(line) {
                Line::Flow(flow) => Some(flow),
                Line::Missed { .. } | Line::Sampled { .. } => None,
            })
            .collect()
    }

    /// Whether background work at a TCP port was never disturbed: it went on, and no packet of it was denied. What only came late
    /// on a busy machine does not count.
    ///
    /// # Panics
    /// It was.
    pub fn left_alone(&self, client: &Workload, work: Work, port: u16) {
        let tally = client.tally(work);
        assert!(tally.reached > 0 && tally.refused + tally.other == 0, "{tally:?}\n{}", self.dump());
        let addresses = Version::BOTH.map(|version| client.address(version));
        let denied = self.flows(&["--verdict", "deny", "--protocol", "tcp"]).into_iter().find(|flow| {
            (addresses.contains(&flow.source) && flow.destination_port == Some(port))
                || (addresses.contains(&flow.destination) && flow.source_port == Some(port))
        });
        assert!(denied.is_none(), "{denied:#?}\n{}", self.dump());
    }

    /// The groups of a workload; none where it is not known.
    #[must_use]
    pub fn groups_of(&self, workload: &str) -> Option<Vec<String>> {
        self.workloads().into_iter().find(|view| view.name == workload).map(|view| view.groups)
    }

    /// Waits for something to become true, and tells everything of the agent where it does not.
    pub fn eventually<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        check::eventually(what, || self.dump(), look)
    }

    /// Everything that it knows, and its log.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut dump = String::new();
        for question in [&["status"] as &[&str], &["workloads"], &["groups", "--rules"], &["flows", "--limit", "60"]] {
            let said = run(&self.site, question).map_or_else(|error| error.to_string(), |output| text(&output));
            let _ = writeln!(dump, "--- bulkhead {}\n{said}", question.join(" "));
        }
        if let Ok((_, metrics)) = self.get("/metrics") {
            let counted = |line: &&str| line.starts_with("bulkhead_packets_total") && !line.ends_with(" 0");
            let _ = writeln!(dump, "--- counters\n{}", metrics.lines().filter(counted).collect::<Vec<_>>().join("\n"));
        }
        let log = fs::read_to_string(self.site.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let _ = writeln!(dump, "--- log\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        dump
    }

    /// Its log, of all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.site.log()).unwrap_or_default()
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// It does not stop in time.
    pub fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("process IDs are small"));
        kill(pid, Signal::SIGTERM).expect("it is our child");
        let deadline = Instant::now() + check::slowed(STOPPING);
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the agent does not stop\n{}", self.dump());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    fn json<T: DeserializeOwned>(&self, question: &[&str]) -> T {
        let output = self.ask(question);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
    }

    fn ask(&self, question: &[&str]) -> Output {
        let output = run(&self.site, &[question, &["--json"]].concat()).expect("the agent's binary can be started");
        assert!(output.status.success(), "bulkhead {question:?}: {}\n{}", text(&output), self.dump());
        output
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `bulkhead run` as the lab starts it, in the host's namespace; it dies with the thread that starts it.
#[must_use]
pub fn command(site: &Site, arguments: &[&str]) -> Command {
    command_of(binaries::bulkhead(), site, arguments)
}

/// The same of another build.
#[must_use]
pub fn command_of(binary: &Path, site: &Site, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("run")
        .arg("--policies")
        .arg(site.policies())
        .arg("--cgroup-root")
        .arg(&site.cgroup_root)
        .arg("--bpffs")
        .arg(site.bpffs())
        .arg("--admin")
        .arg(site.admin())
        .arg("--state")
        .arg(site.directory.join("state"))
        .args(["--uplink", UPLINK])
        .args(["--metrics", &format!("{}:{}", METRICS.0, METRICS.1)])
        .args(arguments)
        // A group of its own, so that a Ctrl-C is the lab's to handle.
        .process_group(0);
    // SAFETY: prctl is a plain system call, which may be made between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    site.host.place(&mut command);
    command
}

/// Another subcommand of `bulkhead`, pointed at the lab.
///
/// # Errors
/// The binary can't be started.
pub fn run(site: &Site, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binaries::bulkhead());
    command.args(arguments).arg("--admin").arg(site.admin()).env("BULKHEAD_BPFFS", site.bpffs());
    // `detach` looks for interfaces there.
    site.host.place(&mut command);
    command.output().context("cannot start the agent's binary")
}

/// Asks whatever listens for metrics in the host's namespace.
///
/// # Errors
/// Nothing does, or it does not speak HTTP.
pub fn get(site: &Site, path: &str) -> Result<(u16, String)> {
    let answer = site.host.enter(|| {
        let mut stream = TcpStream::connect(METRICS)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP: {answer}") };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
