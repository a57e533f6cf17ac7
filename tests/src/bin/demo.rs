//! The demo: a small shop of real processes, the real agent between them, and tables of who reaches whom.
//!
//! What is expected stands here, written by hand; what is seen comes from real connections. Nothing is left behind.

#[path = "demo/forward.rs"]
mod forward;
#[path = "demo/shop.rs"]
mod shop;
#[path = "demo/table.rs"]
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use serde::Serialize;

use forward::Forward;
use shop::Shop;

/// Show security groups enforced between the live workloads of a small shop.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo")]
struct Options {
    /// End when the tables are shown, instead of staying up until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Print one JSON object instead of tables; needs --once
    #[arg(long, requires = "once")]
    json: bool,
}

/// One way through the shop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Flow {
    phase: &'static str,
    from: String,
    to: String,
    port: u16,
    expected: &'static str,
    seen: String,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    flows: Vec<Flow>,
    mismatches: usize,
}

fn main() -> ExitCode {
    match demo(&Options::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(mismatches) => {
            eprintln!("demo: {mismatches} flows are not as expected");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many flows were not as expected.
fn demo(options: &Options) -> Result<usize> {
    // Before there is any thread, so that every thread leaves the signals to the wait below.
    let stop = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stop), None).context("cannot hold back Ctrl-C")?;

    anyhow::ensure!(nix::unistd::geteuid().is_root(), "only root can load eBPF programs; use sudo");
    let say = |text: &str| {
        if !options.json {
            let mut out = io::stdout().lock();
            // Whoever closed the output wants to hear no more.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    };

    let mut shop = Shop::open()?;
    say(&shop.introduction());
    let mut flows = shop.look(&shop::AT_FIRST);
    say(&table::render("As the policy says", &flows));
    if !pending(&stop)? {
        let took = shop.relabel()?;
        let seen = shop.look(&shop::RELABELLED);
        say(&table::render(&format!("batch gets the label app=api; in force {took}"), &seen));
        flows.extend(seen);
    }
    if !pending(&stop)? {
        let took = shop.edit()?;
        let seen = shop.look(&shop::EDITED);
        say(&table::render(&format!("policies/shop.yaml: web moves from port 8443 to 9443; in force {took}"), &seen));
        flows.extend(seen);
    }
    let mismatches = flows.iter().filter(|flow| flow.expected != flow.seen).count();
    if options.json {
        println!("{}", serde_json::to_string(&Report { flows, mismatches })?);
    }
    if !options.once && !pending(&stop)? {
        let forward = Forward::start(shop.host())?;
        say(&shop.farewell(forward.address()));
        stop.wait().context("cannot wait for Ctrl-C")?;
        say("\ntaking everything down\n");
    }
    Ok(mismatches)
}

/// Whether Ctrl-C came while something else was going on.
fn pending(stop: &SigSet) -> Result<bool> {
    // SAFETY: sigpending fills in the set, which is a plain value, and does nothing else.
    let waiting = unsafe {
        let mut set = std::mem::zeroed();
        anyhow::ensure!(libc::sigpending(&raw mut set) == 0, "cannot ask for pending signals");
        SigSet::from_sigset_t_unchecked(set)
    };
    Ok(stop.iter().any(|signal| waiting.contains(signal)))
}
