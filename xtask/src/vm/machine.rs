//! QEMU: the machine that boots the kernel, and what it says.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::package::Package;
use super::script::Mark;
use crate::test::harness;
use crate::test::tally::{Run, Tally};
use crate::workspace::Executable;

/// How long everything may take: some twenty times what it does.
const WHOLE_RUN: Duration = Duration::from_secs(60 * 60);

/// Lines of the kernel's console that a machine which died is shown by.
const LAST_LINES: usize = 30;

/// Boots, and adds up what the harnesses say.
pub fn run(package: &Package, image: &Path, harnesses: &[Executable], tally: &mut Tally) -> Result<()> {
    let console = package.directory.join("console.log");
    let mut machine = Machine(command(package, image, &console).spawn().context("QEMU does not start")?);
    let lines = harness::lines(machine.0.stdout.take().expect("standard output is piped"));
    let deadline = Instant::now() + WHOLE_RUN;
    let mut ahead = harnesses.iter();
    let mut current: Option<(String, Run)> = None;
    let end = loop {
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => break Some("the time of the whole run was up"),
            Err(RecvTimeoutError::Disconnected) => break Some("the machine ended"),
        };
        match Mark::of(&line) {
            Some(Mark::Begin(number)) => {
                let name = harnesses.get(number).map_or_else(|| "unknown".into(), Executable::title);
                println!("\n== {name}, on Linux {}", package.release);
                ahead.next();
                current = Some((name, Run::default()));
            }
            Some(Mark::End(code)) => {
                if let Some((name, run)) = current.take() {
                    tally.add(&name, run, harness::end_of_code(code));
                }
            }
            Some(Mark::Done) => break None,
            None => {
                // Whoever reads may have gone; the tests are still to be counted.
                let _ = writeln!(stdout(), "{line}");
                if let Some((_, run)) = &mut current {
                    run.read(&line);
                }
            }
        }
    };
    let Some(end) = end else { return Ok(()) };
    if let Some((name, run)) = current {
        tally.add(&name, run, Some(end.into()));
    }
    for it in ahead {
        tally.fail(&format!("{}: not started, {end}", it.title()));
    }
    eprintln!("vm: {end}; the last of its console ({}):\n{}", console.display(), last_lines(&console));
    Ok(())
}

/// The machine; it ends with us, however we end.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(package: &Package, image: &Path, console: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"]);
    // cmpxchg16b and the timer's check make 6.12 crash at random in emulation.
    command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "3072"]);
    command.args(["-display", "none", "-monitor", "none"]);
    command.arg("-kernel").arg(package.image()).arg("-initrd").arg(image);
    command.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
    // The kernel's console, and apart from it what the tests say.
    command.arg("-serial").arg(format!("file:{}", console.display())).args(["-serial", "stdio"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn last_lines(file: &Path) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
