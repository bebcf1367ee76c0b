//! The check of everything, from its files alone: no network, no clock, no settings.
//!
//! Recomputed from bytes up: frames, chunks, streams, tables, manifest, signature, SHA256SUMS, log, checkpoints,
//! anchors. What is wrong is a [`Fault`] with its place, never an error; an [`crate::Error`] means that something
//! could not be read at all.

mod aftercare;
mod anchors;
mod bases;
mod bundle;
mod case;
mod copies;
mod findings;
mod handovers;
mod log;
mod log_files;
mod remote;
mod stream;
pub mod threats;
mod time_windows;
mod trust;
mod verdict;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

pub use anchors::{AnchorFact, AnchorKind};
pub use copies::{Comparison, LogCopy, Side, compare, forks_from_memory};
pub use findings::{Fault, FaultKind, Place};
pub use log::LogSummary;
pub use threats::{ThreatFinding, ThreatState};
pub use trust::{Memory, OutsideAnchors, Remembered, TrustedKey};
pub use verdict::{Level, Verdict};

use crate::anchors::Authorities;
use crate::bundle::{Identities, OpenRemote};
use crate::case_layout;
use crate::checkpoint::SignedCheckpoint;
use crate::digest::Digest;
use crate::entry::EntryType;
use crate::error::Result;
use crate::ssh::AllowedSigners;
use findings::Findings;
use log::LogCheck;

/// What the person who verifies brings along.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Keys that are trusted: of examiners, of laboratories, of witnesses.
    pub trust: Vec<TrustedKey>,
    /// Who is who: people and the authorities that certify them. A trusted key counts for a person too.
    pub signers: AllowedSigners,
    /// Checkpoints and tokens that were kept elsewhere.
    pub outside: OutsideAnchors,
    /// Root certificates of time-stamp authorities that are trusted.
    pub authorities: Authorities,
    /// What was seen before; see [`Verification::remember`].
    pub memory: Memory,
    /// Keys that open what is encrypted; without one that fits, only ciphertext is checked.
    pub identities: Identities,
    /// Opens the stores that hold the data of exhibits whose folders do not; without it, such data is not read.
    pub remote: Option<Arc<dyn OpenRemote>>,
}

/// What a verdict says when a key was missing.
const CIPHERTEXT_ONLY: &str = " CIPHERTEXT ONLY: stored files, manifest, signature and log were checked; what is inside \
                               the encrypted files was not, because no key that opens them was given.";

/// What a verdict says when data lies elsewhere and was not asked for.
const DATA_NOT_READ: &str = " DATA NOT READ: manifest, signature and log were checked; the data lies in an evidence store \
                             and was not read, so nothing is said of what is stored there.";

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A case with its exhibits.
    Case,
    /// One bundle.
    Bundle,
    /// A custody log alone.
    Log,
}

/// How much was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Files read through, those of the logs aside.
    pub files: u64,
    /// Chunks decoded and hashed.
    pub chunks: u64,
    /// Bytes of streams in them.
    pub stream_bytes: u64,
    /// Entries of logs.
    pub entries: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.files = self.files.saturating_add(other.files);
        self.chunks = self.chunks.saturating_add(other.chunks);
        self.stream_bytes = self.stream_bytes.saturating_add(other.stream_bytes);
        self.entries = self.entries.saturating_add(other.entries);
    }
}

/// The verdict on one exhibit of a case. Its faults are listed with the case's.
#[derive(Debug, Clone, Serialize)]
pub struct ExhibitVerdict {
    /// Such as `E001`.
    pub id: String,
    /// Its folder, from the case.
    pub folder: String,
    /// The verdict.
    pub verdict: Verdict,
    /// How many faults it has.
    pub fault_count: u64,
    /// Whether its log ends in something unsigned.
    pub unsigned_tail: bool,
    /// Whether it was checked as ciphertext only.
    pub ciphertext_only: bool,
    /// Whether its data lies in an evidence store and was not read.
    pub data_not_read: bool,
    /// Its log.
    pub log: LogSummary,
}

