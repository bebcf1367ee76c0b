//! Takes up a stream that was cut short: what its journal vouches for is hashed again, the rest is discarded.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use zstd::bulk::Decompressor;

use super::error::{Error, Result};
use super::extent::{Extent, ExtentJoiner, State, StateBytes};
use super::frame::{SeekTable, decode};
use super::journal::{JOURNAL, Journal, Mark, SealedSegment, each_mark, last_mark};
use super::manifest::StoredFile;
use super::protection::{ENDING, Recipients};
use super::reader::Hashing;
use super::seal::{hash, publish};
use super::store::{BundleStore, StoreFile, Unfinished};
use super::tables::{ChunkTable, read_extents, segment_name};
use super::writer::{Cut, HashedFile, Segment, StreamWriter};
use crate::digest::{Digest, Hasher, PortableHasher, sha256};
use crate::merkle::Frontier;
use crate::twin_hash::TwinHasher;

/// Files that an interrupted seal may have left, and that the next one writes again.
const OF_THE_SEAL: [&str; 5] =
    ["keys/signer.pub.pem", "VERIFY.md", "manifest.json", "manifest.json.sig", "SHA256SUMS"];

/// A stream that goes on.
#[derive(Debug)]
pub struct Resumed {
    /// Goes on behind the last byte that was trusted.
    pub writer: StreamWriter,
    /// Hashes of the stream so far.
    pub hashes: StreamHashes,
    /// Its extents so far.
    pub extents: Vec<Extent>,
    /// Some of its chunks that were read whole, the last among them.
    pub samples: Vec<Sample>,
}

/// The hash of a whole stream so far, and that of its `data` and `zero` extents; `None` while that is the same.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one a stream")]
pub enum StreamHashes {
    /// By the fast implementation, which cannot tell where it stands.
    Fast(TwinHasher, Option<TwinHasher>),
    /// By the one whose state can be kept: of streams that cannot be hashed again, being encrypted or in a store that is not
    /// read.
    Kept(PortableHasher, Option<PortableHasher>),
}

impl StreamHashes {
    /// Of nothing yet. `kept` are the hashes of a stream that keeps a journal and cannot be hashed again.
    #[must_use]
    pub fn new(kept: bool) -> Self {
        if kept { Self::Kept(PortableHasher::new(), None) } else { Self::Fast(TwinHasher::new(), None) }
    }
}

/// A stored chunk, to be compared with the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    /// Their SHA-256.
    pub sha256: Digest,
}

/// How many chunks of a stream that goes on are compared with the source, besides its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// One in so many.
    pub one_in: u64,
    /// No fewer, where there are as many.
    pub least: u64,
    /// No more.
    pub most: u64,
}

impl Samples {
    /// Sixteen: for sources that stay at hand.
    pub const A_FEW: Self = Self { one_in: u64::MAX, least: 16, most: 16 };
    /// One in a hundred, from 16 to 1024 of them.
    pub const ONE_IN_A_HUNDRED: Self = Self { one_in: 100, least: 16, most: 1024 };
}

/// How a stream is taken up that was cut short.
#[derive(Debug, Clone)]
pub struct Resume<'a> {
    /// Name of the stream.
    pub name: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// How it is cut: as it was before.
    pub cut: Cut,
    /// Whom it is encrypted to: the same as before.
    pub protection: Option<Arc<Recipients>>,
    /// Bytes between two marks of the journal.
    pub mark_every: u64,
    /// How much is compared with the source.
    pub samples: Samples,
}

/// Bytes of a bundle's stream that its journal vouches for.
///
/// # Errors
///
/// [`Error::Read`].
pub fn journaled_bytes(store: &Arc<dyn BundleStore>) -> Result<u64> {
    Ok(last_mark(store)?.map_or(0, |mark| mark.size))
}

