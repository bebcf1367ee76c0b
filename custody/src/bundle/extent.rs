//! What state every byte of a stream is in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The state of a range of a stream. All but [`State::Data`] read as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Read from the source.
    Data,
    /// Whole chunks of zeros, read as such.
    Zero,
    /// The source has no such block.
    Absent,
    /// The source could not be read there.
    Unreadable,
    /// Not asked for.
    Skipped,
    /// As in the bundle that the manifest's `base` names.
    Base,
}

impl State {
    /// Every state, in the order of the manifest's `states`.
    pub const ALL: [Self; 6] =
        [Self::Absent, Self::Base, Self::Data, Self::Skipped, Self::Unreadable, Self::Zero];

    /// The word in the extents table.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Zero => "zero",
            Self::Absent => "absent",
            Self::Unreadable => "unreadable",
            Self::Skipped => "skipped",
            Self::Base => "base",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no state.
#[derive(Debug, thiserror::Error)]
#[error("unknown state {0:?}")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(word: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| UnknownState(word.to_owned()))
    }
}

/// A range of a stream in one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// First byte, in the stream.
    pub start: u64,
    /// Bytes; never 0.
    pub length: u64,
    /// Their state.
    pub state: State,
    /// More about it: of `unreadable`, `errno=5 tries=3`. Escaped text, often empty.
    pub detail: String,
}

impl Extent {
    /// The byte behind its last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// A range of a chunk that was not read from the source, and holds zeros instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// First byte, from the start of the chunk.
    pub start: u32,
    /// Bytes.
    pub length: u32,
    /// Why: any state but [`State::Data`] and [`State::Zero`].
    pub state: State,
    /// More about it, escaped.
    pub detail: String,
}

/// Bytes of a stream by state. Their sum is the stream's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateBytes {
    /// The source has no such block.
    pub absent: u64,
    /// As in the base bundle.
    pub base: u64,
    /// Read from the source.
    pub data: u64,
    /// Not asked for.
    pub skipped: u64,
    /// The source could not be read there.
    pub unreadable: u64,
    /// Whole chunks of zeros, read as such.
    pub zero: u64,
}

impl StateBytes {
    /// The bytes in a state.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        match state {
            State::Absent => self.absent,
            State::Base => self.base,
            State::Data => self.data,
            State::Skipped => self.skipped,
            State::Unreadable => self.unreadable,
            State::Zero => self.zero,
        }
    }

    /// Counts bytes of a state.
    pub fn add(&mut self, state: State, bytes: u64) {
        let counter = match state {
            State::Absent => &mut self.absent,
            State::Base => &mut self.base,
            State::Data => &mut self.data,
            State::Skipped => &mut self.skipped,
            State::Unreadable => &mut self.unreadable,
            State::Zero => &mut self.zero,
        };
        *counter = counter.saturating_add(bytes);
    }

    /// All bytes, whatever their state.
    #[must_use]
    pub fn total(&self) -> u64 {
        State::ALL.iter().fold(0u64, |sum, &state| sum.saturating_add(self.of(state)))
    }
}

/// Joins neighbouring ranges of one state into extents, as they come.
#[derive(Debug, Default)]
pub(crate) struct ExtentJoiner {
    open: Option<Extent>,
    at: u64,
}

impl ExtentJoiner {
    /// One whose first range starts at `start`.
    pub(crate) fn behind(start: u64) -> Self {
        Self { open: None, at: start }
    }

    /// Takes the next range; gives the extent before it once that is complete.
    pub(crate) fn push(&mut self, length: u64, state: State, detail: &str) -> Option<Extent> {
        if length == 0 {
            return None;
        }
        let start = self.at;
        self.at = self.at.saturating_add(length);
        if let Some(open) = self.open.as_mut().filter(|open| open.state == state && open.detail == detail) {
            open.length = open.length.saturating_add(length);
            return None;
        }
        self.open.replace(Extent { start, length, state, detail: detail.to_owned() })
    }

    /// The extent that may still grow.
    pub(crate) fn open(&self) -> Option<&Extent> {
        self.open.as_ref()
    }

    /// Gives the last extent.
    pub(crate) fn finish(&mut self) -> Option<Extent> {
        self.open.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_state_are_one_extent() {
        let mut joiner = ExtentJoiner::default();
        let mut extents = Vec::new();
        for (length, state, detail) in [
            (10, State::Data, ""),
            (5, State::Data, ""),
            (0, State::Zero, ""),
            (5, State::Unreadable, "errno=5 tries=1"),
            (5, State::Unreadable, "errno=5 tries=2"),
            (1, State::Data, ""),
        ] {
            extents.extend(joiner.push(length, state, detail));
        }
        extents.extend(joiner.finish());
        let found: Vec<_> =
            extents.iter().map(|extent| (extent.start, extent.length, extent.state)).collect();
        assert_eq!(
            found,
            [
                (0, 15, State::Data),
                (15, 5, State::Unreadable),
                (20, 5, State::Unreadable),
                (25, 1, State::Data)
            ]
        );
    }
}
