//! The check of a stream: stored frames, chunks, the whole stream, and its tables.
//!
//! Stored bytes are read once and in order. Chunks are hashed by the portable SHA-256, many at a time; the stored
//! files and the whole stream by the fast one, as they were when they were acquired.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::sync::Arc;

use zstd::bulk::Decompressor;

use super::Counts;
use super::findings::{FaultKind, Findings, Place};
use crate::bundle::{
    BundleStore, CatalogReader, ChunkRow, ChunkTable, Error as BundleError, Extent, SeekTable, State,
    StateBytes, StoreFile, StoredFile, Stream, Unopened, decode, is_zero, read_extents,
};
use crate::digest::{Digest, Hasher, sha256_portable};
use crate::error::Result;
use crate::merkle::{self, Frontier};

/// Bytes of chunks that are decoded together; three such batches are held at a time.
const BATCH: u64 = 32 << 20;
/// Files are read in pieces of this size.
const PIECE: usize = 1 << 20;

/// Size and SHA-256 of every file that was read through, by path.
pub(super) type FileHashes = BTreeMap<String, (u64, Digest)>;

/// Checks one stream of a bundle, and notes the hashes of the files it read.
pub(super) fn verify(
    store: &Arc<dyn BundleStore>,
    stream: &Stream,
    hashes: &mut FileHashes,
    findings: &mut Findings,
    counts: &mut Counts,
) -> Result<()> {
    let sizes: Vec<u64> = stream.segments.iter().map(|segment| segment.size).collect();
    let chunks = table(store, &stream.chunks, hashes, findings, |path, input| {
        ChunkTable::read(path, input, stream.chunk_size, stream.size, &sizes)
    });
    let extents =
        table(store, &stream.extents, hashes, findings, |path, input| read_extents(path, input, stream.size));
    for file in stream.ranges.iter().chain(&stream.catalog) {
        listed(&**store, file, hashes, findings);
    }
    if let Some(file) = &stream.catalog {
        catalog(store, file, stream, findings);
    }
    if let Some(extents) = &extents {
        let mut states = StateBytes::default();
        for extent in extents {
            states.add(extent.state, extent.length);
        }
        if states != stream.states {
            let words = format!("the states of stream {} are not those of its extents", stream.name);
            findings.fault(Place::file("manifest.json"), FaultKind::Manifest, words);
        }
    }
    // Rows of a table that is not the listed one say nothing; then the stored files are compared as such.
    let sound = |file: &StoredFile| hashes.get(&file.path) == Some(&(file.size, file.sha256));
    let (Some(table), true) = (chunks, sound(&stream.chunks)) else {
        for segment in &stream.segments {
            listed(&**store, segment, hashes, findings);
        }
        return Ok(());
    };
    if merkle::root_of(table.hashes().iter().map(Digest::as_bytes)) != stream.chunk_root {
        let words = format!("chunk_root of stream {} is not the root over its table of chunks", stream.name);
        findings.fault(Place::file("manifest.json"), FaultKind::Manifest, words);
    }
    chunk_pass(store, stream, &table, extents.as_deref(), hashes, findings, counts);
    Ok(())
}

/// Hashes a file and compares it with what the manifest says of it.
pub(super) fn listed(
    store: &dyn BundleStore,
    file: &StoredFile,
    hashes: &mut FileHashes,
    findings: &mut Findings,
) {
    match hash_file(store, &file.path) {
        Ok(found) => {
            hashes.insert(file.path.clone(), found);
            compare(file, found, findings);
        }
        Err(error) => unreadable(&file.path, &error, findings),
    }
}

fn compare(file: &StoredFile, (size, sha256): (u64, Digest), findings: &mut Findings) {
    if size != file.size {
        let words = format!("it has {size} bytes and the manifest lists {}", file.size);
        findings.fault(Place::file(&file.path), FaultKind::Changed, words);
    } else if sha256 != file.sha256 && !findings.names(&file.path) {
        let words = format!("its SHA-256 is {sha256} and the manifest lists {}", file.sha256);
        findings.fault(Place::file(&file.path), FaultKind::Changed, words);
    }
}

pub(super) fn unreadable(path: &str, error: &io::Error, findings: &mut Findings) {
    if error.kind() == io::ErrorKind::NotFound {
        findings.fault(Place::file(path), FaultKind::Missing, "it is listed and not there");
    } else {
        findings.fault(Place::file(path), FaultKind::Unreadable, format!("it could not be read: {error}"));
    }
}