impl StreamWriter {
    /// Goes on with a stream behind what its journal vouches for, all of which is decompressed and hashed again.
    ///
    /// Stored bytes behind that, and what an interrupted seal left, are removed. `progress` is told of each chunk's
    /// bytes. Without a mark in the journal the stream begins anew.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where the journal is of another stream or cut, or the store cannot take files up again;
    /// [`Error::Chunk`] or [`Error::Table`] where what was stored is damaged, so that nothing may be built on it.
    pub fn resume(
        store: Arc<dyn BundleStore>,
        resume: Resume<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Resumed> {
        resume.cut.check()?;
        let (mut mark, mut sealed) = (None, Vec::new());
        each_mark(&store, |next| {
            sealed.extend(next.sealed.clone());
            mark = Some(next);
        })?;
        let unfinished = store.unfinished().ok_or_else(|| Error::Refused {
            reason: "this store cannot take up a stream that was cut short".to_owned(),
        })?;
        for path in OF_THE_SEAL {
            discard(unfinished, path)?;
        }
        let is_encrypted = resume.protection.is_some();
        let keeps_hashes = is_encrypted || store.write_only().is_some();
        if is_encrypted {
            for ending in ["chunks.tsv", "extents.tsv"] {
                discard(unfinished, &format!("data/{}.{ending}{ENDING}", resume.name))?;
            }
        }
        let Some(mark) = mark else {
            discard_segments(unfinished, &resume, 0)?;
            for ending in ["chunks.tsv", "extents.tsv"] {
                discard(unfinished, &format!("data/{}.{ending}", resume.name))?;
            }
            let Resume { name, kind, cut, protection, mark_every, .. } = resume;
            let writer = StreamWriter::begin_with_journal(
                Arc::clone(&store),
                name,
                kind,
                cut,
                protection,
                mark_every,
            )?;
            let hashes = StreamHashes::new(keeps_hashes);
            return Ok(Resumed { writer, hashes, extents: Vec::new(), samples: Vec::new() });
        };
        let fits = mark.stream == resume.name
            && mark.kind == resume.kind
            && mark.chunk_size == resume.cut.chunk_size
            && mark.segment_size == resume.cut.segment_size
            && (mark.size == 0 || mark.sealed.is_some() == keeps_hashes);
        if !fits {
            return Err(Error::Refused {
                reason: format!(
                    "the journal is of stream {:?}, in other chunks or segments, or encrypted otherwise",
                    mark.stream
                ),
            });
        }
        Stored { store: &store, unfinished, mark, sealed, resume }.take_up(progress)
    }
}

/// What lies in the store of a stream that was cut short.
struct Stored<'a> {
    store: &'a Arc<dyn BundleStore>,
    unfinished: &'a dyn Unfinished,
    mark: Mark,
    /// Segments of an encrypted stream, as their marks name them.
    sealed: Vec<SealedSegment>,
    resume: Resume<'a>,
}

