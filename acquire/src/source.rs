//! What an acquisition reads from.

use std::io;

use custody::bundle::{Source as SourceFacts, State};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::reading::Patience;

/// A run of unreadable sectors is listed once; at most so many runs are kept as issues, the rest is counted.
const MOST_ISSUES: usize = 10_000;

/// Something that gives bytes and is never written to.
pub trait Source: Send {
    /// What is known of it, for the manifest.
    fn facts(&self) -> SourceFacts;

    /// Its size, if it is known before it has been read.
    fn size(&self) -> Option<u64>;

    /// Bytes of a logical sector: the least that is read where reading fails.
    fn sector_size(&self) -> u32;

    /// Reads at an offset; 0 bytes only at the end. Sources that give each byte once are read in order.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;

    /// Reads at an offset past any cache of the system, which would spoil the neighbours of a bad sector.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn reread_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read_at(offset, buf)
    }

    /// The state that the source itself tells of the bytes at an offset, and how many are in it from there on; `None` if it
    /// tells none, and at its end. Only what is [`State::Data`] is read; all else reads as zeros.
    ///
    /// # Errors
    ///
    /// Why it cannot tell; [`Source::stopped_by`] says more.
    fn run_at(&mut self, _offset: u64) -> io::Result<Option<(State, u64)>> {
        Ok(None)
    }

    /// Why nothing more can be had of the source for now, once a read has failed for that: the acquisition then ends with this
    /// and can be taken up again. `None` of a source whose failures are of single places.
    fn stopped_by(&mut self) -> Option<Error> {
        None
    }

    /// Whether bytes can be read again.
    fn is_seekable(&self) -> bool {
        true
    }

    /// How long its bad areas may hold up who reads it.
    fn patience(&self) -> Patience {
        Patience::default()
    }

    /// Told before the first byte is read. What is worth a warning by then becomes an issue.
    fn begin(&mut self, _issues: &mut Issues) {}

    /// Told after the last byte was read. What has changed meanwhile becomes an issue.
    fn end(&mut self, _issues: &mut Issues) {}

    /// Facts that are known only after the run, for the manifest.
    fn facts_after(&self) -> Map<String, Value> {
        Map::new()
    }
}

/// Fills a buffer from an offset by reads that may give less than they are asked for.
///
/// # Errors
///
/// What a read says, or [`io::ErrorKind::UnexpectedEof`] where the source ends before.
pub(crate) fn read_exactly(
    offset: u64,
    buf: &mut [u8],
    mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0usize;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match read_at(offset.saturating_add(done as u64), rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done = done.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Something that went wrong at one place and did not stop the acquisition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Where: the source's path or a file's, escaped.
    pub path: String,
    /// First byte concerned, in the source or file.
    pub offset: Option<u64>,
    /// Bytes concerned.
    pub length: Option<u64>,
    /// What happened, in words.
    pub what: String,
}

/// Issues as they come: all are counted, the first are kept.
#[derive(Debug, Default)]
pub struct Issues {
    kept: Vec<Issue>,
    count: u64,
}

impl Issues {
    /// Adds one.
    pub fn add(&mut self, issue: Issue) {
        self.count = self.count.saturating_add(1);
        if self.kept.len() < MOST_ISSUES {
            self.kept.push(issue);
        }
    }

    /// Adds those of another part of the same acquisition.
    pub(crate) fn append(&mut self, other: Issues) {
        let unkept = other.count.saturating_sub(other.kept.len() as u64);
        other.kept.into_iter().for_each(|issue| self.add(issue));
        self.count = self.count.saturating_add(unkept);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Gives the first of them away.
    #[must_use]
    pub fn into_kept(self) -> Vec<Issue> {
        self.kept
    }

    /// Adds all of them to others.
    pub(crate) fn give_to(self, others: &mut Self) {
        let more = self.count.saturating_sub(self.kept.len() as u64);
        for issue in self.kept {
            others.add(issue);
        }
        others.count = others.count.saturating_add(more);
    }

    /// The first of them.
    #[must_use]
    pub fn kept(&self) -> &[Issue] {
        &self.kept
    }
}
