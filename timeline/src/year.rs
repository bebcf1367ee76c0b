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

/// Counts the turns of the year, line by line.
#[derive(Debug, Clone, Copy, Default)]
pub struct YearCounter {
    turns: i32,
    first: Option<YearlessTime>,
    latest: Option<YearlessTime>,
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
        let (now, before) = (time.month as i32, latest.month as i32);
        if now - before <= -6 {
            self.turns = self.turns.saturating_add(1);
            self.latest = Some(time);
            self.turns
        } else if now == 12 && before == 1 {
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
