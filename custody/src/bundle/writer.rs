//! Writes a bundle: segments and tables as the stream comes, then everything that seals it.

use std::fs::File;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::{Error, Result};
use super::extent::{ExtentJoiner, Gap, State, StateBytes};
use super::frame::{EncodedChunk, LARGEST_CHUNK, SMALLEST_CHUNK, SeekTable};
use super::journal::{HashState, Journal, Mark, OpenExtent, SealedSegment};
use super::manifest::{StoredFile, Stream, is_stream_name};
use super::protected_table::encrypt_table;
use super::protection::{ENDING, Output, Recipients};
use super::seal::publish;
use super::store::{BundleStore, Unfinished};
use super::tables::{CHUNKS_HEADER, ChunkRow, EXTENTS_HEADER, is_detail, segment_name};
use crate::digest::{Digest, Hasher};
use crate::merkle::Frontier;

/// Bytes of a stream in each segment but the last: 1 GiB.
pub const SEGMENT: u64 = 1 << 30;

/// Bytes of a stream between two marks of its journal: 64 MiB.
pub const MARK_EVERY: u64 = 64 << 20;

/// Rows are gathered to writes of this size.
pub(super) const TABLE_BUFFER: usize = 64 << 10;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of every chunk but the last: a power of two from 64 KiB to 16 MiB.
    pub chunk_size: u32,
    /// Bytes of the stream in each segment but the last: a multiple of `chunk_size`.
    pub segment_size: u64,
}

impl Default for Cut {
    fn default() -> Self {
        Self { chunk_size: super::frame::DEFAULT_CHUNK, segment_size: SEGMENT }
    }
}

impl Cut {
    /// Checks that the format allows it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with what is wrong.
    pub fn check(self) -> Result<()> {
        let refused = |reason: String| Err(Error::Refused { reason });
        if !self.chunk_size.is_power_of_two() || !(SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&self.chunk_size)
        {
            return refused(format!(
                "chunk size {} is not a power of two from 64 KiB to 16 MiB",
                self.chunk_size
            ));
        }
        if self.segment_size == 0
            || !self.segment_size.is_multiple_of(u64::from(self.chunk_size))
            || self.segment_size > SEGMENT
        {
            return refused(format!(
                "segment size {} is not a multiple of the chunk size up to 1 GiB",
                self.segment_size
            ));
        }
        Ok(())
    }
}

/// A file of the bundle that is hashed while it is written.
pub struct HashedFile {
    pub(super) path: String,
    out: Output,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for HashedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl HashedFile {
    /// Begins a file.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], also when there is one of that name.
    pub fn begin(store: &dyn BundleStore, path: &str) -> Result<Self> {
        Self::begin_with(store, path, None)
    }

    /// Begins a file that is encrypted on the way if there are recipients: then its path gets the ending `.age`.
    ///
    /// # Errors
    ///
    /// As [`HashedFile::begin`].
    pub fn begin_with(store: &dyn BundleStore, path: &str, protection: Option<&Recipients>) -> Result<Self> {
        let path = format!("{path}{}", if protection.is_some() { ENDING } else { "" });
        let file = store.put_new(&path).map_err(|source| Error::write(&path, source))?;
        let out = Output::new(file, protection).map_err(|source| Error::write(&path, source))?;
        Ok(Self { path, out, buffer: Vec::new() })
    }

    /// Goes on with a file that was cut short, behind its first `length` bytes, whose hash so far is `hasher`.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub(crate) fn resume(store: &dyn Unfinished, path: &str, length: u64, hasher: Hasher) -> Result<Self> {
        let file = store.reopen(path, length).map_err(|source| Error::write(path, source))?;
        Ok(Self { path: path.to_owned(), out: Output::resumed(file, length, hasher), buffer: Vec::new() })
    }

    fn is_encrypted(&self) -> bool {
        self.path.ends_with(ENDING)
    }