/// Size and SHA-256 of a file.
pub(super) fn hash_file(store: &dyn BundleStore, path: &str) -> io::Result<(u64, Digest)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0u64;
    loop {
        let read = store.read_at(path, at, &mut buffer)?;
        hasher.update(buffer.get(..read).unwrap_or_default());
        at = at.saturating_add(read as u64);
        if read < buffer.len() {
            return Ok((at, hasher.finish()));
        }
    }
}

/// Hashes a table and reads it; its first bad line is a fault.
fn table<T>(
    store: &Arc<dyn BundleStore>,
    file: &StoredFile,
    hashes: &mut FileHashes,
    findings: &mut Findings,
    read: impl FnOnce(&str, &mut dyn io::BufRead) -> Result<T, BundleError>,
) -> Option<T> {
    match hash_file(&**store, &file.path) {
        Err(error) => {
            unreadable(&file.path, &error, findings);
            return None;
        }
        Ok(found) => hashes.insert(file.path.clone(), found),
    };
    let mut input = BufReader::with_capacity(64 << 10, StoreFile::new(Arc::clone(store), &file.path));
    let table = match read(&file.path, &mut input) {
        Ok(table) => Some(table),
        Err(error) => {
            table_fault(&file.path, &error, findings);
            None
        }
    };
    if let Some(found) = hashes.get(&file.path) {
        compare(file, *found, findings);
    }
    table
}

fn table_fault(path: &str, error: &BundleError, findings: &mut Findings) {
    let (place, words) = match error {
        BundleError::Table { line, reason, .. } => {
            (Place { line: Some(*line), ..Place::file(path) }, reason.clone())
        }
        other => (Place::file(path), other.to_string()),
    };
    findings.fault(place, FaultKind::Table, words);
}

fn catalog(store: &Arc<dyn BundleStore>, file: &StoredFile, stream: &Stream, findings: &mut Findings) {
    let mut tree = Frontier::new();
    let mut reader = CatalogReader::new(Arc::clone(store), file, stream.size);
    while let Some(entry) = reader.next() {
        match entry {
            Ok(_) => tree.push(reader.line()),
            // Already found by its hash.
            Err(BundleError::Altered { .. } | BundleError::Read { .. }) if findings.names(&file.path) => {}
            Err(error) => table_fault(&file.path, &error, findings),
        }
    }
    if stream.catalog_root.is_some_and(|root| root != tree.root()) && !findings.names(&file.path) {
        let words = format!("its lines give the root {}, and the manifest says another", tree.root());
        findings.fault(Place::file(&file.path), FaultKind::Table, words);
    }
}

/// A chunk's stored bytes on their way to a decoder.
struct StoredChunk {
    row: ChunkRow,
    frame: Vec<u8>,
}

/// A chunk as it was decoded, or what is wrong with it.
struct DecodedChunk {
    row: ChunkRow,
    data: Result<Vec<u8>, String>,
}

fn chunk_pass(
    store: &Arc<dyn BundleStore>,
    stream: &Stream,
    table: &ChunkTable,
    extents: Option<&[Extent]>,
    hashes: &mut FileHashes,
    findings: &mut Findings,
    counts: &mut Counts,
) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut reader = FrameReader { store: &**store, stream, table, next: 0, segment: None, whole: true };
    let mut whole = WholeStream::new(extents);
    let mut stored = reader.batch(hashes, findings);
    let mut decoded: Vec<DecodedChunk> = Vec::new();
    while !stored.is_empty() || !decoded.is_empty() {
        // Three things at once: this batch is decoded, the one before goes into the stream's hash, the next is read.
        let (next_decoded, next_stored) = std::thread::scope(|scope| {
            let hashing = scope.spawn(|| whole.take_in(&decoded));
            let share = stored.len().div_ceil(workers).max(1);
            let decoding: Vec<_> =
                stored.chunks(share).map(|part| scope.spawn(move || decode_chunks(part))).collect();
            let next = reader.batch(hashes, findings);
            let done = decoding.into_iter().flat_map(|part| finished(part.join())).collect::<Vec<_>>();
            finished(hashing.join());
            (done, next)
        });
        for chunk in &next_decoded {
            counts.chunks += 1;
            counts.stream_bytes = counts.stream_bytes.saturating_add(u64::from(chunk.row.length));
            if let Err(words) = &chunk.data {
                let start = chunk.row.offset;
                let place = Place {
                    chunk: Some(chunk.row.index),
                    bytes: Some((start, start.saturating_add(u64::from(chunk.row.length)))),
                    ..Place::file(segment_path(stream, chunk.row.segment))
                };
                findings.fault(place, FaultKind::Chunk, words.clone());
            }
        }
        decoded = next_decoded;
        stored = next_stored;
    }
    reader.end_segment(hashes, findings);
    for file in &stream.segments {
        if let Some(found) = hashes.get(&file.path) {
            compare(file, *found, findings);
        }
    }
    if reader.whole {
        whole.compare(stream, findings);
    }
}

