//! `retention.set`: until when evidence must be kept, and by whose word.
//!
//! ```text
//! exhibit         the exhibit; left out when it is for the whole case
//! how.until       the last day it must be kept, UTC: 2031-12-31
//! how.after       the event that must have come first, in words; with `until`, whichever is later
//! how.review      the day when somebody must look at it again
//! why.authority   the law, order or policy that says so
//! why.purpose     the reason, in words
//! ```
//! An exhibit is held by the newest rule that names it and by the newest for the whole case: it may go only when
//! both let it. A rule is replaced by setting it anew, never edited.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Day, about, must_say, reasons, said, told, writer_of};
use crate::entry::{Entry, EntryType, NewEntry};
use crate::error::{Error, Result};

const UNTIL: &str = "until";
const AFTER: &str = "after";
const REVIEW: &str = "review";

/// A retention that ends within so many days is called due.
const SOON: i64 = 30;

/// How long something is to be kept.
#[derive(Debug, Clone, Default)]
pub struct NewRetention {
    /// The exhibit; the whole case without one.
    pub exhibit: Option<String>,
    /// The last day it must be kept.
    pub until: Option<Day>,
    /// The event that must have come before it may go, or empty.
    pub after: String,
    /// The day when somebody must look at it again.
    pub review: Option<Day>,
    /// The law, order or policy that says so.
    pub authority: String,
    /// The reason, or empty.
    pub reason: String,
}

impl NewRetention {
    /// The entry to append.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when neither a day nor an event is given, no authority, or a review after the end.
    pub fn entry(&self) -> Result<NewEntry> {
        must_say("authority of a retention", &self.authority)?;
        if self.until.is_none() && self.after.trim().is_empty() {
            return Err(Error::malformed("retention", "neither a last day nor an event ends it"));
        }
        if let (Some(review), Some(until)) = (self.review, self.until)
            && review > until
        {
            return Err(Error::malformed(
                "retention",
                format!("its review, {review}, is after its end, {until}"),
            ));
        }
        let mut entry = about(
            NewEntry::new(EntryType::RETENTION_SET).why(&self.authority, &self.reason),
            self.exhibit.as_deref(),
        );
        for (key, day) in [(UNTIL, self.until), (REVIEW, self.review)] {
            entry = said(entry, key, &day.map(|day| day.to_string()).unwrap_or_default());
        }
        Ok(said(entry, AFTER, &self.after))
    }
}

/// A `retention.set` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// The entry's number.
    pub seq: u64,
    /// When it was set, RFC 3339.
    pub time: String,
    /// Who set it.
    pub by: String,
    /// The exhibit; the whole case without one.
    pub exhibit: Option<String>,
    /// The last day.
    pub until: Option<Day>,
    /// The event that must come first, or empty.
    pub after: String,
    /// When it must be looked at again.
    pub review: Option<Day>,
    /// By what authority.
    pub authority: String,
    /// The reason, or empty.
    pub reason: String,
}

impl Retention {
    fn of(entry: &Entry) -> Self {
        let (authority, reason) = reasons(entry);
        let day = |key| entry.how_text(key).and_then(|day| Day::parse(day).ok());
        let mut after = told(entry, AFTER);
        // A last day that cannot be read must not set the exhibit free.
        if let Some(unread) = entry.how_text(UNTIL).filter(|_| day(UNTIL).is_none()) {
            after = format!("{after} {unread:?}").trim().to_owned();
        }
        Self {
            seq: entry.seq,
            time: entry.time.wall.clone(),
            by: writer_of(entry),
            exhibit: entry.about.exhibit.clone(),
            until: day(UNTIL),
            after,
            review: day(REVIEW),
            authority,
            reason,
        }
    }

    /// In words, such as `until 2031-12-31`.
    pub fn words(&self) -> String {
        match (self.until, self.after.as_str()) {
            (Some(until), "") => format!("until {until}"),
            (Some(until), after) => format!("until {until} and until after: {after}"),
            (None, "") => "without an end".to_owned(),
            (None, after) => format!("until after: {after}"),
        }
    }
}

/// All `retention.set` entries.
pub fn retentions(entries: &[Entry]) -> Vec<Retention> {
    entries.iter().filter(|entry| entry.kind == EntryType::RETENTION_SET).map(Retention::of).collect()
}

/// The rules that hold an exhibit: at most one of its own and one for the whole case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Keeping {
    /// The rules, the exhibit's own first.
    pub rules: Vec<Retention>,
}

