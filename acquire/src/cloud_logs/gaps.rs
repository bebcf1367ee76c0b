//! Times of which no object tells, per sender. They claim no more than is known: nothing may have happened then.

use std::collections::HashMap;

use custody::strict_json::escape_text;
use serde_json::{Map, Value, json};

use super::kinds::Known;
use super::window::{Window, text};

/// Senders that are followed.
const MOST_SERIES: usize = 50_000;

/// Gaps that are listed; all are counted.
const MOST_GAPS: usize = 100_000;

/// Senders are quiet for a period now and then; what is listed is longer than so many of them.
const PERIODS: i64 = 2;

/// One sender.
#[derive(Debug)]
struct Series {
    layout: &'static str,
    period: i64,
    first: i64,
    last: i64,
    objects: u64,
    gaps: u64,
    /// Longest time without an object.
    longest: i64,
}

/// A time without an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) series: String,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) what: &'static str,
}

/// What is known of all senders.
#[derive(Debug)]
pub(super) struct Gaps {
    window: Window,
    series: HashMap<String, Series>,
    gaps: Vec<Gap>,
    count: u64,
    unfollowed: u64,
}

impl Gaps {
    pub(super) fn new(window: Window) -> Self {
        Self { window, series: HashMap::new(), gaps: Vec::new(), count: 0, unfollowed: 0 }
    }

    /// Told of each object, those of one sender in the order of time.
    pub(super) fn object(&mut self, known: &Known<'_>) {
        let (Some(period), Some((time, _))) = (known.layout.period, known.time) else { return };
        let name = format!("{}{}", known.series.0, known.series.1);
        let mut gap = None;
        let is_full = self.series.len() >= MOST_SERIES;
        match self.series.get_mut(&name) {
            Some(series) => {
                let quiet = time.saturating_sub(series.last);
                series.longest = series.longest.max(quiet);
                if quiet > PERIODS * period {
                    series.gaps += 1;
                    gap = Some((
                        series.last,
                        time,
                        "no object between these times: no event, or not delivered",
                    ));
                }
                series.last = series.last.max(time);
                series.objects += 1;
            }
            None if is_full => self.unfollowed += 1,
            None => {
                let since = self.window.since.filter(|since| time.saturating_sub(*since) > PERIODS * period);
                let what = "no object from the start of the time asked for to the first one: no event, or not delivered";
                gap = since.map(|since| (since, time, what));
                let (gaps, longest) = (u64::from(since.is_some()), 0);
                let layout = known.layout.name;
                let series = Series { layout, period, first: time, last: time, objects: 1, gaps, longest };
                self.series.insert(name.clone(), series);
            }
        }
        if let Some((from, to, what)) = gap {
            self.add(name, from, to, what);
        }
    }

    fn add(&mut self, series: String, from: i64, to: i64, what: &'static str) {
        self.count += 1;
        if self.gaps.len() < MOST_GAPS {
            self.gaps.push(Gap { series, from, to, what });
        }
    }

    /// Ends it: gaps in their order, and a row for each sender. `now` is the present second.
    pub(super) fn finish(mut self, now: i64) -> Found {
        if let Some(end) = self.window.until.map(|until| until.min(now)) {
            let quiet: Vec<_> = self
                .series
                .iter_mut()
                .filter(|(_, series)| end.saturating_sub(series.last) > PERIODS * series.period)
                .map(|(name, series)| {
                    series.gaps += 1;
                    (name.clone(), series.last)
                })
                .collect();
            for (name, last) in quiet {
                let what = "no object from the last one to the end of the time asked for: no event, or not delivered";
                self.add(name, last, end, what);
            }
        }
        self.gaps.sort_by(|one, other| (&one.series, one.from).cmp(&(&other.series, other.from)));
        let mut rows: Vec<(String, Series)> = self.series.into_iter().collect();
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        let series = rows
            .into_iter()
            .map(|(name, series)| {
                json!({
                    "series": escape_text(name.as_bytes()), "layout": series.layout, "objects": series.objects,
                    "first": text(series.first), "last": text(series.last), "period_seconds": series.period,
                    "gaps": series.gaps, "longest_gap_seconds": series.longest,
                })
            })
            .collect();
        Found { gaps: self.gaps, count: self.count, series, unfollowed: self.unfollowed }
    }
}

/// What was found at the end.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) gaps: Vec<Gap>,
    pub(super) count: u64,
    pub(super) series: Vec<Value>,
    /// Objects of senders beyond those that are followed.
    pub(super) unfollowed: u64,
}

impl Gap {
    /// Its row.
    pub(super) fn row(&self) -> Value {
        let mut row = Map::new();
        row.insert("from".to_owned(), text(self.from).into());
        row.insert("seconds".to_owned(), self.to.saturating_sub(self.from).into());
        row.insert("series".to_owned(), escape_text(self.series.as_bytes()).into());
        row.insert("to".to_owned(), text(self.to).into());
        row.insert("what".to_owned(), self.what.into());
        Value::Object(row)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kinds::know;
    use super::super::window::stamp;
    use super::*;

    fn key(account: &str, time: &str) -> String {
        format!(
            "AWSLogs/{account}/CloudTrail/eu-central-1/2026/11/21/{account}_CloudTrail_eu-central-1_20261121T{time}Z_x.json.gz"
        )
    }

    #[test]
    fn times_without_an_object_are_told_for_each_sender_and_at_both_ends() {
        let window = Window { since: stamp("20261121T0000Z"), until: stamp("20261121T1200Z") };
        let mut gaps = Gaps::new(window);
        for (account, time) in [
            ("111122223333", "0005"),
            ("111122223333", "0015"),
            ("111122223333", "0026"),
            ("444455556666", "1150"),
        ] {
            gaps.object(&know(&key(account, time)));
        }
        gaps.object(&know("AWSLogs/111122223333/GuardDuty/eu-central-1/2026/11/21/x.jsonl.gz"));
        gaps.object(&know("something else"));
        let found = gaps.finish(stamp("20261121T1100Z").unwrap());
        let told: Vec<_> = found
            .gaps
            .iter()
            .map(|gap| {
                (
                    gap.series.contains("1111"),
                    text(gap.from).get(11..16).unwrap().to_owned(),
                    text(gap.to).get(11..16).unwrap().to_owned(),
                )
            })
            .collect();
        let gap = |is_first, from: &str, to: &str| (is_first, from.to_owned(), to.to_owned());
        assert_eq!(
            told,
            [gap(true, "00:15", "00:26"), gap(true, "00:26", "11:00"), gap(false, "00:00", "11:50")]
        );
        assert_eq!((found.count, found.series.len(), found.unfollowed), (3, 2, 0));
        assert!(found.gaps[0].row()["what"].as_str().unwrap().contains("no event, or not delivered"));
    }

    #[test]
    fn without_a_window_nothing_is_claimed_of_what_came_before_or_after() {
        let mut gaps = Gaps::new(Window::default());
        gaps.object(&know(&key("111122223333", "0005")));
        assert_eq!(gaps.finish(i64::MAX / 2_000_000_000).count, 0);
    }
}