/// What a check found. The same files and options give the same value.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// What was verified.
    pub kind: Kind,
    /// Where it lies, as it was given.
    pub path: String,
    /// The verdict.
    pub verdict: Verdict,
    /// How many anchors that the presenter does not control vouch for it.
    pub anchors: u32,
    /// The verdict in plain words.
    pub sentence: String,
    /// What is wrong, at most 1000 of each log or bundle.
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub fault_count: u64,
    /// What is worth saying and is no fault.
    pub notes: Vec<String>,
    /// Whether a log ends in something that nobody signed.
    pub unsigned_tail: bool,
    /// Whether something is encrypted and was checked as ciphertext only: then nothing is said of what is inside.
    pub ciphertext_only: bool,
    /// Whether data lies in an evidence store and was not read: then nothing is said of it.
    pub data_not_read: bool,
    /// How much was checked.
    pub counts: Counts,
    /// The log of the case or bundle.
    pub log: LogSummary,
    /// What is known of each threat, T1 to T18, in order; of a case and all its exhibits together.
    pub threats: Vec<ThreatFinding>,
    /// SHA-256 of the manifest of a sealed bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<Digest>,
    /// The exhibit that its manifest says it is, and of which case.
    #[serde(skip)]
    pub(crate) belongs: Option<(String, Option<String>)>,
    /// Each exhibit of a case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exhibits: Vec<ExhibitVerdict>,
}

impl Verification {
    fn new(
        kind: Kind,
        path: &Path,
        verdict: Verdict,
        findings: Findings,
        counts: Counts,
        log: &LogCheck,
    ) -> Self {
        let Findings { faults, fault_count, notes } = findings;
        Self {
            kind,
            path: path.display().to_string(),
            verdict,
            anchors: verdict.anchors,
            sentence: verdict.sentence(),
            faults,
            fault_count,
            notes,
            unsigned_tail: log.unsigned_tail(),
            ciphertext_only: false,
            data_not_read: false,
            counts,
            log: log.summary.clone(),
            threats: Vec::new(),
            manifest_sha256: None,
            belongs: None,
            exhibits: Vec::new(),
        }
    }

    /// Says beside the verdict that what is inside was not checked.
    fn set_ciphertext_only(&mut self) {
        self.ciphertext_only = true;
        self.phrase();
    }

    /// Says beside the verdict that the data was not read.
    fn set_data_not_read(&mut self) {
        self.data_not_read = true;
        self.phrase();
    }

    /// Puts the verdict into words, and what it says nothing of.
    fn phrase(&mut self) {
        self.sentence = self.verdict.sentence();
        if self.ciphertext_only {
            self.sentence.push_str(CIPHERTEXT_ONLY);
        }
        if self.data_not_read {
            self.sentence.push_str(DATA_NOT_READ);
        }
    }

    fn add_fault(&mut self, place: Place, kind: FaultKind, words: String) {
        self.fault_count += 1;
        let fault = Fault::new(place, kind, words);
        threats::add_fault(&mut self.threats, &fault);
        self.faults.push(fault);
        self.verdict = Verdict { level: Level::Broken, anchors: 0 };
        self.anchors = 0;
        self.phrase();
    }

    /// Whether nothing is wrong, as far as can be seen from the inside.
    pub fn is_intact(&self) -> bool {
        self.verdict.level > Level::Broken
    }

    /// Whether at least this much is proved.
    pub fn meets(&self, level: Level) -> bool {
        self.verdict.level >= level
    }

    /// The exit code of a program: 3 when it is broken or less than `at_least`, 1 when it is open or ends in
    /// something unsigned, else 0.
    pub fn exit_code(&self, at_least: Option<Level>) -> u8 {
        if !self.is_intact() || at_least.is_some_and(|level| !self.meets(level)) {
            3
        } else if self.verdict.level == Level::Open || self.unsigned_tail {
            1
        } else {
            0
        }
    }

    fn logs(&self) -> impl Iterator<Item = &LogSummary> {
        std::iter::once(&self.log).chain(self.exhibits.iter().map(|exhibit| &exhibit.log))
    }

    /// Remembers the sizes and roots of all logs that were verified; nothing when anything is broken.
    pub fn remember(&self, memory: &mut Memory) {
        if !self.is_intact() {
            return;
        }
        for log in self.logs() {
            if let Some(root) = log.root {
                let note = log.checkpoint.as_ref();
                let checkpoint = note.and_then(|note| SignedCheckpoint::parse(note.as_bytes()).ok());
                memory.remember(&log.origin, log.size, root, checkpoint);
            }
        }
    }
}

/// Verifies whatever lies in `folder`: a case when it holds `case.json` or `exhibits/`, else a bundle.
///
/// # Errors
///
/// [`crate::Error::Read`] when something could not be read at all.
pub fn verify(folder: &Path, options: &Options) -> Result<Verification> {
    let mut done = verify_any(folder, options)?;
    let brought = &options.outside.notes;
    let here: Vec<&str> = std::iter::once(&done.log)
        .chain(done.exhibits.iter().map(|exhibit| &exhibit.log))
        .map(|log| log.origin.as_str())
        .collect();
    if !brought.is_empty() && !brought.iter().any(|(_, note)| here.contains(&note.checkpoint.origin.as_str()))
    {
        done.notes.push(format!(
            "none of the {} checkpoints that were kept elsewhere is of a log that is here: they vouch for nothing here, and what \
             they vouch for is not here",
            brought.len()
        ));
    }
    Ok(done)
}

