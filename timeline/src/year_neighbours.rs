//! Finds the year of logs that do not write it, from what else the exhibit holds.
//!
//! In this order: the person's `--year`; the months in which dated records of the same exhibit fall; the next
//! newer file of the same rotation; the file's own modification time. Never a silent guess: the basis is kept.

use std::collections::BTreeMap;

use chrono::Datelike;

use crate::event::{Event, Timestamp, YearBasis};
use crate::year::{YearPlan, YearScan, YearlessTime};
use crate::zone::{Zone, civil};

/// How many dated records fall into each month (year × 12 + month − 1).
#[derive(Debug, Clone, Default)]
pub struct Activity(BTreeMap<i32, u64>);

impl Activity {
    /// Counts an event, if its own record dates it. File times do not count: packages bring old ones.
    pub fn note(&mut self, event: &Event) {
        if event.year_basis == YearBasis::InRecord
            && !event.source.starts_with("fs:")
            && let Some(month) = event.time.and_then(month_of)
        {
            *self.0.entry(month).or_default() += 1;
        }
    }

    /// Adds what another worker saw.
    pub fn merge(&mut self, other: &Activity) {
        for (month, count) in &other.0 {
            *self.0.entry(*month).or_default() += count;
        }
    }

    /// The years in which there is activity in that month or a month beside it.
    fn years_around(&self, month: u32) -> Vec<i32> {
        let mut years: Vec<i32> = Vec::new();
        for key in self.0.keys() {
            for near in [*key - 1, *key, *key + 1] {
                if near.rem_euclid(12) + 1 == month as i32 {
                    years.push(near.div_euclid(12));
                }
            }
        }
        years.sort_unstable();
        years.dedup();
        years
    }
}

fn month_of(time: Timestamp) -> Option<i32> {
    let date = chrono::DateTime::from_timestamp(time.seconds(), 0)?;
    Some(date.year() * 12 + date.month0() as i32)
}

/// What is known of one file of a rotation.
#[derive(Debug, Clone, Copy)]
pub struct YearlessFile {
    /// What its first pass gave.
    pub scan: YearScan,
    /// Its modification time, in seconds since 1970.
    pub modified: Option<i64>,
}

/// The first line of the next newer file of the same rotation, with its year.
pub type NewerFirst = Option<(i32, YearlessTime)>;

/// The plan for one file.
pub fn plan(
    file: YearlessFile,
    newer: NewerFirst,
    activity: &Activity,
    flag: Option<i32>,
    zone: &Zone,
) -> YearPlan {
    let Some(last) = file.scan.last else { return YearPlan::Unknown };
    let first_year = |last_year: i32, basis| match last_year.checked_sub(file.scan.turns) {
        Some(first_year) => YearPlan::Forward { first_year, basis },
        None => YearPlan::Unknown,
    };
    if let Some(year) = flag {
        return first_year(year, YearBasis::Flag);
    }
    let by_file_time = file.modified.and_then(|modified| year_before(last, modified, zone));
    match (activity.years_around(last.month).as_slice(), by_file_time) {
        // A file is not written to after its own time.
        ([only], Some(year)) if *only > year => return first_year(year, YearBasis::FileTime),
        ([only], _) => return first_year(*only, YearBasis::Neighbour),
        // Several years are active: the file's own time may choose among them, and then it is the basis.
        (years, Some(year)) if years.contains(&year) => return first_year(year, YearBasis::FileTime),
        _ => {}
    }
    if let Some((year, first)) = newer {
        let year = if last <= first { year } else { year - 1 };
        return first_year(year, YearBasis::Neighbour);
    }
    by_file_time.map_or(YearPlan::Unknown, |year| first_year(year, YearBasis::FileTime))
}

/// The latest year in which `last` is not more than a day after the file was last changed.
fn year_before(last: YearlessTime, modified: i64, zone: &Zone) -> Option<i32> {
    let modified = zone.to_local(Timestamp::from_unix(modified.checked_add(86_400)?, 0)?)?;
    (0..=8).map(|back| modified.year() - back).find(|year| {
        let second = last.second_of_day;
        civil(*year, last.month, last.day, second / 3600, second / 60 % 60, second % 60)
            .is_some_and(|line| line <= modified)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Precision, Span, TzBasis};

    fn at(month: u32, day: u32) -> YearlessTime {
        YearlessTime { month, day, second_of_day: 0 }
    }

    fn file(last: YearlessTime, turns: i32, modified: &str) -> YearlessFile {
        let modified = chrono::DateTime::parse_from_rfc3339(modified).ok().map(|t| t.timestamp());
        YearlessFile { scan: YearScan { turns, first: Some(last), last: Some(last) }, modified }
    }

    fn active(dates: &[&str]) -> Activity {
        let mut activity = Activity::default();
        for date in dates {
            let seconds = chrono::DateTime::parse_from_rfc3339(date).unwrap().timestamp();
            let time = Timestamp::from_unix(seconds, 0).unwrap();
            activity.note(&Event::new("linux:utmp", "x", Span::default(), "").at(
                time,
                Precision::S,
                TzBasis::UtcByFormat,
            ));
        }
        activity
    }

    #[test]
    fn neighbours_come_before_file_times_and_the_flag_before_both() {
        let copied_later = file(at(11, 18), 0, "2031-01-01T00:00:00Z");
        let activity = active(&["2026-11-09T00:00:00Z"]);
        let by = |activity: &Activity, flag| plan(copied_later, None, activity, flag, &Zone::UTC);
        assert_eq!(by(&activity, None), YearPlan::Forward { first_year: 2026, basis: YearBasis::Neighbour });
        assert_eq!(by(&activity, Some(2020)), YearPlan::Forward { first_year: 2020, basis: YearBasis::Flag });
        let silent = Activity::default();
        assert_eq!(by(&silent, None), YearPlan::Forward { first_year: 2030, basis: YearBasis::FileTime });
        let nothing = YearlessFile { modified: None, ..copied_later };
        assert_eq!(plan(nothing, None, &silent, None, &Zone::UTC), YearPlan::Unknown);
    }

    #[test]
    fn an_older_rotated_file_ends_before_the_newer_one_begins() {
        let older = YearlessFile { modified: None, ..file(at(12, 30), 1, "x") };
        let plan = plan(older, Some((2026, at(1, 2))), &Activity::default(), None, &Zone::UTC);
        assert_eq!(plan, YearPlan::Forward { first_year: 2024, basis: YearBasis::Neighbour });
    }

    #[test]
    fn a_file_time_chooses_between_two_active_years() {
        let activity = active(&["2025-11-09T00:00:00Z", "2026-11-09T00:00:00Z"]);
        let file = file(at(11, 1), 0, "2025-11-30T00:00:00Z");
        let plan = plan(file, None, &activity, None, &Zone::UTC);
        assert_eq!(plan, YearPlan::Forward { first_year: 2025, basis: YearBasis::FileTime });
    }
}
