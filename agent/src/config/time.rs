//! Lengths of time, as people write them.

use std::time::Duration;

/// A length of time from a number and its unit: `30d`, `12h`, `10m` or `5s`.
///
/// # Errors
/// Anything else; the message says how it is written.
pub fn length_of_time(text: &str) -> Result<Duration, String> {
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
    Ok(Duration::from_secs(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit() {
        assert_eq!(length_of_time("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(length_of_time("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "30", "d", "-1d", "1w", "1.5h"] {
            assert!(length_of_time(wrong).is_err_and(|error| error.contains("30d")), "{wrong}");
        }
    }
}
