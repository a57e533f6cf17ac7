//! Measures, and says what is missed: a table, or with `--json` a list. The exit code is 1 where a target is missed.

use std::process::ExitCode;

use anyhow::Result;
use bulkhead_tests::bench::{Effort, Figure, agent, cluster, denied, programs, scale, sockets};
use clap::Parser;
use clap::builder::PossibleValuesParser;

type Measure = fn(Effort) -> Result<Vec<Figure>>;

/// What is measured, in this order.
const PARTS: [(&str, Measure); 7] = [
    ("programs", |_| programs::measure()),
    ("sockets", sockets::measure),
    ("flow-log", sockets::measure_log),
    ("denied", denied::measure),
    ("agent", agent::measure),
    ("scale", scale::measure),
    ("cluster", |_| cluster::measure()),
];

/// Measures Bulkhead against its targets. Exit code 1 where one is missed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Options {
    /// Print a list of {name, value, unit, target, met}
    #[arg(long)]
    json: bool,
    /// Measure this alone; may be given more than once
    #[arg(long, value_parser = PossibleValuesParser::new(PARTS.map(|(name, _)| name)))]
    part: Vec<String>,
    /// Rounds that a figure of the lab is the median of
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let effort = Effort { rounds: options.rounds.into() };
    let is_wanted = |name: &str| options.part.is_empty() || options.part.iter().any(|part| part == name);
    let mut figures = Vec::new();
    for (part, measure) in PARTS.iter().filter(|(name, _)| is_wanted(name)) {
        let measured = match measure(effort) {
            Ok(measured) => measured,
            Err(error) => {
                eprintln!("{part} could not be measured: {error:#}");
                return ExitCode::FAILURE;
            }
        };
        if !options.json {
            print(part, &measured);
        }
        figures.extend(measured);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&figures).expect("figures are plain data"));
    }
    let missed = figures.iter().filter(|figure| !figure.met).count();
    if missed == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("{missed} of {} targets are missed", figures.iter().filter(|figure| figure.target.is_some()).count());
    ExitCode::FAILURE
}

fn print(part: &str, figures: &[Figure]) {
    println!("\n{part}\n{:<64} {:>12} {:<13} {:>8}", "what", "value", "unit", "target");
    for Figure { name, value, unit, target, met } in figures {
        let target = target.map_or(String::new(), |target| target.to_string());
        println!("{name:<64} {value:>12} {unit:<13} {target:>8} {}", if *met { "" } else { "MISSED" });
    }
}