impl Stored<'_> {
    fn take_up(&self, progress: &mut dyn FnMut(u64)) -> Result<Resumed> {
        let (mark, name) = (&self.mark, self.resume.name);
        let begun = u32::from(mark.segment_bytes > 0);
        discard_segments(self.unfinished, &self.resume, mark.segments.saturating_add(begun))?;
        let (chunks, extents) = (self.table_path("chunks.tsv"), self.table_path("extents.tsv"));
        let (rows, chunks_hash) = self.table(&chunks, mark.chunks_bytes, |input| self.rows(input))?;
        let ((extents_so_far, joiner), extents_hash) =
            self.table(&extents, mark.extents_bytes, |input| self.extents(input))?;
        let (segments, segment, root, hashes) = if self.keeps_hashes() {
            let (segments, hashes) = self.sealed_segments(progress)?;
            let mut root = Frontier::default();
            (0..rows.count()).filter_map(|at| rows.row(at)).for_each(|row| root.push(row.sha256.as_bytes()));
            (segments, None, root, hashes)
        } else {
            self.hash_again(&rows, &extents_so_far, begun, progress)?
        };
        let samples = samples(&rows, &extents_so_far, self.resume.samples)?;
        let mut states = StateBytes::default();
        for extent in &extents_so_far {
            states.add(extent.state, extent.length);
        }
        let writer = StreamWriter {
            store: Arc::clone(self.store),
            protection: self.resume.protection.clone(),
            name: name.to_owned(),
            kind: mark.kind.clone(),
            cut: self.resume.cut,
            segment,
            segments,
            settling: None,
            segment_number: mark.segments,
            chunks: HashedFile::resume(self.unfinished, &chunks, mark.chunks_bytes, chunks_hash)?,
            extents: HashedFile::resume(self.unfinished, &extents, mark.extents_bytes, extents_hash)?,
            joiner,
            states,
            root,
            index: rows.count(),
            size: mark.size,
            short: !mark.size.is_multiple_of(u64::from(mark.chunk_size)),
            line: String::new(),
            journal: Journal::open(&**self.store)?,
            mark_every: self.resume.mark_every,
            marked: mark.size,
        };
        Ok(Resumed { writer, hashes, extents: extents_so_far, samples })
    }

    /// Decompresses every segment, and hashes everything in it again.
    fn hash_again(
        &self,
        rows: &ChunkTable,
        extents: &[Extent],
        begun: u32,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Vec<StoredFile>, Option<Segment>, Frontier, StreamHashes)> {
        let mut rehash = Rehash {
            whole: TwinHasher::new(),
            data: None,
            root: Frontier::default(),
            extents,
            next_extent: 0,
            decompressor: Decompressor::new().map_err(|source| Error::write(JOURNAL, source))?,
        };
        let mut segments = Vec::new();
        let mut segment = None;
        let mut index = 0u64;
        for number in 0..self.mark.segments.saturating_add(begun) {
            let again = self.segment(number, rows, &mut index, &mut rehash, progress)?;
            if number < self.mark.segments {
                segments.push(again.finished(self)?);
            } else {
                segment = Some(again.reopened(self)?);
            }
        }
        let Rehash { whole, data, root, .. } = rehash;
        Ok((segments, segment, root, StreamHashes::Fast(whole, data)))
    }

    fn keeps_hashes(&self) -> bool {
        self.resume.protection.is_some() || self.store.write_only().is_some()
    }

    /// Compares every encrypted segment with its hash in the journal; what is inside cannot be read again. Of a store that
    /// is not read the journal alone can tell: a segment stands in it once the store has the whole of it.
    fn sealed_segments(&self, progress: &mut dyn FnMut(u64)) -> Result<(Vec<StoredFile>, StreamHashes)> {
        let wrong = |reason: &str| Error::Refused { reason: format!("the journal {reason}") };
        let hashes = match self.sealed.last() {
            None => StreamHashes::new(true),
            Some(last) => {
                let (whole, data) = last.hashes.take_up()?;
                StreamHashes::Kept(whole, data)
            }
        };
        let files: Vec<_> = self.sealed.iter().map(|sealed| sealed.file.clone()).collect();
        if files.len() != self.mark.segments as usize {
            return Err(wrong("does not name every segment"));
        }
        for (number, file) in (0u32..).zip(&files) {
            let ending = if self.resume.protection.is_some() { ENDING } else { "" };
            if file.path != format!("{}{ending}", self.segment_path(number)) {
                return Err(wrong("names a segment that cannot be"));
            }
            if self.store.write_only().is_some() {
                publish(&**self.store, &file.path)?;
                progress(self.resume.cut.segment_size);
                continue;
            }
            let found = hash(self.store, &file.path)?;
            if (found.size, found.sha256) != (file.size, file.sha256) {
                return Err(Error::Altered {
                    path: file.path.clone(),
                    expected: format!("{} bytes, SHA-256 {}", file.size, file.sha256),
                    found: format!("{} bytes, SHA-256 {}", found.size, found.sha256),
                });
            }
            progress(self.resume.cut.segment_size);
        }
        Ok((files, hashes))
    }

    fn table_path(&self, ending: &str) -> String {
        format!("data/{}.{ending}", self.resume.name)
    }

    /// Reads a table up to its mark, and hashes it.
    fn table<T>(
        &self,
        path: &str,
        length: u64,
        read: impl FnOnce(&mut dyn BufRead) -> Result<T>,
    ) -> Result<(T, Hasher)> {
        let place = self.unfinished.path_of(path).map_err(|source| Error::read(path, source))?;
        let file = StoreFile::new(Arc::clone(self.store), &place).take(length);
        let mut input = BufReader::with_capacity(64 << 10, Hashing::new(file));
        let table = read(&mut input)?;
        let (hasher, read) = input.into_inner().into_parts();
        if read != length {
            return Err(Error::table(path, 0, format!("{read} bytes where {length} were synced")));
        }
        Ok((table, hasher))
    }

    /// The rows of the table of chunks, checked as a reader of the bundle checks them.
    fn rows(&self, input: &mut dyn BufRead) -> Result<ChunkTable> {
        let mark = &self.mark;
        let mut sizes = Vec::new();
        if self.keeps_hashes() {
            let inside = |file: &StoredFile| file.plain.as_ref().map_or(file.size, |plain| plain.size);
            sizes.extend(self.sealed.iter().map(|sealed| inside(&sealed.file)));
        } else {
            for number in 0..mark.segments {
                let path = self.segment_path(number);
                let place = self.unfinished.path_of(&path).map_err(|source| Error::read(&path, source))?;
                sizes.push(self.store.size_of(&place).map_err(|source| Error::read(&path, source))?);
            }
        }
        sizes.extend((mark.segment_bytes > 0).then_some(mark.segment_bytes));
        ChunkTable::read(&self.table_path("chunks.tsv"), input, mark.chunk_size, mark.size, &sizes)
    }

    /// All extents so far, and the joiner that the last of them may still grow in.
    fn extents(&self, input: &mut dyn BufRead) -> Result<(Vec<Extent>, ExtentJoiner)> {
        let (size, open) = (self.mark.size, self.mark.open_extent.as_ref());
        let written = size.saturating_sub(open.map_or(0, |open| open.length));
        let mut all = read_extents(&self.table_path("extents.tsv"), input, written)?;
        let mut joiner = ExtentJoiner::behind(written);
        if let Some(open) = open {
            let state: State = open
                .state
                .parse()
                .map_err(|error| Error::Refused { reason: format!("the journal has an {error}") })?;
            joiner.push(open.length, state, &open.detail);
            all.extend(joiner.open().cloned());
        }
        Ok((all, joiner))
    }

    fn segment_path(&self, number: u32) -> String {
        format!("data/{}/{}", self.resume.name, segment_name(number))
    }

    /// Reads the frames of a segment again, and compares every chunk with its hash in the table.
    fn segment(
        &self,
        number: u32,
        rows: &ChunkTable,
        index: &mut u64,
        rehash: &mut Rehash<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<SegmentAgain> {
        let path = self.segment_path(number);
        let place = self.unfinished.path_of(&path).map_err(|source| Error::read(&path, source))?;
        let mut input = BufReader::with_capacity(1 << 20, StoreFile::new(Arc::clone(self.store), &place));
        let mut again = SegmentAgain {
            path,
            place,
            hasher: Hasher::new(),
            seek_table: SeekTable::default(),
            length: 0,
            stored: 0,
        };
        let mut frame = Vec::new();
        while let Some(row) = rows.row(*index).filter(|row| row.segment == number) {
            let damaged = |reason: String| Error::Chunk {
                stream: self.resume.name.to_owned(),
                index: row.index,
                start: row.offset,
                end: row.offset.saturating_add(u64::from(row.length)),
                reason,
            };
            // The table bounds a frame's length by that of its chunk.
            frame.resize(row.frame_length as usize, 0);
            input.read_exact(&mut frame).map_err(|error| damaged(error.to_string()))?;
            let chunk = decode(&mut rehash.decompressor, &frame, row.length).map_err(&damaged)?;
            let found = sha256(&chunk);
            if found != row.sha256 {
                return Err(damaged(format!("SHA-256 is {found} instead of {}", row.sha256)));
            }
            rehash.take(row.offset, &chunk);
            rehash.root.push(found.as_bytes());
            again.hasher.update(&frame);
            again.seek_table.push(row.frame_length, row.length);
            again.length = again.length.saturating_add(u64::from(row.length));
            again.stored = again.stored.saturating_add(u64::from(row.frame_length));
            *index += 1;
            progress(u64::from(row.length));
        }
        Ok(again)
    }
}