/// What the rules say on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetentionState {
    /// Nothing says how long.
    NotSet,
    /// Its last day is more than 30 days ahead.
    Kept,
    /// Its last day is today or within 30 days.
    Due,
    /// An event must come first, which a person must judge.
    AwaitsEvent,
    /// The last day has passed.
    Overdue,
}

/// The rules that hold at one point of a log, found in one pass over its entries.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The newest rule of each exhibit; of the whole case under no name.
    newest: BTreeMap<Option<String>, Retention>,
    /// Copies by exhibit and id.
    copies: BTreeSet<(String, String)>,
    /// The id of the copy that is an exhibit's master.
    masters: BTreeMap<String, String>,
}

impl Rules {
    /// The rules as they stand after these entries.
    pub fn of(entries: &[Entry]) -> Self {
        let mut rules = Self::default();
        entries.iter().for_each(|entry| rules.add(entry));
        rules
    }

    /// Goes on by one entry.
    pub fn add(&mut self, entry: &Entry) {
        let exhibit = entry.about.exhibit.clone();
        if entry.kind == EntryType::RETENTION_SET {
            self.newest.insert(exhibit, Retention::of(entry));
        } else if let (Some(exhibit), true) = (exhibit, entry.kind == EntryType::COPY_MADE) {
            let id = told(entry, "copy");
            if entry.about.how.get("master") == Some(&true.into()) {
                self.masters.insert(exhibit.clone(), id.clone());
            }
            self.copies.insert((exhibit, id));
        } else if entry.kind == EntryType::ITEM_DISPOSED
            && let (Some(exhibit), Some(item)) = (&entry.about.exhibit, entry.how_text("item"))
            && self.masters.get(exhibit).is_some_and(|master| master == item)
        {
            self.masters.remove(exhibit);
        }
    }

    /// The rules for one exhibit.
    pub fn keeping(&self, exhibit: &str) -> Keeping {
        let newest = [Some(exhibit.to_owned()), None].map(|of| self.newest.get(&of).cloned());
        Keeping { rules: newest.into_iter().flatten().collect() }
    }

    /// Whether this is the id of a copy that is not the master: no retention holds it, for the exhibit does not end
    /// by it.
    pub fn is_spare_copy(&self, exhibit: &str, item: &str) -> bool {
        self.copies.contains(&(exhibit.to_owned(), item.to_owned()))
            && self.masters.get(exhibit).is_none_or(|master| master != item)
    }

    /// Why a disposal comes too early by these rules; `None` when it does not, or no rule was ever set.
    pub(crate) fn early(&self, disposal: &Entry) -> Option<String> {
        let exhibit = disposal.about.exhibit.as_deref()?;
        let keeping = self.keeping(exhibit);
        if keeping.rules.is_empty()
            || self.is_spare_copy(exhibit, disposal.how_text("item").unwrap_or_default())
        {
            return None;
        }
        keeping.holds(Day::of_time(&disposal.time.wall)?)
    }
}

/// The rules for one exhibit, as the log stands. For several exhibits take [`Rules`].
pub fn keeping(entries: &[Entry], exhibit: &str) -> Keeping {
    Rules::of(entries).keeping(exhibit)
}

impl Keeping {
    /// The last day of the rule that ends last; `None` where no rule names a day.
    pub fn until(&self) -> Option<Day> {
        self.rules.iter().filter_map(|rule| rule.until).max()
    }

    /// What the rules say on this day.
    pub fn state(&self, today: Day) -> RetentionState {
        let left = self.until().map(|until| until.days_since(today));
        let event = self.rules.iter().any(|rule| !rule.after.is_empty() || rule.until.is_none());
        match left {
            _ if self.rules.is_empty() => RetentionState::NotSet,
            Some(left) if left > SOON => RetentionState::Kept,
            Some(left) if left >= 0 => RetentionState::Due,
            _ if event => RetentionState::AwaitsEvent,
            _ => RetentionState::Overdue,
        }
    }

    /// The day since when somebody should have looked at it again, where that has come.
    pub fn review_due(&self, today: Day) -> Option<Day> {
        self.rules.iter().filter_map(|rule| rule.review).filter(|day| *day <= today).min()
    }

