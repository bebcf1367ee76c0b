//! `tool.notice`: a fault of a program that touched this case, with every entry it touched.
//!
//! ```text
//! how.text        what is wrong, in words
//! how.reference   the fault's number in a tracker, or another reference
//! how.tool        the program's name
//! how.affected    which builds: `version <0.3.0`, `the build with SHA-256 …`
//! how.acts        which of their work is concerned; absent when all is
//! result.bundles  ids of the exhibits that a faulty build acquired
//! result.entries  for each log, `case` or an exhibit's id, the touched entries: `3-5, 9`
//! result.count    how many entries
//! result.unknown  how many places there are of which it cannot be told
//! refs            the touched entries of this very log, at most 1000
//! ```
//! A long list is cut with `…`; `count` says how many there are, and the same question gives the same answer again.

use serde::Serialize;
use serde_json::{Map, Value};

use super::impact::{Fault, Impact};
use super::{must_say, said, told, writer_of};
use crate::entry::{Entry, EntryType, NewEntry};
use crate::error::Result;

const MOST_REFS: usize = 1000;
/// An entry holds 65,535 bytes at most; so many for the lists leave room for the words.
const MOST_LISTED: usize = 20_000;
/// Ranges listed of one log.
const MOST_RANGES: usize = 500;

/// A notice to be written into one case.
#[derive(Debug, Clone)]
pub struct NewNotice<'a> {
    /// What is wrong.
    pub text: &'a str,
    /// The fault's number in a tracker, or another reference; may be empty.
    pub reference: &'a str,
    /// The fault that was looked for.
    pub fault: &'a Fault,
    /// What it touched.
    pub impact: &'a Impact,
}

impl NewNotice<'_> {
    /// The entry to append.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Malformed`] when it does not say what is wrong.
    pub fn entry(&self) -> Result<NewEntry> {
        must_say("text of a notice", self.text)?;
        let mut entry = NewEntry::new(EntryType::TOOL_NOTICE)
            .how("text", self.text)
            .how("tool", self.fault.tool.as_str())
            .how("affected", self.fault.which.to_string());
        entry = said(entry, "reference", self.reference);
        if !self.fault.acts.is_empty() {
            let acts: Vec<Value> = self.fault.acts.iter().map(|act| act.word().into()).collect();
            entry = entry.how("acts", acts);
        }
        let by_log = self.impact.by_log();
        let mut room = MOST_LISTED;
        let mut entries = Map::new();
        for (log, ranges) in &by_log {
            let words = ranges.words(MOST_RANGES);
            let words = if words.len() + log.len() <= room { words } else { "…".to_owned() };
            room = room.saturating_sub(words.len() + log.len() + 8);
            // What does not fit even so is in the count.
            if room > 0 {
                entries.insert((*log).to_owned(), words.into());
            }
        }
        let bundles = self.impact.bundles.iter().map(|bundle| Value::from(bundle.exhibit.as_str()));
        let count: u64 = by_log.values().map(super::Ranges::count).sum();
        entry = entry
            .result("bundles", bundles.take(MOST_REFS).collect::<Vec<_>>())
            .result("entries", entries)
            .result("count", count)
            .result("unknown", self.impact.unknown.len());
        let own = by_log.get(self.impact.own_log()).cloned().unwrap_or_default();
        Ok(own.iter().take(MOST_REFS).fold(entry, NewEntry::refers_to))
    }

    /// The earlier notice in the log that says the same already.
    ///
    /// # Errors
    ///
    /// As [`NewNotice::entry`].
    pub fn told_before(&self) -> Result<Option<u64>> {
        let entry = self.entry()?;
        let same = |notice: &&Notice| {
            let how = |key: &str| entry.about.how.get(key).and_then(Value::as_str).unwrap_or_default();
            notice.reference == how("reference")
                && notice.text == how("text")
                && notice.affected == how("affected")
                && Some(&Value::from(notice.count)) == entry.about.result.get("count")
                && Some(&notice.entries) == entry.about.result.get("entries").and_then(Value::as_object)
        };
        Ok(self.impact.notices.iter().rfind(same).map(|notice| notice.seq))
    }
}

/// A `tool.notice` entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Notice {
    /// The entry's number.
    pub seq: u64,
    /// When it was written, RFC 3339.
    pub time: String,
    /// Who wrote it.
    pub by: String,
    /// What is wrong.
    pub text: String,
    /// A reference.
    pub reference: String,
    /// The program.
    pub tool: String,
    /// Which builds, in words.
    pub affected: String,
    /// Which of their work; all of it when this is empty.
    pub acts: Vec<String>,
    /// Ids of the exhibits that a faulty build acquired.
    pub bundles: Vec<String>,
    /// For each log the touched entries.
    pub entries: Map<String, Value>,
    /// How many entries.
    pub count: u64,
    /// Of how many places it cannot be told.
    pub unknown: u64,
}

/// All `tool.notice` entries.
pub fn notices(entries: &[Entry]) -> Vec<Notice> {
    entries.iter().filter(|entry| entry.kind == EntryType::TOOL_NOTICE).map(notice_of).collect()
}

pub(super) fn notice_of(entry: &Entry) -> Notice {
    let words = |value: Option<&Value>| {
        let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let result = &entry.about.result;
    let number = |key: &str| result.get(key).and_then(Value::as_u64).unwrap_or_default();
    Notice {
        seq: entry.seq,
        time: entry.time.wall.clone(),
        by: writer_of(entry),
        text: told(entry, "text"),
        reference: told(entry, "reference"),
        tool: told(entry, "tool"),
        affected: told(entry, "affected"),
        acts: words(entry.about.how.get("acts")),
        bundles: words(result.get("bundles")),
        entries: result.get("entries").and_then(Value::as_object).cloned().unwrap_or_default(),
        count: number("count"),
        unknown: number("unknown"),
    }
}
