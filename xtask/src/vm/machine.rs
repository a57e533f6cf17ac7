//! QEMU: the machine that boots the kernel, and what it says.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::package::Package;
use super::script::{FROM, Mark};
use crate::test::harness;
use crate::test::tally::{Run, Tally};
use crate::workspace::Executable;

/// How long everything may take: some four times what it does on a machine that has nothing else to do.
const WHOLE_RUN: Duration = Duration::from_secs(2 * 60 * 60);

/// Lines of the kernel's console that a machine which died is shown by.
const LAST_LINES: usize = 60;

/// Boots, and adds up what the harnesses say.
///
/// The machine may end in the middle: emulated processors and a kernel that patches its own code (static keys) don't always agree,
/// and 6.12 panics by it every few hundred seconds. It is then booted again for what has not run yet. The harness in which it ended
/// is tried once more, and fails where the machine ends in it again, or where a program of BPF's was under way.
pub fn run(package: &Package, image: &Path, harnesses: &[Executable], tally: &mut Tally) -> Result<()> {
    let console = package.directory.join("console.log");
    let deadline = Instant::now() + WHOLE_RUN;
    let mut boot = Boot { from: 0, run: None };
    let mut retried = None;
    loop {
        let end =
            boot.watch(&mut Machine::start(package, image, &console, boot.from)?, package, harnesses, deadline, tally);
        let Some(end) = end else { return Ok(()) };
        eprintln!("vm: {}; the last of its console ({}):\n{}", end.why(), console.display(), last_lines(&console));
        let at = boot.from;
        let is_retried = end == End::Died && retried.replace(at) != Some(at) && !names_a_program(&console);
        if end == End::TimeUp || at >= harnesses.len() {
            fail(harnesses, at, boot.run.take().unwrap_or_default(), end, tally);
            for it in harnesses.iter().skip(at + 1) {
                tally.fail(&format!("{}: not started, {}", it.title(), end.why()));
            }
            return Ok(());
        }
        if is_retried {
            let kept = console.with_extension(format!("{at}.log"));
            fs::rename(&console, &kept).with_context(|| format!("cannot keep {}", kept.display()))?;
            eprintln!("vm: booting again, for {} and what comes after it", harnesses[at].title());
            boot.run = None;
        } else {
            fail(harnesses, at, boot.run.take().unwrap_or_default(), end, tally);
            boot.from += 1;
        }
    }
}

fn fail(harnesses: &[Executable], at: usize, run: Run, end: End, tally: &mut Tally) {
    let name = harnesses.get(at).map_or_else(|| "unknown".into(), Executable::title);
    tally.add(&name, run, Some(end.why().into()));
}

/// How the machine ended before all was done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    TimeUp,
    Died,
}

impl End {
    const fn why(self) -> &'static str {
        match self {
            Self::TimeUp => "the time of the whole run was up",
            Self::Died => "the machine ended",
        }
    }
}

/// The harnesses of one boot.
struct Boot {
    /// The first that has not ended yet.
    from: usize,
    /// What it has said, if it has begun.
    run: Option<Run>,
}

impl Boot {
    /// Reads what the machine says, until all is done or it ends.
    fn watch(
        &mut self,
        machine: &mut Machine,
        package: &Package,
        harnesses: &[Executable],
        deadline: Instant,
        tally: &mut Tally,
    ) -> Option<End> {
        let lines = harness::lines(machine.0.stdout.take().expect("standard output is piped"));
        loop {
            let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => return Some(End::TimeUp),
                Err(RecvTimeoutError::Disconnected) => return Some(End::Died),
            };
            match Mark::of(&line) {
                Some(Mark::Begin(number)) => {
                    let name = harnesses.get(number).map_or_else(|| "unknown".into(), Executable::title);
                    println!("\n== {name}, on Linux {}", package.release);
                    (self.from, self.run) = (number, Some(Run::default()));
                }
                Some(Mark::End(code)) => {
                    if let (Some(run), Some(it)) = (self.run.take(), harnesses.get(self.from)) {
                        tally.add(&it.title(), run, harness::end_of_code(code));
                    }
                    self.from += 1;
                }
                Some(Mark::Done) => return None,
                None => {
                    // Whoever reads may have gone; the tests are still to be counted.
                    let _ = writeln!(stdout(), "{line}");
                    if let Some(run) = &mut self.run {
                        run.read(&line);
                    }
                }
            }
        }
    }
}

/// Whether the kernel ended in, or on the way from, a program of BPF's.
fn names_a_program(console: &Path) -> bool {
    fs::read(console).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("bpf_prog_"))
}

/// The machine; it ends with us, however we end.
struct Machine(Child);

impl Machine {
    fn start(package: &Package, image: &Path, console: &Path, from: usize) -> Result<Self> {
        command(package, image, console, from).spawn().map(Self).context("QEMU does not start")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(package: &Package, image: &Path, console: &Path, from: usize) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot"]);
    // cmpxchg16b and the timer's check make 6.12 crash at random in emulation.
    command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "3072"]);
    command.args(["-display", "none", "-monitor", "none"]);
    command.arg("-kernel").arg(package.image()).arg("-initrd").arg(image);
    command.arg("-append").arg(format!("console=ttyS0 quiet panic=-1 no_timer_check {FROM}{from}"));
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