    /// Brings everything to the file, and gives a descriptor that syncs it.
    fn flushed(&mut self) -> Result<Option<File>> {
        self.flush()?;
        self.out.flushed_file().map_err(|source| Error::write(&self.path, source))
    }

    /// Appends bytes; small ones are gathered.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > TABLE_BUFFER {
            self.flush()?;
        }
        if bytes.len() >= TABLE_BUFFER {
            return self.write(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|source| Error::write(&self.path, source))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    /// Writes all that is gathered, the end of what is encrypted too: nothing can be appended after it.
    fn end(&mut self) -> Result<()> {
        self.flush()?;
        self.out.end().map_err(|source| Error::write(&self.path, source))
    }

    /// Makes the file durable, gives it its name, and says what was stored.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn finish(mut self) -> Result<StoredFile> {
        self.end()?;
        let Self { path, out, .. } = self;
        let (size, sha256, plain) = out.finish().map_err(|source| Error::write(&path, source))?;
        Ok(StoredFile { path, plain, sha256, size })
    }
}

/// Writes a whole small file.
///
/// # Errors
///
/// [`Error::Write`].
pub fn put(store: &dyn BundleStore, path: &str, bytes: &[u8]) -> Result<StoredFile> {
    let mut file = HashedFile::begin(store, path)?;
    file.append(bytes)?;
    file.finish()
}

/// Writes one stream: its segments, its table of chunks and its table of extents.
///
/// Dropped before [`StreamWriter::finish`], it leaves what it wrote: complete segments under their names, and the
/// last one, with the tables, under names that end in `.part`.
#[derive(Debug)]
pub struct StreamWriter {
    pub(super) store: Arc<dyn BundleStore>,
    pub(super) protection: Option<Arc<Recipients>>,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) cut: Cut,
    pub(super) segment: Option<Segment>,
    /// Segments whose frames are written, in order; the last may still be on its way to the disk.
    pub(super) segments: Vec<StoredFile>,
    pub(super) settling: Option<Settling>,
    pub(super) segment_number: u32,
    pub(super) chunks: HashedFile,
    pub(super) extents: HashedFile,
    pub(super) joiner: ExtentJoiner,
    pub(super) states: StateBytes,
    pub(super) root: Frontier,
    pub(super) index: u64,
    pub(super) size: u64,
    pub(super) short: bool,
    pub(super) line: String,
    pub(super) journal: Option<Journal>,
    pub(super) mark_every: u64,
    pub(super) marked: u64,
}

/// A segment on its way to the disk.
#[derive(Debug)]
pub(super) struct Settling {
    thread: JoinHandle<Result<StoredFile>>,
    /// Whether nothing can make it anew, so that it gets its name at once.
    publish: bool,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: HashedFile,
    pub(super) seek_table: SeekTable,
    pub(super) length: u64,
    pub(super) stored: u64,
}

impl StreamWriter {
    /// Begins a stream.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a name or a cut that the format does not allow, [`Error::Write`].
    pub fn begin(store: Arc<dyn BundleStore>, name: &str, kind: &str, cut: Cut) -> Result<Self> {
        Self::begin_with(store, name, kind, cut, None)
    }

