//! Lives through bad days for as long as it is told to, and prints what was seen.

use std::process::ExitCode;
use std::time::Duration;

use bulkhead_tests::soak::{Effort, THEMES};
use clap::Parser;
use clap::builder::PossibleValuesParser;

/// Has the worst of days, theme by theme. It fails at the first promise that is broken, with everything there is to know of it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak")]
struct Options {
    /// Minutes in all, shared by the themes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    minutes: u32,
    /// This theme alone; may be given more than once
    #[arg(long, value_parser = PossibleValuesParser::new(THEMES.iter().map(|(name, _)| *name)))]
    theme: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let themes: Vec<_> = THEMES
        .iter()
        .filter(|(name, _)| options.theme.is_empty() || options.theme.iter().any(|theme| theme == name))
        .collect();
    let share = Duration::from_secs(60) * options.minutes / u32::try_from(themes.len()).expect("a handful");
    for (name, theme) in themes {
        println!("{name}, {} s", share.as_secs());
        for figure in theme(Effort { time: share }) {
            println!("  {:<64} {:>12} {}", figure.name, figure.value, figure.unit);
        }
    }
    ExitCode::SUCCESS
}
