//! Programs whose first act is to connect, each in a cgroup that was made for it a moment ago: what the policy denies never
//! gets through, and what it allows gets through at the first try.
//!
//! Below a managed scope that denies, a cgroup that the agent has not named yet is denied. For a connection by TCP that is a
//! hold, and not the end: the kernel sends the first segment again, after a second at first (RFC 6298 section 2), by when the
//! agent has named the cgroup. The program sees a connect that took its time.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Effort;
use crate::bench::{Figure, quantile, rounded};
use crate::check::slowed;
use crate::document::{selecting, to_all};
use crate::lab::{Lab, Version, binaries, cgroup, probe};

/// Programs at a time: each waits most of its life.
const AT_ONCE: usize = 50;
/// At least so many programs, however little time there is.
const LEAST: usize = 100;
/// More say nothing new.
const MOST: usize = 10_000;

/// Starts programs, and asks what became of their connections.
///
/// # Panics
/// One got through where it must not, or did not where it may.
#[must_use]
pub fn run(effort: Effort) -> Vec<Figure> {
    let mut lab = Lab::new();
    let server = lab.container("server", "");
    server.serve(&[8000, 9000]);
    lab.policy(
        "groups.yaml",
        &selecting("job", 100, "{matchExpressions: [{key: unit, operator: Exists}]}", &[&to_all(&[8000])]),
    );
    let agent = lab.agent_with(&["--managed-scope", "pods.slice"]);
    let (next, deadline) = (AtomicUsize::new(0), effort.deadline());
    let times: Mutex<Vec<f64>> = Mutex::new(Vec::new());
    thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MOST || number >= LEAST && Instant::now() >= deadline {
                        return;
                    }
                    let version = Version::BOTH[number % 2];
                    let said = newcomer(&lab, number, server.at(version, 8000), server.at(version, 9000));
                    let milliseconds = said.unwrap_or_else(|said| panic!("program {number}: {said}\n{}", agent.dump()));
                    times.lock().unwrap_or_else(PoisonError::into_inner).push(milliseconds);
                }
            });
        }
    });
    let times = times.into_inner().unwrap_or_else(PoisonError::into_inner);
    let at_once = times.iter().filter(|time| **time < 900.0).count() as f64 / times.len() as f64;
    vec![
        Figure::told("programs in fresh cgroups", times.len() as f64, "programs"),
        Figure::told("first connection, median", rounded(quantile(times.clone(), 0.5)), "ms"),
        Figure::told("first connection, 99th percentile", rounded(quantile(times, 0.99)), "ms"),
        Figure::told("first segment let through", rounded(at_once), "of all"),
    ]
}

/// Runs one in a cgroup of its own; how many milliseconds its allowed connection took, or what it said instead.
fn newcomer(lab: &Lab, number: usize, allowed: SocketAddr, denied: SocketAddr) -> Result<f64, String> {
    let directory = lab.site().cgroup_root.join(format!("pods.slice/newcomer-{number}.service"));
    cgroup::make(&directory).expect("a cgroup can be made");
    let mut command = Command::new(binaries::load());
    command.args(["newcomer", &allowed.to_string(), &denied.to_string()]).stdin(Stdio::null());
    lab.site().host.place(&mut command);
    probe::join_cgroup(&mut command, &directory).expect("the cgroup is there");
    let output = command.output().expect("the load generator can be started");
    cgroup::remove(&directory).expect("the program has ended");
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    said.parse().map_err(|_| format!("{said} {}", String::from_utf8_lossy(&output.stderr)))
}

/// The program: connects to both at once, and prints how many milliseconds the allowed one took, or what went wrong.
#[must_use]
pub fn program(allowed: SocketAddr, denied: SocketAddr) -> String {
    let begin = Instant::now();
    // Long enough for the first segment to be sent again, once or twice.
    let [once, twice] = [1_500, 3_500].map(|milliseconds| slowed(Duration::from_millis(milliseconds)));
    let wrong = thread::spawn(move || TcpStream::connect_timeout(&denied, once));
    let right = TcpStream::connect_timeout(&allowed, twice);
    let took = begin.elapsed();
    match (right, wrong.join()) {
        (Ok(_), Ok(Err(_))) => format!("{}", took.as_secs_f64() * 1e3),
        (right, wrong) => format!("allowed: {right:?}, denied: {wrong:?}"),
    }
}
