//! A day of the calendar, as retention is counted.

use chrono::NaiveDate;
use serde::Serialize;

use crate::clock::Moment;
use crate::error::{Error, Result};

/// A day of the calendar in UTC, written `2031-12-31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Day(NaiveDate);

impl Day {
    /// Reads `2031-12-31`, and nothing shorter or longer.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub fn parse(text: &str) -> Result<Self> {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(Self);
        day.filter(|day| day.to_string() == text)
            .ok_or_else(|| Error::malformed("day", format!("{text:?}; write it as 2031-12-31")))
    }

    /// The day that a time in RFC 3339 and UTC falls on; `None` when it is no such time.
    pub fn of_time(time: &str) -> Option<Self> {
        Self::parse(time.get(..10)?).ok()
    }

    /// The day of a moment.
    pub fn of_moment(moment: &Moment) -> Result<Self> {
        Self::of_time(&moment.rfc3339()).ok_or_else(|| Error::malformed("day", moment.rfc3339()))
    }

    /// How many days there are from `other` to this one; negative when it is before it.
    pub fn days_since(self, other: Self) -> i64 {
        self.0.signed_duration_since(other.0).num_days()
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_day_that_exists_in_one_spelling_is_a_day() {
        assert_eq!(Day::parse("2032-02-29").unwrap().to_string(), "2032-02-29");
        for wrong in
            ["", "2031-02-29", "2031-2-3", "2031-12-31 ", "31.12.2031", "+2031-12-31", "2031-12-31T00"]
        {
            assert!(Day::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(Day::of_time("2026-11-21T23:59:59.9Z"), Day::parse("2026-11-21").ok());
        assert_eq!(Day::of_time("2026-11-2é"), None);
    }
}
