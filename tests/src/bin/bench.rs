//! Measures, and says what is missed: a table, or with `--json` a list. The exit code is 1 where a target is missed.

use std::process::ExitCode;

use anyhow::Result;
use bulkhead_tests::bench::{Figure, programs};

type Measure = fn() -> Result<Vec<Figure>>;

/// What is measured, in this order.
const PARTS: [(&str, Measure); 1] = [("programs", programs::measure)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_json = arguments.iter().any(|argument| argument == "--json");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let is_unknown = |name: &&&String| PARTS.iter().all(|(part, _)| *part != name.as_str());
    if let Some(unknown) = wanted.iter().find(is_unknown) {
        let parts: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        eprintln!("there is nothing called {unknown} to measure: name some of {}, or none for all", parts.join(", "));
        return ExitCode::from(2);
    }
    let mut figures = Vec::new();
    for (part, measure) in
        PARTS.iter().filter(|(part, _)| wanted.is_empty() || wanted.iter().any(|name| name.as_str() == *part))
    {
        match measure() {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                eprintln!("{part} could not be measured: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    print(&figures, is_json);
    if figures.iter().all(|figure| figure.met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(figures: &[Figure], is_json: bool) {
    if is_json {
        println!("{}", serde_json::to_string_pretty(figures).expect("figures are plain data"));
        return;
    }
    for Figure { name, value, unit, target, met } in figures {
        let target = target.map_or(String::new(), |target| format!("target {target}"));
        println!("{name:<48} {value:>10} {unit:<12} {target:<12} {}", if *met { "" } else { "MISSED" });
    }
}
