//! Bulkhead's workshop: set-up, build, demo, tests, lint and bench, each a command of `cargo xtask`.
//!
//! Each command is a module with its own `Options`. Its own words go to standard error, so that standard output is
//! only what the command is asked for. It needs neither the agent nor an eBPF toolchain to compile: `setup` has to
//! run on a machine that has none.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod demo;
mod deny;
mod fuzz;
mod lint;
mod package;
mod privilege;
mod run;
mod setup;
mod soak;
mod test;
mod tidy;
#[allow(dead_code, reason = "the agent's build script uses the rest")]
mod toolchain;
mod vm;
mod workspace;

/// Bulkhead's workshop. Every command installs what it needs first, as `setup` does.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what building and testing need, and install what is missing (Debian)
    Setup(setup::Options),
    /// Build target/debug/bulkhead, or target/release/bulkhead, with the eBPF programs inside
    Build(build::Options),
    /// Build the agent and pack it as a Debian package, target/package/*.deb
    Package(package::Options),
    /// Build the agent and run it on this host, as root
    Run(run::Options),
    /// Run a small shop under enforcement and show who reaches whom, as root
    Demo(demo::Options),
    /// Run every test, those in the kernel as root, and end with `N passed, N failed`
    Test(test::Options),
    /// Check format, clippy (host and eBPF), documentation and the repository's own rules
    Lint(lint::Options),
    /// Look for what does not hold, of random worlds (as root), packets and policies
    Fuzz(fuzz::Options),
    /// Kill, flood and fill for as long as you like, and see every promise kept, as root
    Soak(soak::Options),
    /// Measure against the project's targets, as root
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(options) => setup::run(&options),
        Command::Build(options) => build::run(&options),
        Command::Package(options) => package::run(&options),
        Command::Run(options) => run::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Lint(options) => lint::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Bench(options) => bench::run(&options),
    };
    outcome.unwrap_or_else(|problem| {
        eprintln!("error: {problem:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_a_command_is_passed_on_untouched() {
        let cli =
            Cli::try_parse_from(["xtask", "demo", "--once", "--json"]).expect("the demo's own flags are let through");
        let Command::Demo(options) = cli.command else { panic!("{cli:?}") };
        assert_eq!(options.arguments, ["--once", "--json"]);
        let cli =
            Cli::try_parse_from(["xtask", "run", "--", "--policies", "policies"]).expect("a separator is allowed");
        let Command::Run(options) = cli.command else { panic!("{cli:?}") };
        assert_eq!(options.arguments, ["--policies", "policies"]);
    }
}
