//! One run of libtest: an executable, or the documentation's examples.

use std::io::{BufRead, BufReader, Write, stdout};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::tally::{Run, Tally};
use crate::privilege;
use crate::workspace::{self, Executable};

/// After a harness has ended, how long what it printed may take to arrive: a process that it left behind may hold its
/// standard output open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What `timeout` ends with when the time was up.
const TIMED_OUT: i32 = 124;

/// Something that runs tests and prints as libtest does.
pub enum Harness {
    /// A test executable, which runs as root.
    Executable(Executable),
    /// rustdoc, by way of cargo.
    Documentation,
}

impl Harness {
    fn name(&self) -> String {
        match self {
            Self::Executable(it) => it.title(),
            Self::Documentation => "documentation".into(),
        }
    }

    /// `timeout` ends the harness with all its children when the time is up, `setpriv` when we are ended ourselves.
    fn command(&self, filter: Option<&str>, left: Duration) -> Result<Command> {
        let watched = ["--pdeathsig", "TERM", "timeout", "--kill-after=10", &left.as_secs().max(1).to_string()]
            .map(str::to_owned);
        let mut command = match self {
            Self::Executable(it) => {
                let mut command = privilege::as_root("setpriv")?;
                command.args(watched).arg(&it.path);
                // As cargo does for the tests that it runs.
                command.current_dir(&it.package).env("CARGO_MANIFEST_DIR", &it.package);
                command.args(filter);
                command
            }
            Self::Documentation => {
                let cargo = workspace::cargo();
                let mut command = Command::new("setpriv");
                command.args(watched).arg(cargo.get_program()).current_dir(workspace::root());
                command.args(["test", "--workspace", "--doc", "--no-fail-fast", "--"]).args(filter);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }

    /// Runs it until the deadline at the latest, and adds what came of it.
    pub fn run(&self, filter: Option<&str>, deadline: Instant, tally: &mut Tally) -> Result<()> {
        let name = self.name();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tally.fail(&format!("{name}: not started, the time of the whole run was up"));
            return Ok(());
        }
        println!("\n== {name}");
        watch(&name, &mut self.command(filter, left)?, &mut stdout(), tally)
    }
}

/// Runs one command, shows what it prints, and adds what came of it.
fn watch(name: &str, command: &mut Command, shown: &mut impl Write, tally: &mut Tally) -> Result<()> {
    let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
    let lines = lines(child.stdout.take().expect("standard output is piped"));
    let mut run = Run::default();
    let status = loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => show(&line, shown, &mut run),
            Err(RecvTimeoutError::Disconnected) => break child.wait()?,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
            }
        }
    };
    let until = Instant::now() + LAST_WORDS;
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        show(&line, shown, &mut run);
    }
    tally.add(name, run, end(status));
    Ok(())
}

/// How a harness ended other than well, if it did.
fn end(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(code), _) => end_of_code(code),
        (None, signal) => Some(format!("killed by signal {}", signal.unwrap_or_default())),
    }
}

/// The same of an exit code.
pub fn end_of_code(code: i32) -> Option<String> {
    match code {
        0 => None,
        TIMED_OUT => Some("killed, the time of the whole run was up".into()),
        // 128 and the signal, as shells and `timeout` report it.
        129.. => Some(format!("killed by signal {}", code - 128)),
        _ => Some(format!("ended with exit code {code}")),
    }
}

fn show(line: &str, shown: &mut impl Write, run: &mut Run) {
    // Whoever reads may have gone; the tests are still to be counted.
    let _ = writeln!(shown, "{line}");
    run.read(line);
}

/// What a child prints, line by line, whatever its bytes.
pub fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            line.clear();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(script: &str) -> ExitStatus {
        Command::new("sh").args(["-c", script]).status().expect("sh starts")
    }

    #[test]
    fn every_end_but_a_good_one_is_named() {
        assert_eq!(end(status("exit 0")), None);
        assert_eq!(end(status("timeout 0.05 sleep 60")).as_deref(), Some("killed, the time of the whole run was up"));
        assert_eq!(end(status("kill -9 $$")).as_deref(), Some("killed by signal 9"));
        assert_eq!(end(status("timeout 60 sh -c 'kill -6 $$'")).as_deref(), Some("killed by signal 6"));
        assert_eq!(end(status("exit 3")).as_deref(), Some("ended with exit code 3"));
    }

    fn watched(script: &str) -> String {
        let mut tally = Tally::default();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", "0.5", "sh", "-c", script]).stdout(Stdio::piped());
        watch("lab", &mut command, &mut Vec::new(), &mut tally).expect("sh starts");
        tally.summary()
    }

    #[test]
    fn a_harness_that_hangs_is_killed_and_fails_by_name() {
        let summary = watched("echo 'test a ... ok'; sleep 600");
        assert_eq!(summary, "failures:\n  lab: killed, the time of the whole run was up\n1 passed, 1 failed\n");
    }

    #[test]
    fn a_harness_is_over_although_a_process_that_it_left_holds_its_output() {
        let left_behind = "setsid sleep 4 & echo 'test result: ok. 1 passed; 0 failed'";
        let began = Instant::now();
        assert_eq!(watched(left_behind), "1 passed, 0 failed\n");
        assert!(began.elapsed() < Duration::from_secs(4), "it waited for the one that was left");
    }

    #[test]
    fn output_arrives_line_by_line_whatever_its_bytes() {
        let mut child =
            Command::new("printf").arg(r"one\ntw\377o\r\nthree").stdout(Stdio::piped()).spawn().expect("it starts");
        let received: Vec<_> = lines(child.stdout.take().expect("it is piped")).into_iter().collect();
        assert_eq!(received, ["one", "tw\u{fffd}o", "three"]);
        child.wait().expect("it ends");
    }
}