/// The hashes of a stream, taken again.
struct Rehash<'a> {
    whole: TwinHasher,
    data: Option<TwinHasher>,
    root: Frontier,
    extents: &'a [Extent],
    next_extent: usize,
    decompressor: Decompressor<'static>,
}

impl Rehash<'_> {
    fn take(&mut self, offset: u64, chunk: &[u8]) {
        let end = offset.saturating_add(chunk.len() as u64);
        let was_read = |extent: &Extent| matches!(extent.state, State::Data | State::Zero);
        while self.extents.get(self.next_extent).is_some_and(|extent| extent.end() <= offset) {
            self.next_extent += 1;
        }
        let here = || {
            let from = self.extents.get(self.next_extent..).unwrap_or_default();
            from.iter().take_while(move |extent| extent.start < end)
        };
        if self.data.is_none() && !here().all(was_read) {
            self.data = Some(self.whole.clone());
        }
        self.whole.update(chunk);
        let Some(mut data) = self.data.take() else { return };
        for extent in here().filter(|extent| was_read(extent)) {
            let from = extent.start.max(offset) - offset;
            let to = extent.end().min(end) - offset;
            if let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) {
                data.update(chunk.get(from..to).unwrap_or_default());
            }
        }
        self.data = Some(data);
    }
}

/// A segment whose frames were read again.
struct SegmentAgain {
    path: String,
    /// Where its bytes are now.
    place: String,
    hasher: Hasher,
    seek_table: SeekTable,
    length: u64,
    stored: u64,
}