    /// Begins a stream whose files are encrypted if there are recipients.
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::begin`].
    pub fn begin_with(
        store: Arc<dyn BundleStore>,
        name: &str,
        kind: &str,
        cut: Cut,
        protection: Option<Arc<Recipients>>,
    ) -> Result<Self> {
        cut.check()?;
        if !is_stream_name(name) {
            return Err(Error::Refused { reason: format!("{name:?} cannot name a stream") });
        }
        let begin = |path: String| HashedFile::begin_with(&*store, &path, protection.as_deref());
        let mut chunks = begin(format!("data/{name}.chunks.tsv"))?;
        chunks.append(format!("{CHUNKS_HEADER}\n").as_bytes())?;
        let mut extents = begin(format!("data/{name}.extents.tsv"))?;
        extents.append(format!("{EXTENTS_HEADER}\n").as_bytes())?;
        Ok(Self {
            store,
            protection,
            name: name.to_owned(),
            kind: kind.to_owned(),
            cut,
            segment: None,
            segments: Vec::new(),
            settling: None,
            segment_number: 0,
            chunks,
            extents,
            joiner: ExtentJoiner::default(),
            states: StateBytes::default(),
            root: Frontier::default(),
            index: 0,
            size: 0,
            short: false,
            line: String::new(),
            journal: None,
            mark_every: MARK_EVERY,
            marked: 0,
        })
    }

    /// Begins a stream with a journal, so that it can be taken up again should this writer be cut short.
    ///
    /// A mark is made after every `every` bytes of the stream, [`MARK_EVERY`] as a rule. Stores that cannot take up an
    /// unfinished file keep none. Nothing can be put behind ciphertext whose key is gone, so the marks of an encrypted
    /// stream are [`StreamWriter::mark_sealed`]; its tables are encrypted when it is finished, and lie in the clear
    /// until then: they tell hashes and states, no content.
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::begin`].
    pub fn begin_with_journal(
        store: Arc<dyn BundleStore>,
        name: &str,
        kind: &str,
        cut: Cut,
        protection: Option<Arc<Recipients>>,
        every: u64,
    ) -> Result<Self> {
        if store.unfinished().is_none() {
            return Self::begin_with(store, name, kind, cut, protection);
        }
        let mut writer = Self::begin(store, name, kind, cut)?;
        writer.protection = protection;
        writer.journal = Journal::open(&*writer.store)?;
        writer.mark_every = every;
        writer.mark()?;
        Ok(writer)
    }

    /// Whether a segment of an encrypted stream has just ended, and its journal waits for the hashes so far.
    #[must_use]
    pub fn awaits_hashes(&self) -> bool {
        self.journal.is_some() && self.keeps_hashes() && self.segment.is_none() && self.index > 0
    }

    /// Whether what is stored cannot be hashed again, being encrypted or in a store that is not read.
    fn keeps_hashes(&self) -> bool {
        self.protection.is_some() || self.store.write_only().is_some()
    }

    /// Notes that a segment which cannot be read again is stored, with the hashes up to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn mark_sealed(&mut self, hashes: HashState) -> Result<()> {
        self.settle()?;
        let sealed = self.segments.last().map(|file| SealedSegment { file: file.clone(), hashes });
        self.mark_with(sealed)?;
        // Before the mark is on the disk, an interruption would make the segment anew.
        if self.store.write_only().is_some() {
            if let Some(journal) = self.journal.as_mut() {
                journal.settle()?;
            }
            if let Some(file) = self.segments.last() {
                publish(&*self.store, &file.path)?;
            }
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<()> {
        if self.keeps_hashes() && self.index > 0 {
            return Ok(());
        }
        self.mark_with(None)
    }

    /// Notes up to where everything is on the disk.
    fn mark_with(&mut self, sealed: Option<SealedSegment>) -> Result<()> {
        let Some(mut journal) = self.journal.take() else { return Ok(()) };
        // A segment counts as complete only once it has its name.
        self.settle()?;
        self.marked = self.size;
        let mut files = Vec::new();
        if let Some(segment) = self.segment.as_mut() {
            files.extend(segment.file.flushed()?);
        }
        files.extend(self.chunks.flushed()?);
        files.extend(self.extents.flushed()?);
        let mark = Mark {
            stream: self.name.clone(),
            kind: self.kind.clone(),
            chunk_size: self.cut.chunk_size,
            segment_size: self.cut.segment_size,
            size: self.size,
            chunks_bytes: self.chunks.out.size(),
            extents_bytes: self.extents.out.size(),
            open_extent: self.joiner.open().map(OpenExtent::from),
            segments: self.segment_number,
            segment_bytes: self.segment.as_ref().map_or(0, |segment| segment.stored),
            sealed,
        };
        journal.mark(&mark, files)?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Bytes of the stream so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Chunks of the stream so far.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.index
    }

    /// Bytes by state so far.
    #[must_use]
    pub fn states(&self) -> StateBytes {
        self.states
    }

    /// Appends the next chunk. Only the last may be shorter than the chunk size, and none is empty.
    ///
    /// `gaps` are in order and do not overlap. What they leave is `data`, or `zero` if the whole chunk was read and
    /// holds only zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] for a chunk or gaps that cannot be, [`Error::Write`].
    pub fn push(&mut self, chunk: &EncodedChunk, gaps: &[Gap]) -> Result<()> {
        if self.short || chunk.length == 0 || chunk.length > self.cut.chunk_size {
            return Err(Error::Refused { reason: format!("chunk {} of {} bytes", self.index, chunk.length) });
        }
        self.short = chunk.length < self.cut.chunk_size;
        let frame = chunk.frame.as_ref();
        let frame_length = u32::try_from(frame.len())
            .map_err(|_| Error::Refused { reason: format!("frame of chunk {} is too long", self.index) })?;
        let number = self.segment_number;
        let segment = match self.segment.as_mut() {
            Some(segment) => segment,
            None => {
                let path = format!("data/{}/{}", self.name, segment_name(number));
                let file = HashedFile::begin_with(&*self.store, &path, self.protection.as_deref())?;
                if let (Some(_), Some(unfinished)) = (&self.journal, self.store.unfinished()) {
                    unfinished.sync_names(&path).map_err(|source| Error::write(&path, source))?;
                }
                self.segment.insert(Segment { file, seek_table: SeekTable::default(), length: 0, stored: 0 })
            }
        };
        let row = ChunkRow {
            index: self.index,
            offset: self.size,
            length: chunk.length,
            sha256: chunk.sha256,
            segment: number,
            frame_offset: segment.stored,
            frame_length,
        };
        segment.file.append(frame)?;
        segment.seek_table.push(frame_length, chunk.length);
        segment.length = segment.length.saturating_add(u64::from(chunk.length));
        segment.stored = segment.stored.saturating_add(u64::from(frame_length));
        let full = segment.length >= self.cut.segment_size;
        self.line.clear();
        row.write(&mut self.line);
        self.chunks.append(self.line.as_bytes())?;
        self.root.push(chunk.sha256.as_bytes());
        self.extend(chunk, gaps)?;
        self.index += 1;
        self.size = self.size.saturating_add(u64::from(chunk.length));
        if full {
            self.end_segment(true)?;
        }
        if self.journal.is_some() && self.size - self.marked >= self.mark_every {
            self.mark()?;
        }
        Ok(())
    }

    fn extend(&mut self, chunk: &EncodedChunk, gaps: &[Gap]) -> Result<()> {
        if gaps.is_empty() {
            let state = if chunk.is_zero { State::Zero } else { State::Data };
            return self.extent(u64::from(chunk.length), state, "");
        }
        let mut at = 0u32;
        for gap in gaps {
            let end = gap.start.checked_add(gap.length).filter(|&end| end <= chunk.length);
            let (true, Some(end)) = (gap.start >= at, end) else {
                return Err(Error::Refused {
                    reason: format!("gaps of chunk {} overlap or leave it", self.index),
                });
            };
            if matches!(gap.state, State::Data | State::Zero) {
                return Err(Error::Refused { reason: format!("a gap cannot be {}", gap.state) });
            }
            if !is_detail(&gap.detail) {
                return Err(Error::Refused {
                    reason: format!("gap detail {:?} does not fit a table", gap.detail),
                });
            }
            self.extent(u64::from(gap.start - at), State::Data, "")?;
            self.extent(u64::from(gap.length), gap.state, &gap.detail)?;
            at = end;
        }
        self.extent(u64::from(chunk.length - at), State::Data, "")
    }

    fn extent(&mut self, length: u64, state: State, detail: &str) -> Result<()> {
        self.states.add(state, length);
        let done = self.joiner.push(length, state, detail);
        self.write_extent(done)
    }

    fn write_extent(&mut self, extent: Option<super::extent::Extent>) -> Result<()> {
        let Some(extent) = extent else { return Ok(()) };
        self.line.clear();
        extent.write(&mut self.line);
        self.extents.append(self.line.as_bytes())
    }

    /// Ends the current segment. Waiting for the disk is left to a thread, so that the next segment can begin.
    fn end_segment(&mut self, full: bool) -> Result<()> {
        let Some(Segment { mut file, seek_table, .. }) = self.segment.take() else { return Ok(()) };
        file.append(&seek_table.to_frame())?;
        // Written here and not by the thread: no later segment may exist while bytes of this one are in memory only.
        file.end()?;
        self.settle()?;
        self.segment_number = self.segment_number.saturating_add(1);
        // A last segment may be one of a bundle that is taken up again, where another stream has the journal.
        let publish = full && self.journal.is_none();
        self.settling = Some(Settling { thread: thread::spawn(move || file.finish()), publish });
        Ok(())
    }

    /// Waits for the segment that is on its way to the disk.
    fn settle(&mut self) -> Result<()> {
        let Some(settling) = self.settling.take() else { return Ok(()) };
        let path = || format!("data/{}", self.name);
        let stored =
            settling.thread.join().map_err(|_| Error::write(&path(), std::io::ErrorKind::Other.into()))??;
        if settling.publish {
            publish(&*self.store, &stored.path)?;
        }
        self.segments.push(stored);
        Ok(())
    }

    /// Gives the stream up: what was gathered is written as far as it can be, under names that end in `.part`.
    pub fn abandon(mut self) {
        // What is on its way may be had again only by reading the source again.
        let _ = self.mark();
        let last = self.joiner.finish();
        // The cause is known already, and a full disk refuses this too.
        let _ = self.write_extent(last);
        let _ = self.chunks.end();
        let _ = self.extents.end();
        if let Some(segment) = self.segment.as_mut() {
            let _ = segment.file.end();
        }
        let _ = self.settle();
        if let Some(mut journal) = self.journal.take() {
            let _ = journal.settle();
        }
    }

    /// Ends the stream: its last segment and its tables get their names.
    ///
    /// `sha256` is of the whole stream, `sha256_data` of its `data` and `zero` extents. A catalogue's root, as
    /// [`super::CatalogWriter`] gives it, is for the caller to set.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn finish(
        mut self,
        sha256: Digest,
        sha256_data: Digest,
        catalog: Option<StoredFile>,
    ) -> Result<Stream> {
        self.mark()?;
        self.end_segment(false)?;
        self.settle()?;
        if let Some(mut journal) = self.journal.take() {
            journal.settle()?;
        }
        let last = self.joiner.finish();
        self.write_extent(last)?;
        let has_plain_tables = self.protection.is_some() && !self.chunks.is_encrypted();
        let (chunks, extents) = if has_plain_tables {
            let encrypt = |table| encrypt_table(&self.store, self.protection.as_deref(), table);
            (encrypt(self.chunks)?, encrypt(self.extents)?)
        } else {
            (self.chunks.finish()?, self.extents.finish()?)
        };
        Ok(Stream {
            catalog,
            catalog_root: None,
            chunk_root: self.root.root(),
            chunk_size: self.cut.chunk_size,
            chunks,
            extents,
            full_sha256: None,
            kind: self.kind,
            name: self.name,
            ranges: None,
            segments: self.segments,
            sha256,
            sha256_data,
            size: self.size,
            states: self.states,
        })
    }
}
