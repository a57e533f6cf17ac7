//! Times for people: in UTC, as RFC 3339 has them.

use jiff::Timestamp;

/// `2026-11-30T12:04:05Z`, from seconds since the Unix epoch.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "seconds since 1970 fit easily")]
pub fn date(time: f64) -> String {
    Timestamp::from_second(time as i64).map_or_else(|_| "?".to_owned(), |time| time.to_string())
}
