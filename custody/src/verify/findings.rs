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
    /// A line of the log is no entry in its canonical spelling, or out of order.
    Entry,
    /// An entry was changed, put in or taken out: the chain of hashes breaks.
    Chain,
    /// Entries do not give the root that was signed for them.
    Root,
    /// The log is shorter than something that was signed for it.
    Truncated,
    /// Two different logs were signed under one name.
    Fork,
    /// A key signed what it may not sign.
    Key,
    /// The cached edge of the tree is not the log's.
    Frontier,
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
    /// In words.
    pub words: String,
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
            self.faults.push(Fault { place, kind, words: words.into() });
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