impl SegmentAgain {
    /// It was complete: behind its frames lies its seek table and nothing else.
    fn finished(self, stored: &Stored<'_>) -> Result<StoredFile> {
        let table = self.seek_table.to_frame();
        let mut found = vec![0; table.len().saturating_add(1)];
        let read = stored
            .store
            .read_at(&self.place, self.stored, &mut found)
            .map_err(|source| Error::read(&self.path, source))?;
        if found.get(..read) != Some(table.as_slice()) {
            return Err(Error::read(
                &self.path,
                io::Error::new(io::ErrorKind::InvalidData, "its frames are not followed by their seek table"),
            ));
        }
        let Self { path, mut hasher, .. } = self;
        hasher.update(&table);
        let size = self.stored.saturating_add(table.len() as u64);
        if self.place != path {
            // Complete and synced, but killed before it got its name.
            let file = HashedFile::resume(stored.unfinished, &path, size, hasher)?;
            return file.finish();
        }
        Ok(StoredFile { path, plain: None, sha256: hasher.finish(), size })
    }

    fn reopened(self, stored: &Stored<'_>) -> Result<Segment> {
        let Self { path, hasher, seek_table, length, stored: bytes, .. } = self;
        let file = HashedFile::resume(stored.unfinished, &path, bytes, hasher)?;
        Ok(Segment { file, seek_table, length, stored: bytes })
    }
}

/// Keeps other processes from acquiring into the same bundle while the file that is given back is held.
///
/// `None` where the store cannot take up unfinished files, so that nobody else would.
///
/// # Errors
///
/// [`Error::Write`]; of kind [`io::ErrorKind::WouldBlock`] if another process holds it.
pub fn lock_journal(store: &dyn BundleStore) -> Result<Option<std::fs::File>> {
    let Some(unfinished) = store.unfinished() else { return Ok(None) };
    let failed = |source| Error::write(JOURNAL, source);
    let file = unfinished.open_to_append(JOURNAL).map_err(failed)?;
    // A process that was just started by the one before may hold its descriptors for a moment.
    let mut patience = 25;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Removes the journal of a bundle that is sealed now.
///
/// # Errors
///
/// [`Error::Write`].
pub fn remove_journal(store: &dyn BundleStore) -> Result<()> {
    store.unfinished().map_or(Ok(()), |unfinished| discard(unfinished, JOURNAL).map(|_| ()))
}

/// Chunks spread over a stream, each by chance within its part of it, without those that could not be read whole.
fn samples(rows: &ChunkTable, extents: &[Extent], wanted: Samples) -> Result<Vec<Sample>> {
    let count = rows.count();
    let parts = (count / wanted.one_in.max(1)).clamp(wanted.least, wanted.most.max(wanted.least)).min(count);
    let at = |step: u64| (u128::from(count) * u128::from(step) / u128::from(parts.max(1))) as u64;
    let mut indices = Vec::new();
    for step in 0..parts {
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).map_err(|error| Error::Refused {
            reason: format!("the system gives no random number: {error}"),
        })?;
        let (first, end) = (at(step), at(step + 1));
        indices.push(first + u64::from_le_bytes(chance) % end.saturating_sub(first).max(1));
    }
    indices.extend(count.checked_sub(1));
    indices.dedup();
    let was_read = |start: u64, end: u64| {
        let first = extents.partition_point(|extent| extent.end() <= start);
        let here = extents.get(first..).unwrap_or_default().iter().take_while(|extent| extent.start < end);
        here.into_iter().all(|extent| matches!(extent.state, State::Data | State::Zero))
    };
    Ok(indices
        .into_iter()
        .filter_map(|index| rows.row(index))
        .filter(|row| was_read(row.offset, row.offset.saturating_add(u64::from(row.length))))
        .map(|row| Sample { offset: row.offset, length: row.length, sha256: row.sha256 })
        .collect())
}

fn discard(unfinished: &dyn Unfinished, path: &str) -> Result<bool> {
    unfinished.discard(path).map_err(|source| Error::write(path, source))
}

/// Removes the segments from `first` on; they follow each other without a hole.
fn discard_segments(unfinished: &dyn Unfinished, resume: &Resume<'_>, first: u32) -> Result<()> {
    let ending = if resume.protection.is_some() { ENDING } else { "" };
    for number in first..=u32::MAX {
        if !discard(unfinished, &format!("data/{}/{}{ending}", resume.name, segment_name(number)))? {
            break;
        }
    }
    Ok(())
}
