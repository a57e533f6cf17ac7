//! `bulkhead audit`.

use clap::Args;

use crate::audit::{Wanted, audit as report};
use crate::client::Client;
use crate::config::AdminOptions;
use crate::exit::Failure;
use crate::print::{self, Look};
use crate::snapshot::Snapshot;
use crate::view::talk::TalksView;

/// Options of `bulkhead audit`.
#[derive(Args, Clone, Debug)]
pub struct AuditOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// What was denied, rather than what would have been
    #[arg(long)]
    denied: bool,
    /// List rules that decided nothing for so long, as 30d, 12h, 10m or 5s, rather than those that did
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    unused: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints what audit mode let pass, and which rules were used.
pub(super) async fn audit(options: AuditOptions) -> Result<(), Failure> {
    let client = Client::new(&options.admin.admin);
    let talks: TalksView = client.get("/v1/talks").await?.parse()?;
    let snapshot: Snapshot = client.get("/v1/snapshot").await?.parse()?;
    let view = report(&talks, &snapshot, Wanted { denied: options.denied, unused: options.unused });
    let look = Look::of_stdout();
    super::put(&if options.json {
        super::json(&view)
    } else {
        print::audit(&view, options.denied, options.unused.is_some(), look)
    })
}

/// A length of time in seconds, from a number and its unit.
fn seconds(text: &str) -> Result<f64, String> {
    let form = || "write a number with its unit: 30d, 12h, 10m or 5s".to_owned();
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(form)?);
    let number: u32 = number.parse().map_err(|_| form())?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(form()),
    };
    Ok(f64::from(number) * f64::from(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit() {
        assert_eq!(seconds("30d"), Ok(2_592_000.0));
        assert_eq!(seconds("10m"), Ok(600.0));
        for wrong in ["", "30", "d", "-1d", "1w", "1.5h"] {
            assert!(seconds(wrong).is_err_and(|error| error.contains("30d")), "{wrong}");
        }
    }
}
