//! What a check found: faults with their place, and notes.

use serde::Serialize;

/// More faults than this are counted, not listed.
const MOST_LISTED: usize = 1000;

/// What is wrong with evidence or its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// A file that must be there is not.
    Missing,
    /// A file is there that nothing lists.
    Unlisted,
    /// A file is not the one that was listed.
    Changed,
    /// A file could not be read.
    Unreadable,
    /// A chunk's stored bytes do not give the chunk.
    Chunk,
    /// A stream is not the one that was acquired.
    Stream,
    /// A table or catalogue is not as it must be.
    Table,
    /// The manifest cannot be, or says something that the evidence or log does not.
    Manifest,
    /// A signature does not verify.
    Signature,
    /// A line of the log is no entry in its canonical spelling.
    Spelling,
    /// An entry is out of order, or says what it may not say.
    Entry,
    /// The log does not begin as it must, or another log's papers lie beside it.
    Genesis,
    /// An entry was changed, put in or taken out: the chain of hashes breaks.
    Chain,
    /// Entries do not give the root that was signed for them.
    Root,
    /// The log is shorter than something that was signed for it.
    Truncated,
    /// The log is shorter than the verifier saw it before.
    RolledBack,
    /// Two different logs were signed under one name.
    Fork,
    /// A key signed what it may not sign.
    Key,
    /// The cached edge of the tree is not the log's.
    Frontier,
    /// A whole bundle is another than the case's log names.
    Replaced,
    /// An evidence store holds a later version of a file, or a deletion of it.
    Version,
}

impl FaultKind {
    /// The threat of the table that shows in it; see [`super::threats`].
    fn threat(self, place: &Place) -> &'static str {
        match self {
            Self::Chunk
            | Self::Stream
            | Self::Table
            | Self::Entry
            | Self::Chain
            | Self::Root
            | Self::Missing
            | Self::Unlisted
            | Self::Version
            | Self::Changed => {
                if place.file.starts_with(crate::case_layout::TORN_PREFIX) {
                    "T10"
                } else {
                    "T1"
                }
            }
            Self::Truncated => "T2",
            Self::Genesis => "T3",
            Self::RolledBack => "T4",
            Self::Fork => "T5",
            Self::Signature | Self::Key => "T6",
            Self::Replaced => "T8",
            Self::Manifest => "T12",
            Self::Spelling => "T13",
            Self::Unreadable | Self::Frontier => "T16",
        }
    }
}

/// Where a fault is. Counting starts at 0, but lines of a table at 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, from the folder that was verified.
    pub file: String,
    /// The chunk of a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u64>,
    /// The bytes, of the stream when a chunk is named, else of the file: first, and the one behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<(u64, u64)>,
    /// The entry of a log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// The line of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl Place {
    /// A whole file.
    pub fn file(path: impl Into<String>) -> Self {
        Self { file: path.into(), ..Self::default() }
    }

    /// An entry of the log.
    pub fn entry(seq: u64) -> Self {
        Self { entry: Some(seq), ..Self::file(crate::case_layout::LOG) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let Some(entry) = self.entry {
            write!(f, ", entry {entry}")?;
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(chunk) = self.chunk {
            write!(f, ", chunk {chunk}")?;
        }
        if let Some((start, end)) = self.bytes {
            write!(f, ", bytes {start} to {end}")?;
        }
        Ok(())
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What kind.
    pub kind: FaultKind,
    /// The threat that shows in it: `T1` to `T18`.
    pub threat: &'static str,
    /// In words.
    pub words: String,
}

impl Fault {
    pub(super) fn new(place: Place, kind: FaultKind, words: String) -> Self {
        Self { threat: kind.threat(&place), place, kind, words }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.words)
    }
}

/// Gathers faults and notes, bounded.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) fault_count: u64,
    pub(super) notes: Vec<String>,
}

impl Findings {
    pub(super) fn fault(&mut self, place: Place, kind: FaultKind, words: impl Into<String>) {
        self.fault_count += 1;
        if self.faults.len() < MOST_LISTED {
            self.faults.push(Fault::new(place, kind, words.into()));
        }
    }

    pub(super) fn note(&mut self, words: impl Into<String>) {
        if self.notes.len() < MOST_LISTED {
            self.notes.push(words.into());
        }
    }

    /// Whether a fault names this file.
    pub(super) fn names(&self, file: &str) -> bool {
        self.faults.iter().any(|fault| fault.place.file == file)
    }
}
