//! `cargo xtask test`: every test of the workspace.
//!
//! Harnesses are built as the user who calls, and run one after the other as root, because the kernel's tests attach to
//! it. What the harnesses print streams through; failures are repeated at the end, ignored tests are named with their
//! reasons, and the last line is `N passed, N failed`. A harness that crashes or hangs is a failure by name.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::vm::{self, Kernel};
use crate::workspace;
use harness::Harness;
use tally::Tally;

pub mod harness;
pub mod tally;

/// How long all harnesses together may run; a hanging one must not hold up CI for ever.
const WHOLE_RUN: Duration = Duration::from_secs(20 * 60);

/// Run every test: unit tests, documentation's examples, and the tests in the kernel as root.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
    /// Run those that meet the kernel on this one instead, in QEMU
    #[arg(long, value_name = "VERSION")]
    kernel: Option<Kernel>,
}

/// Runs them; failure if one failed, or if there was none.
pub fn run(options: &Options) -> Result<ExitCode> {
    let filter = options.filter.as_deref();
    let tally = match options.kernel.map_or_else(|| run_all(filter), |kernel| vm::run(kernel, filter)) {
        Ok(tally) => tally,
        Err(problem) => {
            eprintln!("error: {problem:#}");
            let mut tally = Tally::default();
            tally.fail("the tests could not be run");
            tally
        }
    };
    if tally.ran() == 0 {
        match filter {
            Some(filter) => eprintln!("error: no test's name contains {filter:?}"),
            None => eprintln!("error: there is no test"),
        }
    }
    print!("\n{}", tally.summary());
    Ok(if tally.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_all(filter: Option<&str>) -> Result<Tally> {
    setup::ensure(Purpose::Test)?;
    setup::ensure(Purpose::Package)?;
    // The binaries too: tests start the agent.
    workspace::build(workspace::Profile::Debug)?;
    workspace::build_successor(workspace::Profile::Debug)?;
    let mut harnesses: Vec<_> = workspace::build_tests()?.into_iter().map(Harness::Executable).collect();
    harnesses.push(Harness::Documentation);
    let deadline = Instant::now() + WHOLE_RUN;
    let mut tally = Tally::default();
    for harness in harnesses {
        harness.run(filter, deadline, &mut tally)?;
    }
    Ok(tally)
}