/// Gives a thread's result, or goes on with its panic.
fn finished<T>(joined: std::thread::Result<T>) -> T {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn decode_chunks(stored: &[StoredChunk]) -> Vec<DecodedChunk> {
    let mut decompressor = Decompressor::new().map_err(|error| error.to_string());
    let check = |chunk: &StoredChunk| {
        let decompressor = decompressor.as_mut().map_err(|error| error.clone())?;
        if chunk.frame.len() != chunk.row.frame_length as usize {
            return Err("its segment ends within its frame".to_owned());
        }
        let data = decode(decompressor, &chunk.frame, chunk.row.length)
            .map_err(|error| format!("its frame cannot be decoded: {error}"))?;
        match sha256_portable(&data) {
            found if found == chunk.row.sha256 => Ok(data),
            found => Err(format!("its SHA-256 is {found} and the table lists {}", chunk.row.sha256)),
        }
    };
    let mut check = check;
    stored.iter().map(|chunk| DecodedChunk { row: chunk.row.clone(), data: check(chunk) }).collect()
}

/// Reads the stored frames in order, and hashes each stored file as a whole on the way.
struct FrameReader<'a> {
    store: &'a dyn BundleStore,
    stream: &'a Stream,
    table: &'a ChunkTable,
    next: u64,
    segment: Option<OpenSegment>,
    /// Whether every chunk could be read so far.
    whole: bool,
}

struct OpenSegment {
    number: u32,
    at: u64,
    hasher: Hasher,
    seek_table: SeekTable,
    readable: bool,
    /// Whether a part of its ciphertext cannot be decrypted, so that it has no hash.
    damaged: bool,
}

impl FrameReader<'_> {
    fn batch(&mut self, hashes: &mut FileHashes, findings: &mut Findings) -> Vec<StoredChunk> {
        let mut batch = Vec::new();
        let mut bytes = 0u64;
        while bytes < BATCH {
            let Some(row) = self.table.row(self.next) else { break };
            self.next += 1;
            if self.segment.as_ref().is_none_or(|segment| segment.number != row.segment) {
                self.end_segment(hashes, findings);
                self.begin_segment(row.segment, findings);
            }
            let path = segment_path(self.stream, row.segment);
            let Some(segment) = self.segment.as_mut().filter(|segment| segment.readable) else {
                self.whole = false;
                continue;
            };
            let mut frame = vec![0; row.frame_length as usize];
            match self.store.read_at(path, row.frame_offset, &mut frame) {
                Ok(read) => frame.truncate(read),
                // A block of ciphertext is lost, not the segment: the chunks in other blocks are still there.
                Err(error) if Unopened::is_damage(&error) => {
                    let end = row.offset.saturating_add(u64::from(row.length));
                    let (chunk, bytes) = (Some(row.index), Some((row.offset, end)));
                    findings.fault(
                        Place { chunk, bytes, ..Place::file(path) },
                        FaultKind::Chunk,
                        error.to_string(),
                    );
                    self.whole = false;
                    segment.damaged = true;
                    continue;
                }
                Err(error) => {
                    unreadable(path, &error, findings);
                    segment.readable = false;
                    self.whole = false;
                    continue;
                }
            }
            segment.hasher.update(&frame);
            segment.at = segment.at.saturating_add(frame.len() as u64);
            segment.seek_table.push(row.frame_length, row.length);
            bytes = bytes.saturating_add(u64::from(row.length));
            batch.push(StoredChunk { row, frame });
        }
        batch
    }

    fn begin_segment(&mut self, number: u32, findings: &mut Findings) {
        let path = segment_path(self.stream, number);
        let readable = match self.store.size_of(path) {
            Ok(_) => true,
            Err(error) => {
                unreadable(path, &error, findings);
                false
            }
        };
        let (hasher, seek_table) = (Hasher::new(), SeekTable::default());
        self.segment = Some(OpenSegment { number, at: 0, hasher, seek_table, readable, damaged: false });
    }

    /// Reads what follows the frames: the seek table, and nothing else.
    fn end_segment(&mut self, hashes: &mut FileHashes, findings: &mut Findings) {
        let sound = |segment: &OpenSegment| segment.readable && !segment.damaged;
        let Some(mut segment) = self.segment.take().filter(sound) else { return };
        let path = segment_path(self.stream, segment.number);
        let expected = segment.seek_table.to_frame();
        let frames_end = segment.at;
        let mut buffer = vec![0; PIECE.max(expected.len())];
        let mut fits = true;
        loop {
            let read = match self.store.read_at(path, segment.at, &mut buffer) {
                Ok(read) => read,
                Err(error) => {
                    self.whole = false;
                    return unreadable(path, &error, findings);
                }
            };
            let piece = buffer.get(..read).unwrap_or_default();
            if segment.at == frames_end {
                fits = piece == expected;
            }
            segment.hasher.update(piece);
            segment.at = segment.at.saturating_add(read as u64);
            if read < buffer.len() {
                break;
            }
            fits = false;
        }
        if !fits && !findings.names(path) {
            let place = Place { bytes: Some((frames_end, segment.at)), ..Place::file(path) };
            findings.fault(place, FaultKind::Changed, "what follows its frames is not their seek table");
        }
        hashes.insert(path.to_owned(), (segment.at, segment.hasher.finish()));
    }
}

