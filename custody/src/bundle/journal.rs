//! The journal of a stream that is being written: up to where everything is on the disk, so that a writer that was cut
//! short can be followed by another.
//!
//! `journal` is a file of strict JSON lines beside the manifest's place, appended to and never sealed. A line is written
//! only after all that it vouches for is synced; the last whole line counts. What lies behind it is discarded.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Error, Result};
use super::extent::Extent;
use super::manifest::StoredFile;
use super::store::{BundleStore, StoreFile};
use crate::digest::PortableHasher;
use crate::strict_json;

/// Its path in a bundle.
pub(crate) const JOURNAL: &str = "journal";

/// Longest line that is believed.
const LONGEST_LINE: u64 = 16 << 10;

/// Up to where a stream is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Name of the stream.
    pub(crate) stream: String,
    /// Its kind.
    pub(crate) kind: String,
    /// Bytes of a chunk.
    pub(crate) chunk_size: u32,
    /// Bytes of the stream in a segment.
    pub(crate) segment_size: u64,
    /// Bytes of the stream.
    pub(crate) size: u64,
    /// Bytes of the table of chunks.
    pub(crate) chunks_bytes: u64,
    /// Bytes of the table of extents.
    pub(crate) extents_bytes: u64,
    /// The extent that is not in that table yet: length, state and detail.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) open_extent: Option<OpenExtent>,
    /// Segments that are complete.
    pub(crate) segments: u32,
    /// Bytes of the stored file of the segment behind them; 0 if it is not begun.
    pub(crate) segment_bytes: u64,
    /// Of an encrypted stream, which cannot be read again: its newest segment and the hashes up to its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sealed: Option<SealedSegment>,
}

/// The end of an encrypted segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedSegment {
    pub(crate) file: StoredFile,
    #[serde(flatten)]
    pub(crate) hashes: HashState,
}

/// Where the hashes of a stream stand, to go on from there without its bytes. In hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashState {
    /// Of the whole stream.
    #[serde(rename = "sha256_state")]
    pub whole: String,
    /// Of its `data` and `zero` extents; `None` while that is the same.
    #[serde(rename = "sha256_data_state", skip_serializing_if = "Option::is_none", default)]
    pub data: Option<String>,
}

impl HashState {
    /// Where two running hashes stand.
    #[must_use]
    pub fn of(whole: &PortableHasher, data: Option<&PortableHasher>) -> Self {
        Self { whole: hex::encode(whole.state()), data: data.map(|data| hex::encode(data.state())) }
    }

    /// The hashes, ready to go on.
    pub(crate) fn take_up(&self) -> Result<(PortableHasher, Option<PortableHasher>)> {
        let refused = || Error::Refused { reason: "the journal holds no state of a hash".to_owned() };
        let hasher = |state: &String| {
            let state = hex::decode(state).map_err(|_| refused())?;
            PortableHasher::from_state(&state).map_err(|_| refused())
        };
        Ok((hasher(&self.whole)?, self.data.as_ref().map(hasher).transpose()?))
    }
}

/// An extent that may still grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenExtent {
    pub(crate) length: u64,
    pub(crate) state: String,
    pub(crate) detail: String,
}

impl From<&Extent> for OpenExtent {
    fn from(extent: &Extent) -> Self {
        Self { length: extent.length, state: extent.state.word().to_owned(), detail: extent.detail.clone() }
    }
}

impl Mark {
    fn to_line(&self) -> io::Result<String> {
        let value = serde_json::to_value(self).map_err(io::Error::other)?;
        Ok(strict_json::to_line(&value).map_err(io::Error::other)? + "\n")
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let value: Value = strict_json::parse(line.strip_suffix(b"\n")?).ok()?;
        serde_json::from_value(value).ok()
    }
}

/// The last mark of a journal; none if there is no journal, or no whole line in it.
pub(crate) fn last_mark(store: &Arc<dyn BundleStore>) -> Result<Option<Mark>> {
    let mut last = None;
    each_mark(store, |mark| last = Some(mark))?;
    Ok(last)
}

/// Gives every whole line of a journal, in order.
pub(crate) fn each_mark(store: &Arc<dyn BundleStore>, mut take: impl FnMut(Mark)) -> Result<()> {
    match store.size_of(JOURNAL) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|source| Error::read(JOURNAL, source))?,
    };
    let mut input = io::BufReader::new(StoreFile::new(Arc::clone(store), JOURNAL));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = Read::take(&mut input, LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|source| Error::read(JOURNAL, source))?;
        if read == 0 {
            return Ok(());
        }
        Mark::parse(&line).into_iter().for_each(&mut take);
    }
}

/// Writes marks, each behind the bytes that it vouches for, while the stream goes on.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    writing: Option<JoinHandle<io::Result<File>>>,
}

impl Journal {
    /// Goes on with a journal, or begins it.
    pub(crate) fn open(store: &dyn BundleStore) -> Result<Option<Self>> {
        let Some(unfinished) = store.unfinished() else { return Ok(None) };
        let file = unfinished.open_to_append(JOURNAL).map_err(|source| Error::write(JOURNAL, source))?;
        Ok(Some(Self { file: Some(file), writing: None }))
    }

    /// Writes a mark once `files` are synced; waits for the mark before it only.
    pub(crate) fn mark(&mut self, mark: &Mark, files: Vec<File>) -> Result<()> {
        let failed = |source| Error::write(JOURNAL, source);
        self.settle()?;
        let Some(mut file) = self.file.take() else {
            return Err(failed(io::Error::other("the thread that writes it failed")));
        };
        let line = mark.to_line().map_err(failed)?;
        let write = move || {
            files.iter().try_for_each(File::sync_data)?;
            file.write_all(line.as_bytes())?;
            file.sync_data()?;
            Ok(file)
        };
        self.writing = Some(thread::Builder::new().name("journal".to_owned()).spawn(write).map_err(failed)?);
        Ok(())
    }

    /// Waits for the last mark.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if let Some(writing) = self.writing.take() {
            let file =
                writing.join().unwrap_or_else(|_| Err(io::Error::other("the thread that writes it failed")));
            self.file = Some(file.map_err(|source| Error::write(JOURNAL, source))?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::LocalFolder;
    use std::sync::Arc;

    fn mark(size: u64) -> Mark {
        Mark {
            stream: "disk".into(),
            kind: "disk".into(),
            chunk_size: 1 << 19,
            segment_size: 1 << 30,
            size,
            chunks_bytes: 7,
            extents_bytes: 8,
            open_extent: Some(OpenExtent { length: size, state: "data".into(), detail: String::new() }),
            segments: 0,
            segment_bytes: 9,
            sealed: None,
        }
    }

    #[test]
    fn the_last_whole_line_counts_and_a_torn_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder.path()));
        assert_eq!(last_mark(&store).unwrap(), None);
        let mut journal = Journal::open(&*store).unwrap().unwrap();
        for size in [1, 2, 3] {
            journal.mark(&mark(size), vec![]).unwrap();
        }
        journal.settle().unwrap();
        let path = folder.path().join(JOURNAL);
        let whole = std::fs::read(&path).unwrap();
        let line = whole.len() / 3;
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder.path()));
            let found = last_mark(&store).unwrap();
            let expected = (cut / line > 0).then(|| mark((cut / line) as u64));
            assert_eq!(found, expected, "cut to {cut} bytes");
        }
    }
}
