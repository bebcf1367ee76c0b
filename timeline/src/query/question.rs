//! A question as a person puts it together from flags.

use crate::Error;
use crate::event::Timestamp;

/// Which events to show, and how. Conditions are joined by AND.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// A SQL condition over bare column names.
    pub where_: Option<String>,
    /// This time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Any of these hosts.
    pub host: Vec<String>,
    /// Any of these sources; `linux:*` stands for all that begin with `linux:`.
    pub source: Vec<String>,
    /// Text in message, command, path or attrs, whatever its case. In attrs it is the JSON text that is searched.
    pub grep: Option<String>,
    /// What becomes of rows without a time.
    pub undated: Undated,
    /// Counts of the values of these columns, instead of events. With a histogram: a count each bucket and value.
    pub facet: Vec<String>,
    /// Counts of events in spans of time, instead of events.
    pub histogram: Option<Bucket>,
    /// The columns to show; empty for ts, host, source, user_name, message and event_id.
    pub columns: Vec<String>,
    /// Rows with the same content are shown once, the first of them, with a column `copies`.
    pub dedup: bool,
    /// At most so many rows; of each facet, its most frequent values.
    pub limit: Option<u64>,
}

/// What becomes of rows without a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Undated {
    /// Shown apart: not among the events, but counted in facets. A condition on time excludes them.
    #[default]
    Apart,
    /// Nothing but them.
    Only,
    /// At the end of the dated ones.
    Last,
}

/// The width of a histogram's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    micros: i64,
}

impl Bucket {
    /// The width that `15m`, `1h` or `7d` says.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for anything else.
    pub fn parse(text: &str) -> Result<Bucket, Error> {
        let minutes = match text.trim().as_bytes() {
            [number @ .., b'm'] => Some((number, 1)),
            [number @ .., b'h'] => Some((number, 60)),
            [number @ .., b'd'] => Some((number, 1440)),
            _ => None,
        };
        minutes
            .and_then(|(number, unit)| {
                let number: i64 = std::str::from_utf8(number).ok()?.parse().ok()?;
                let micros = number.checked_mul(unit)?.checked_mul(60_000_000)?;
                (micros > 0).then_some(Bucket { micros })
            })
            .ok_or_else(|| Error::Usage {
                what: format!("{text:?} is no width for a histogram; give one like 15m, 1h or 7d"),
            })
    }

    /// In microseconds.
    pub fn micros(self) -> i64 {
        self.micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_number_and_a_unit() {
        assert_eq!(Bucket::parse("15m").unwrap().micros(), 900_000_000);
        assert_eq!(Bucket::parse("1h").unwrap().micros(), 3_600_000_000);
        assert_eq!(Bucket::parse("7d").unwrap().micros(), 604_800_000_000);
        for bad in ["", "h", "0h", "-1h", "1w", "1", "99999999999999999d", "1.5h"] {
            assert!(Bucket::parse(bad).is_err(), "{bad}");
        }
    }
}
