//! A moment as a person types it after `--since`.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use crate::Error;
use crate::event::Timestamp;

/// The moment that RFC 3339 (`2026-11-21T01:30:00.5+01:00`), a date and time in UTC (`2026-11-21 01:30`, with
/// seconds and fraction if wanted, a space or a `T`) or a date (its first moment in UTC) says.
///
/// # Errors
///
/// [`Error::Usage`] for anything else.
///
/// ```
/// assert_eq!(timeline::query::moment("2026-11-21 01:30")?.to_rfc3339(), "2026-11-21T01:30:00Z");
/// # Ok::<(), timeline::Error>(())
/// ```
pub fn moment(text: &str) -> Result<Timestamp, Error> {
    let trimmed = text.trim();
    let (seconds, nanos) = parse(trimmed).ok_or_else(|| Error::Usage {
        what: format!(
            "{text:?} is no time; give one like 2026-11-21, \"2026-11-21 01:30\" (UTC) or 2026-11-21T01:30:00+01:00"
        ),
    })?;
    Timestamp::from_unix(seconds, nanos)
        .ok_or_else(|| Error::Usage { what: format!("{text:?} is too far away") })
}

fn parse(text: &str) -> Option<(i64, u32)> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some((time.timestamp(), time.timestamp_subsec_nanos()));
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some((date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp(), 0));
    }
    let text = text.strip_suffix('Z').unwrap_or(text).replacen('T', " ", 1);
    ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f"].iter().find_map(|format| {
        let time = NaiveDateTime::parse_from_str(&text, format).ok()?.and_utc();
        Some((time.timestamp(), time.timestamp_subsec_nanos()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_may_write_a_moment_in_several_ways() {
        for (text, expected) in [
            ("2026-11-21", "2026-11-21T00:00:00Z"),
            ("2026-11-21 01:30", "2026-11-21T01:30:00Z"),
            ("2026-11-21T01:30", "2026-11-21T01:30:00Z"),
            ("2026-11-21T01:30Z", "2026-11-21T01:30:00Z"),
            ("2026-11-21 01:30:05.25", "2026-11-21T01:30:05.250Z"),
            ("2026-11-21T01:30:00+01:00", "2026-11-21T00:30:00Z"),
            ("2026-11-21T01:30:00.123456789Z", "2026-11-21T01:30:00.123456789Z"),
            ("1960-01-01", "1960-01-01T00:00:00Z"),
        ] {
            assert_eq!(moment(text).unwrap().to_rfc3339(), expected);
        }
        for bad in ["", "yesterday", "2026-13-01", "01:30", "2026-11-21 25:00"] {
            assert!(moment(bad).unwrap_err().to_string().contains("is no time"), "{bad}");
        }
    }
}