fn segment_path(stream: &Stream, number: u32) -> &str {
    stream.segments.get(number as usize).map_or("", |segment| segment.path.as_str())
}

/// The hash of the whole stream, and of what was read from the source only.
struct WholeStream<'a> {
    sha256: Hasher,
    sha256_data: Hasher,
    extents: Option<&'a [Extent]>,
    extent: usize,
    /// Ranges that must read as zeros, or were said to be read as such, and do not.
    not_zero: Vec<(u64, u64, State)>,
    broken: bool,
}

impl<'a> WholeStream<'a> {
    fn new(extents: Option<&'a [Extent]>) -> Self {
        let (sha256, sha256_data) = (Hasher::new(), Hasher::new());
        Self { sha256, sha256_data, extents, extent: 0, not_zero: Vec::new(), broken: false }
    }

    fn take_in(&mut self, chunks: &[DecodedChunk]) {
        for chunk in chunks {
            let Ok(data) = &chunk.data else {
                self.broken = true;
                continue;
            };
            self.sha256.update(data);
            self.by_extents(chunk.row.offset, data);
        }
    }

    fn by_extents(&mut self, mut at: u64, mut data: &[u8]) {
        let Some(extents) = self.extents else { return };
        while let Some(extent) = extents.get(self.extent).filter(|_| !data.is_empty()) {
            let left = usize::try_from(extent.end().saturating_sub(at)).unwrap_or(usize::MAX);
            let (part, rest) = data.split_at(left.min(data.len()));
            if matches!(extent.state, State::Data | State::Zero) {
                self.sha256_data.update(part);
            }
            if extent.state != State::Data && !is_zero(part) && self.not_zero.len() < 100 {
                self.not_zero.push((at, at.saturating_add(part.len() as u64), extent.state));
            }
            at = at.saturating_add(part.len() as u64);
            data = rest;
            if at >= extent.end() {
                self.extent += 1;
            }
        }
    }

    fn compare(self, stream: &Stream, findings: &mut Findings) {
        if self.broken {
            return;
        }
        let found = self.sha256.finish();
        let place =
            || Place { bytes: Some((0, stream.size)), ..Place::file(format!("data/{}", stream.name)) };
        if found != stream.sha256 {
            let words =
                format!("the whole stream has SHA-256 {found} and the manifest lists {}", stream.sha256);
            findings.fault(place(), FaultKind::Stream, words);
        }
        if self.extents.is_none() {
            return;
        }
        let found = self.sha256_data.finish();
        if found != stream.sha256_data {
            let words =
                format!("what was read has SHA-256 {found} and the manifest lists {}", stream.sha256_data);
            findings.fault(place(), FaultKind::Stream, words);
        }
        for (start, end, state) in self.not_zero {
            let place = Place { bytes: Some((start, end)), ..Place::file(&stream.extents.path) };
            findings.fault(place, FaultKind::Table, format!("bytes listed as {state} are not zeros"));
        }
    }
}
