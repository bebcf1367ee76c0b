//! Years for logs that do not write them (RFC 3164).
//!
//! A first pass over the file counts how often the year turned between its first and last line; the engine
//! then finds the year of the last line from neighbours or file times, and the second pass counts forward
//! again. Lines out of order are tolerated: only a fall of more than half a year is a new year.

use crate::event::YearBasis;

/// How a file without years gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum YearPlan {
    /// Nothing tells the year: such lines stay undated.
    #[default]
    Unknown,
    /// The first line is in `first_year`; later lines count on.
    Forward {
        /// The year of the file's first dated line.
        first_year: i32,
        /// How that is known.
        basis: YearBasis,
    },
    /// One record on its own, of which the year is known (`show --bytes`).
    Exact {
        /// The year.
        year: i32,
        /// How it is known.
        basis: YearBasis,
    },
}

/// Month, day and time of a line that has no year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct YearlessTime {
    /// 1–12.
    pub month: u32,
    /// 1–31.
    pub day: u32,
    /// Seconds since midnight.
    pub second_of_day: u32,
}

/// What the first pass found out about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct YearScan {
    /// How often the year turned from the first to the last line.
    pub turns: i32,
    /// The first line.
    pub first: Option<YearlessTime>,
    /// The last line that is not out of order.
    pub last: Option<YearlessTime>,
}

/// A log with this many lines in a row in one year is dense: what stands out of it is a wrong date.
const DENSE: u32 = 20;

/// Counts the turns of the year, line by line.
#[derive(Debug, Clone, Copy, Default)]
pub struct YearCounter {
    turns: i32,
    first: Option<YearlessTime>,
    latest: Option<YearlessTime>,
    /// Lines since the last turn.
    lines: u32,
    /// Lines of the year before, and its latest, in case the turn was none.
    before: Option<(u32, YearlessTime)>,
    /// A line that leapt half a year ahead or more, and is not confirmed yet.
    leap: Option<YearlessTime>,
}

impl YearCounter {
    /// How many years after the first line's this line is.
    ///
    /// ```
    /// use timeline::year::{YearCounter, YearlessTime};
    /// let at = |month, day| YearlessTime { month, day, second_of_day: 0 };
    /// let mut counter = YearCounter::default();
    /// let years: Vec<i32> = [at(12, 31), at(11, 18), at(1, 2), at(12, 31), at(1, 3)]
    ///     .into_iter().map(|t| counter.next(t)).collect();
    /// assert_eq!(years, [0, 0, 1, 0, 1]); // the late December line still belongs to the old year
    /// ```
    pub fn next(&mut self, time: YearlessTime) -> i32 {
        let Some(latest) = self.latest else {
            self.first = Some(time);
            self.latest = Some(time);
            return self.turns;
        };
        let (now, month) = (time.month as i32, latest.month as i32);
        // One wrong date in a dense log turned the year, and the log goes on where it was: take the turn back.
        if let Some((lines, old)) = self.before
            && self.lines <= 2
            && lines >= DENSE
            && now - month >= 6
            && now.abs_diff(old.month as i32) <= 1
        {
            self.turns = self.turns.saturating_sub(1);
            (self.latest, self.lines, self.before) = (Some(old.max(time)), lines, None);
            return self.turns;
        }
        self.lines = self.lines.saturating_add(1);
        // A leap ahead in a dense log must be followed by another line there, or the line is out of order.
        if now - month >= 6 && self.lines > DENSE && !(now == 12 && month == 1) {
            let is_confirmed = self.leap.is_some_and(|leap| leap.month.abs_diff(time.month) <= 1);
            self.leap = Some(time);
            if !is_confirmed {
                return self.turns;
            }
        }
        self.leap = None;
        if now - month <= -6 {
            self.turns = self.turns.saturating_add(1);
            self.before = Some((self.lines, latest));
            (self.latest, self.lines) = (Some(time), 1);
            self.turns
        } else if now == 12 && month == 1 {
            self.turns.saturating_sub(1)
        } else {
            self.latest = Some(latest.max(time));
            self.turns
        }
    }

    /// What has been seen so far.
    pub fn scan(&self) -> YearScan {
        YearScan { turns: self.turns, first: self.first, last: self.latest }
    }
}

/// Gives each line of the second pass its year.
#[derive(Debug, Clone, Copy)]
pub struct YearTracker {
    plan: YearPlan,
    counter: YearCounter,
}

impl YearTracker {
    /// A tracker at the file's first line.
    pub fn new(plan: YearPlan) -> YearTracker {
        YearTracker { plan, counter: YearCounter::default() }
    }

    /// The year of the next line, and how it is known.
    pub fn year_of(&mut self, time: YearlessTime) -> Option<(i32, YearBasis)> {
        match self.plan {
            YearPlan::Unknown => None,
            YearPlan::Exact { year, basis } => Some((year, basis)),
            YearPlan::Forward { first_year, basis } => {
                Some((first_year.checked_add(self.counter.next(time))?, basis))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_date_in_a_dense_log_does_not_move_the_lines_behind_it() {
        let at = |month, day| YearlessTime { month, day, second_of_day: 0 };
        let mut counter = YearCounter::default();
        for day in 1..=25 {
            assert_eq!(counter.next(at(11, day)), 0);
        }
        counter.next(at(2, 3));
        assert_eq!(counter.next(at(11, 26)), 0);
        assert_eq!(counter.next(at(12, 30)), 0);
        assert_eq!(counter.next(at(1, 1)), 1);
        assert_eq!(counter.scan(), YearScan { turns: 1, first: Some(at(11, 1)), last: Some(at(1, 1)) });
        let mut counter = YearCounter::default();
        let dates = (1..=25).map(|day| at(2, day)).chain([at(12, 31), at(2, 26), at(3, 1)]);
        assert!(dates.map(|time| counter.next(time)).all(|turns| turns == 0));
        // A sparse log that is written once in a while does turn.
        let mut sparse = YearCounter::default();
        let years: Vec<i32> = [at(11, 1), at(2, 1), at(11, 1), at(2, 1)].map(|t| sparse.next(t)).to_vec();
        assert_eq!(years, [0, 1, 1, 2]);
    }
}
