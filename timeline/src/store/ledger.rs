//! The completeness ledger: for every file that a parser claimed, what became of its bytes; and what nobody read.
//!
//! JSON Lines, each with a `type`: `file` (a [`LedgerRow`]), `unclaimed` (files that no parser claims, by kind)
//! and `issue` (volumes and folders that could not be read). Files come first, sorted by locator.

use std::collections::BTreeMap;
use std::path::Path;

use custody::digest::sha256;
use serde::{Deserialize, Serialize};

use super::files::{failed, replace};
use super::manifest::{ListedFile, check_exhibit};
use crate::Error;
use crate::event::{Span, Timestamp};

/// Rejects that a row keeps with their place; all are counted.
pub const KEPT_REJECTS: usize = 5;

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerRow {
    /// Way from the stream to the file's decoded bytes.
    pub locator: String,
    /// Name and version: `syslog@1`.
    pub parser: String,
    /// Decoded bytes of the file.
    pub bytes: u64,
    /// Bytes that are in a record, a reject or filler.
    pub bytes_used: u64,
    /// Records that gave at least one event.
    pub records: u64,
    /// Events.
    pub events: u64,
    /// Events without a time.
    pub undated: u64,
    /// Records that could not be read.
    pub failed: u64,
    /// The first time, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Why there are no events, or why reading stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The first [`KEPT_REJECTS`] rejects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejects: Vec<Reject>,
}

/// A record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl LedgerRow {
    /// Counts a reject, and keeps it if it is among the first.
    pub fn reject(&mut self, span: Span, reason: &str) {
        self.failed = self.failed.saturating_add(1);
        if self.rejects.len() < KEPT_REJECTS {
            self.rejects.push(Reject { offset: span.offset, length: span.length, reason: reason.to_owned() });
        }
    }
}

/// The first and last of many times, for a [`LedgerRow`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeRange(Option<(Timestamp, Timestamp)>);

impl TimeRange {
    /// Takes a time.
    pub fn add(&mut self, time: Timestamp) {
        self.0 = Some(self.0.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
    }

    /// Writes the range into a row.
    pub fn put(self, row: &mut LedgerRow) {
        row.first = self.0.map(|(first, _)| first.to_rfc3339());
        row.last = self.0.map(|(_, last)| last.to_rfc3339());
    }
}

/// Everything of an exhibit that is not a claimed file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerSummary {
    /// Files that no parser claims, by kind: `elf`, `text` …
    pub unclaimed: BTreeMap<String, Unclaimed>,
    /// What could not be read: volumes, file systems, folders.
    pub issues: Vec<Issue>,
}

/// Files of one kind that no parser claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Unclaimed {
    /// How many.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Issue {
    /// Where: a locator or the beginning of one.
    pub place: String,
    /// Why.
    pub reason: String,
}

impl LedgerSummary {
    /// Counts a file that no parser claims.
    pub fn unclaimed(&mut self, kind: &str, bytes: u64) {
        let count = self.unclaimed.entry(kind.to_owned()).or_default();
        count.files = count.files.saturating_add(1);
        count.bytes = count.bytes.saturating_add(bytes);
    }

    /// Notes something that could not be read.
    pub fn issue(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.issues.push(Issue { place: place.into(), reason: reason.into() });
    }
}

/// An exhibit's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// The claimed files, sorted by locator and parser.
    pub files: Vec<LedgerRow>,
    /// The rest.
    pub summary: LedgerSummary,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    File(LedgerRow),
    Unclaimed { kind: String, files: u64, bytes: u64 },
    Issue(Issue),
}

impl Ledger {
    /// Writes the ledger of `exhibit`, and gives what the manifest lists of it. The order in which files and
    /// issues were found does not matter.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when it cannot be written.
    pub fn write(mut self, timeline: &Path, exhibit: &str) -> Result<ListedFile, Error> {
        check_exhibit(exhibit)?;
        self.files.sort_by(|a, b| (&a.locator, &a.parser).cmp(&(&b.locator, &b.parser)));
        self.summary.issues.sort();
        let files = self.files.into_iter().map(Line::File);
        let unclaimed = self
            .summary
            .unclaimed
            .into_iter()
            .map(|(kind, Unclaimed { files, bytes })| Line::Unclaimed { kind, files, bytes });
        let issues = self.summary.issues.into_iter().map(Line::Issue);
        let mut text = String::new();
        for line in files.chain(unclaimed).chain(issues) {
            let line = serde_json::to_string(&line)
                .map_err(|e| Error::Usage { what: format!("the ledger cannot be written: {e}") })?;
            text.push_str(&line);
            text.push('\n');
        }
        let sha256 = sha256(text.as_bytes()).to_string();
        let path = format!("ledger/exhibit={exhibit}/{}.jsonl", sha256.get(..32).unwrap_or(""));
        replace(&timeline.join(&path), &timeline.join("ledger.unfinished"), text.as_bytes())?;
        Ok(ListedFile { path, sha256, size: text.len() as u64 })
    }

    /// Reads a ledger that a manifest lists, and checks its hash.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when it is not what was written, [`Error::File`] when it cannot be read.
    pub fn read(timeline: &Path, listed: &ListedFile) -> Result<Ledger, Error> {
        let path = timeline.join(&listed.path);
        let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        if sha256(&bytes).to_string() != listed.sha256 {
            return Err(damaged("its SHA-256 is not the one in the manifest".into()));
        }
        let mut ledger = Ledger::default();
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line).map_err(|e| damaged(e.to_string()))? {
                Line::File(row) => ledger.files.push(row),
                Line::Unclaimed { kind, files, bytes } => {
                    ledger.summary.unclaimed.insert(kind, Unclaimed { files, bytes });
                }
                Line::Issue(issue) => ledger.summary.issues.push(issue),
            }
        }
        Ok(ledger)
    }
}