    /// Why it may not go on this day without an authority; `None` when it may.
    pub fn holds(&self, today: Day) -> Option<String> {
        let rules = |by: &dyn Fn(&Retention) -> bool| {
            let rules = self.rules.iter().filter(|rule| by(rule));
            let words = rules.map(|rule| format!("{} (entry {})", rule.words(), rule.seq));
            format!("it must be kept {}", words.collect::<Vec<_>>().join(" and "))
        };
        match self.state(today) {
            RetentionState::NotSet => {
                Some("no retention was ever set for it, so nothing says that it may go".to_owned())
            }
            RetentionState::Kept | RetentionState::Due => {
                Some(rules(&|rule| rule.until.is_some_and(|until| until >= today)))
            }
            RetentionState::AwaitsEvent => {
                Some(rules(&|rule| !rule.after.is_empty() || rule.until.is_none()))
            }
            RetentionState::Overdue => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::digest::Digest;
    use crate::entry::{Identity, line_of};
    use crate::keys::SigningKey;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    fn log(rules: &[NewRetention]) -> Vec<Entry> {
        let key = SigningKey::from_seed(&[1; 32]);
        let line = |(seq, rule): (usize, &NewRetention)| {
            let entry = rule.entry().unwrap();
            let identity = Identity::default();
            let zero = Digest([0; 32]);
            let line = line_of(&entry, seq as u64, zero, &identity, &key, &FixedClock::at(0)).unwrap();
            Entry::parse(line.as_bytes()).unwrap()
        };
        rules.iter().enumerate().map(line).collect()
    }

    fn rule(exhibit: Option<&str>, until: Option<&str>, after: &str) -> NewRetention {
        NewRetention {
            exhibit: exhibit.map(str::to_owned),
            until: until.map(day),
            after: after.to_owned(),
            authority: "order 4".to_owned(),
            ..NewRetention::default()
        }
    }

    #[test]
    fn an_exhibit_is_kept_as_long_as_its_own_rule_or_the_cases_asks() {
        let entries = log(&[
            rule(Some("E001"), Some("2026-01-31"), ""),
            rule(None, Some("2030-12-31"), ""),
            rule(Some("E002"), Some("2040-01-01"), ""),
        ]);
        let first = keeping(&entries, "E001");
        assert_eq!(first.until(), Some(day("2030-12-31")));
        assert_eq!(first.rules.iter().map(|rule| rule.seq).collect::<Vec<_>>(), [0, 1]);
        let held = first.holds(day("2027-01-01")).unwrap();
        assert_eq!(held, "it must be kept until 2030-12-31 (entry 1)");
        assert!(first.holds(day("2030-12-31")).is_some(), "the last day belongs to it");
        assert_eq!(first.holds(day("2031-01-01")), None);
        assert_eq!(keeping(&entries, "E002").until(), Some(day("2040-01-01")));
    }

    #[test]
    fn a_rule_set_anew_replaces_the_one_before() {
        let entries =
            log(&[rule(Some("E001"), Some("2040-01-01"), ""), rule(Some("E001"), Some("2027-01-01"), "")]);
        assert_eq!(keeping(&entries, "E001").until(), Some(day("2027-01-01")));
        assert_eq!(keeping(&entries, "E009").state(day("2020-01-01")), RetentionState::NotSet);
    }

    #[test]
    fn states_go_from_kept_through_due_to_overdue_and_an_event_waits_for_a_person() {
        let entries = log(&[rule(None, Some("2026-12-31"), ""), rule(Some("E002"), None, "final judgment")]);
        let first = keeping(&entries, "E001");
        let states = ["2026-11-30", "2026-12-01", "2026-12-31", "2027-01-01"].map(|on| first.state(day(on)));
        let wanted =
            [RetentionState::Kept, RetentionState::Due, RetentionState::Due, RetentionState::Overdue];
        assert_eq!(states, wanted);
        let second = keeping(&entries, "E002");
        assert_eq!(second.state(day("2027-01-01")), RetentionState::AwaitsEvent);
        assert!(second.holds(day("2099-01-01")).unwrap().contains("final judgment (entry 1)"));
    }

    #[test]
    fn a_retention_without_end_or_authority_is_refused() {
        let no_end = rule(None, None, " ").entry().unwrap_err().to_string();
        assert!(no_end.contains("neither a last day nor an event"), "{no_end}");
        let mut nobody = rule(None, Some("2030-01-01"), "");
        nobody.authority.clear();
        assert!(nobody.entry().unwrap_err().to_string().contains("authority"));
        let mut late = rule(None, Some("2030-01-01"), "");
        late.review = Some(day("2031-01-01"));
        assert!(late.entry().unwrap_err().to_string().contains("review"));
    }

    #[test]
    fn a_last_day_that_cannot_be_read_frees_nothing() {
        let mut entries = log(&[rule(Some("E001"), Some("2020-01-01"), "")]);
        entries[0].about.how.insert(UNTIL.into(), "soon".into());
        assert!(keeping(&entries, "E001").holds(day("2099-01-01")).unwrap().contains("soon"));
    }
}