fn verify_any(folder: &Path, options: &Options) -> Result<Verification> {
    if case_layout::case_file(folder).exists() || case_layout::exhibits(folder).exists() {
        case::verify(folder, options)
    } else {
        bundle::verify(folder, options)
    }
}

/// Verifies as [`verify`] does, compares with what a memory file remembers, and remembers there what is seen now.
///
/// Others may do the same with the same file at the same time: what they see is neither lost nor contradicted. The
/// file stays as it was when anything is broken.
///
/// # Errors
///
/// [`crate::Error::Damaged`] when the memory file is none, before anything is verified; [`crate::Error::Write`], and
/// those of [`verify`].
pub fn verify_remembering(folder: &Path, options: &Options, memory: &Path) -> Result<Verification> {
    let mut options = Options { memory: Memory::load(memory)?, ..options.clone() };
    loop {
        let done = verify(folder, &options)?;
        let _lock = Memory::lock(memory)?;
        let now = Memory::load(memory)?;
        // Somebody else saw one of these logs meanwhile, so it must be compared with that too.
        let moved = |log: &LogSummary| now.of(&log.origin) != options.memory.of(&log.origin);
        if done.is_intact() && done.logs().any(moved) {
            options.memory = now;
            continue;
        }
        let mut after = now.clone();
        done.remember(&mut after);
        if after != now {
            after.save(memory)?;
        }
        return Ok(done);
    }
}

/// Verifies a bundle.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_bundle(folder: &Path, options: &Options) -> Result<Verification> {
    bundle::verify(folder, options)
}

/// Verifies a case and all its exhibits.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_case(folder: &Path, options: &Options) -> Result<Verification> {
    case::verify(folder, options)
}

/// Verifies a custody log alone, and not what it tells of.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_log(folder: &Path, options: &Options) -> Result<Verification> {
    let mut findings = Findings::default();
    let log = log::verify(folder, options, &mut findings)?;
    // What records an anchor comes after what the anchor covers, and tells of nothing else.
    let after = |entry: &&crate::entry::Entry| entry.seq < log.summary.size;
    let trailing = log.landmarks.iter().rev().filter(after).zip((0..log.summary.size).rev());
    let trailing =
        trailing.take_while(|(entry, seq)| entry.seq == *seq && entry.kind == EntryType::ANCHOR_MADE);
    let last = log.summary.size.saturating_sub(1).saturating_sub(trailing.count() as u64);
    let verdict = verdict_of(&log, options, &findings, Some(last), false);
    let counts = Counts { entries: log.summary.size, ..Counts::default() };
    let mut done = Verification::new(Kind::Log, folder, verdict, findings, counts, &log);
    done.threats = threats::decide(&done, &log, options);
    Ok(done)
}

/// The first fault of a log, in words; `None` when it verifies.
pub(crate) fn log_is_intact(folder: &Path) -> Result<Option<String>> {
    let done = verify_log(folder, &Options::default())?;
    Ok(done.faults.first().map(ToString::to_string))
}

/// The verdict on a log, and on what it tells of: `must_cover` is the entry that an anchor must reach.
fn verdict_of(
    log: &LogCheck,
    options: &Options,
    findings: &Findings,
    must_cover: Option<u64>,
    open: bool,
) -> Verdict {
    if findings.fault_count > 0 {
        return Verdict { level: Level::Broken, anchors: 0 };
    }
    if open {
        return Verdict { level: Level::Open, anchors: covering_anchors(log, options, 0) };
    }
    let anchors = must_cover.map_or(0, |seq| covering_anchors(log, options, seq));
    let closed = log.entries_of(&EntryType::CASE_CLOSED).next();
    let level = if closed.is_some_and(|entry| covering_anchors(log, options, entry.seq) > 0) && anchors > 0 {
        Level::Complete
    } else if anchors > 0 {
        Level::Anchored
    } else if log.trusted {
        Level::Signed
    } else {
        Level::Consistent
    };
    Verdict { level, anchors }
}

/// How many independent anchors cover entry `seq`.
///
/// When trusted keys were given, and none of them stands behind the log or cosigned this much of it, nothing counts: a
/// time stamp over a forged log is only a time stamp.
fn covering_anchors(log: &LogCheck, options: &Options, seq: u64) -> u32 {
    let reach = || log.anchored.iter().filter(|(size, _)| *size > seq);
    let vouched = options.trust.is_empty() || log.trusted || reach().any(|(_, cosigned)| *cosigned);
    let counts = if vouched { reach().count() } else { 0 };
    u32::try_from(counts).unwrap_or(u32::MAX)
}
