//! Reads any range of any stream of a sealed bundle, from any thread.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use zstd::bulk::Decompressor;

use super::catalog::CatalogReader;
use super::error::{Error, Result};
use super::extent::{Extent, State, StateBytes};
use super::frame::decode;
use super::manifest::{StoredFile, Stream};
use super::opening::Shared;
use super::protection::Unopened;
use super::store::{BundleStore, StoreFile};
use super::tables::{ChunkRow, ChunkTable, read_extents};
use crate::digest::{Digest, Hasher, sha256};
use crate::merkle;

/// Proof that a chunk belongs to a stream, for a reader who knows only the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkProof {
    /// Number of the chunk.
    pub index: u64,
    /// SHA-256 of the chunk: the data of its leaf.
    pub sha256: Digest,
    /// The RFC 6962 path from the leaf to `chunk_root`, lowest first.
    pub path: Vec<Digest>,
    /// How many chunks the tree has.
    pub tree_size: u64,
    /// The root in the manifest.
    pub chunk_root: Digest,
}

/// Reads one stream of a bundle. Cheap to clone, and safe to use from many threads.
#[derive(Debug, Clone)]
pub struct StreamReader {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    number: usize,
    stream: Stream,
    chunks: ChunkTable,
    extents: Vec<Extent>,
    segments: Vec<String>,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
    /// The tree over the chunks, made when a proof is first asked for.
    tree: OnceLock<merkle::Tree>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("stream", &self.stream.name).finish_non_exhaustive()
    }
}

impl StreamReader {
    pub(super) fn load(shared: Arc<Shared>, number: usize, stream: Stream) -> Result<Self> {
        let inside = stream.decrypted();
        let sizes: Vec<u64> = inside.segments.iter().map(|segment| segment.size).collect();
        let chunks = read_table(&shared.store, &inside.chunks, |path, input| {
            ChunkTable::read(path, input, stream.chunk_size, stream.size, &sizes)
        })?;
        let extents =
            read_table(&shared.store, &inside.extents, |path, input| read_extents(path, input, stream.size))?;
        let mut states = StateBytes::default();
        for extent in &extents {
            states.add(extent.state, extent.length);
        }
        if states != stream.states {
            return Err(Error::manifest(format!(
                "stream {:?}: its states are not those of the extents",
                stream.name
            )));
        }
        check_zeros(&stream, &chunks, &extents)?;
        let segments = stream.segments.iter().map(|segment| segment.path.clone()).collect();
        let decompressors = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                number,
                stream,
                chunks,
                extents,
                segments,
                decompressors,
                tree: OnceLock::new(),
            }),
        })
    }

    /// Name of the stream.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.stream.name
    }

    /// What the manifest says of the stream.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.inner.stream
    }

    /// Bytes of the stream.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner.stream.size
    }

    /// Whether the stream has no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All ranges of the stream with their states; they partition it.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.inner.extents
    }

    /// The range that holds a byte, if the stream has that byte.
    #[must_use]
    pub fn extent_at(&self, offset: u64) -> Option<&Extent> {
        let after = self.inner.extents.partition_point(|extent| extent.start <= offset);
        self.inner.extents.get(after.checked_sub(1)?).filter(|extent| offset < extent.end())
    }

    /// How many chunks the stream has.
    #[must_use]
    pub fn chunk_count(&self) -> u64 {
        self.inner.chunks.count()
    }

    /// The number of the chunk that holds a byte, if the stream has that byte.
    #[must_use]
    pub fn chunk_of(&self, offset: u64) -> Option<u64> {
        self.inner.chunks.chunk_of(offset)
    }

    /// The row of a chunk in the table, if there is such a chunk.
    #[must_use]
    pub fn chunk_row(&self, index: u64) -> Option<ChunkRow> {
        self.inner.chunks.row(index)
    }

    /// The proof that a chunk belongs to the stream, if there is such a chunk. The first costs two hashes for each
    /// chunk of the stream.
    #[must_use]
    pub fn chunk_proof(&self, index: u64) -> Option<ChunkProof> {
        let hashes = self.inner.chunks.hashes();
        let at = usize::try_from(index).ok()?;
        let tree = self.inner.tree.get_or_init(|| {
            merkle::Tree::new(hashes.iter().map(|hash| merkle::leaf_hash(hash.as_bytes())).collect())
        });
        Some(ChunkProof {
            index,
            sha256: *hashes.get(at)?,
            path: tree.inclusion_proof(at)?,
            tree_size: self.chunk_count(),
            chunk_root: self.inner.stream.chunk_root,
        })
    }

    /// The catalogue, of a stream that holds files.
    #[must_use]
    pub fn catalog(&self) -> Option<CatalogReader> {
        let file = self.inner.stream.catalog.as_ref()?;
        Some(CatalogReader::new(Arc::clone(&self.inner.shared.store), &file.decrypted(), self.len()))
    }

    /// Reads at an offset, and gives how many bytes were read: fewer than asked only at the end of the stream.
    ///
    /// Every chunk is decompressed within its stated size and checked against its SHA-256. Ranges that are not `data`
    /// are zeros, and nothing is read for them.
    ///
    /// # Errors
    ///
    /// [`Error::Chunk`] if the stored bytes do not give the chunk, [`Error::Read`] if they cannot be read.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0usize;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let Some(extent) = self.extent_at(at) else { break };
            let within = usize::try_from(extent.end().saturating_sub(at)).unwrap_or(usize::MAX);
            let take = rest.len().min(within);
            let Some(target) = rest.get_mut(..take) else { break };
            done += if extent.state == State::Data {
                self.read_data(at, target)?
            } else {
                target.fill(0);
                take
            };
        }
        Ok(done)
    }

    /// Reads exactly `buf.len()` bytes.
    ///
    /// # Errors
    ///
    /// As [`StreamReader::read_at`]; [`Error::Read`] with [`std::io::ErrorKind::UnexpectedEof`] behind the end.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if self.read_at(offset, buf)? == buf.len() {
            return Ok(());
        }
        Err(Error::read(&self.inner.stream.name, std::io::ErrorKind::UnexpectedEof.into()))
    }

    /// Copies what one chunk holds of the range.
    fn read_data(&self, at: u64, target: &mut [u8]) -> Result<usize> {
        let row = self.chunk_of(at).and_then(|index| self.chunk_row(index));
        let row = row.ok_or_else(|| Error::manifest("a byte of the stream is in no chunk"))?;
        let chunk = self.chunk_at(&row)?;
        let from = usize::try_from(at.saturating_sub(row.offset)).unwrap_or(usize::MAX);
        let held = chunk.get(from..).unwrap_or_default();
        let take = held.len().min(target.len());
        if let (Some(target), Some(held)) = (target.get_mut(..take), held.get(..take)) {
            target.copy_from_slice(held);
        }
        if take == 0 {
            Err(self.damaged(&row, "it is shorter than its row says".to_owned()))
        } else {
            Ok(take)
        }
    }

    /// One whole chunk, decompressed and checked against its SHA-256.
    ///
    /// # Errors
    ///
    /// As [`StreamReader::read_at`]; [`Error::Read`] with [`std::io::ErrorKind::UnexpectedEof`] behind the last chunk.
    pub fn chunk(&self, index: u64) -> Result<Arc<Vec<u8>>> {
        match self.chunk_row(index) {
            Some(row) => self.chunk_at(&row),
            None => Err(Error::read(&self.inner.stream.name, std::io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn chunk_at(&self, row: &ChunkRow) -> Result<Arc<Vec<u8>>> {
        let key = (self.inner.number, row.index);
        if let Some(chunk) = self.inner.shared.cache.get(key) {
            return Ok(chunk);
        }
        let chunk = Arc::new(self.load_chunk(row)?);
        self.inner.shared.cache.put(key, Arc::clone(&chunk));
        Ok(chunk)
    }

    fn load_chunk(&self, row: &ChunkRow) -> Result<Vec<u8>> {
        let path = self
            .inner
            .segments
            .get(row.segment as usize)
            .ok_or_else(|| self.damaged(row, "its segment is not in the manifest".to_owned()))?;
        let mut frame = vec![0; row.frame_length as usize];
        let read = self.inner.shared.store.read_at(path, row.frame_offset, &mut frame).map_err(|source| {
            match Unopened::is_damage(&source) {
                true => self.damaged(row, format!("{path}: {source}")),
                false => Error::read(path, source),
            }
        })?;
        if read != frame.len() {
            return Err(self.damaged(row, format!("{path} ends within its frame")));
        }
        let spare = self.inner.decompressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decompressor = match spare {
            Some(decompressor) => decompressor,
            None => Decompressor::new().map_err(|source| Error::read(path, source))?,
        };
        let chunk = decode(&mut decompressor, &frame, row.length);
        self.inner.decompressors.lock().unwrap_or_else(PoisonError::into_inner).push(decompressor);
        let chunk = chunk.map_err(|reason| self.damaged(row, reason))?;
        let found = sha256(&chunk);
        if found != row.sha256 {
            return Err(self.damaged(row, format!("its SHA-256 is {found} instead of {}", row.sha256)));
        }
        Ok(chunk)
    }

    fn damaged(&self, row: &ChunkRow, reason: String) -> Error {
        Error::Chunk {
            stream: self.inner.stream.name.clone(),
            index: row.index,
            start: row.offset,
            end: row.offset.saturating_add(u64::from(row.length)),
            reason,
        }
    }
}

/// Ranges that the table calls `zero` are answered without reading, so their chunks must have the hash of zeros.
fn check_zeros(stream: &Stream, chunks: &ChunkTable, extents: &[Extent]) -> Result<()> {
    let mut zeros: Option<(u32, Digest)> = None;
    for (line, extent) in (2u64..).zip(extents).filter(|(_, extent)| extent.state == State::Zero) {
        let wrong = |reason: &str| Error::table(&stream.extents.path, line, reason);
        let size = u64::from(stream.chunk_size);
        let is_edge = |at: u64| at.is_multiple_of(size) || at == stream.size;
        if !is_edge(extent.start) || !is_edge(extent.end()) {
            return Err(wrong("a zero extent is not of whole chunks"));
        }
        for index in extent.start / size..extent.end().div_ceil(size) {
            let row = chunks.row(index).ok_or_else(|| wrong("a zero extent is behind the last chunk"))?;
            let expected = match zeros {
                Some((length, hash)) if length == row.length => hash,
                _ => sha256(&vec![0; row.length as usize]),
            };
            zeros = Some((row.length, expected));
            if row.sha256 != expected {
                return Err(wrong("a chunk in a zero extent does not have the hash of zeros"));
            }
        }
    }
    Ok(())
}

/// Reads a table through, and compares the file with what the manifest says of it.
fn read_table<T>(
    store: &Arc<dyn BundleStore>,
    file: &StoredFile,
    read: impl FnOnce(&str, &mut dyn BufRead) -> Result<T>,
) -> Result<T> {
    let size = store.size_of(&file.path).map_err(|source| Error::read(&file.path, source))?;
    let altered =
        |expected: String, found: String| Error::Altered { path: file.path.clone(), expected, found };
    if size != file.size {
        return Err(altered(format!("{} bytes", file.size), format!("{size} bytes")));
    }
    let mut input =
        BufReader::with_capacity(64 << 10, Hashing::new(StoreFile::new(Arc::clone(store), &file.path)));
    let table = read(&file.path, &mut input)?;
    let found = input.into_inner().into_parts().0.finish();
    if found != file.sha256 {
        return Err(altered(file.sha256.to_string(), found.to_string()));
    }
    Ok(table)
}

/// Hashes what is read through it.
pub(super) struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    read: u64,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::new(), read: 0 }
    }

    /// The hash so far, and of how many bytes.
    pub(super) fn into_parts(self) -> (Hasher, u64) {
        (self.hasher, self.read)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.hasher.update(buf.get(..read).unwrap_or_default());
        self.read = self.read.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::manifest::tests::manifest;
    use crate::bundle::{
        Bundle, Cut, Encoder, Gap, LocalFolder, Manifest, SMALLEST_CHUNK, StreamWriter, put,
    };
    use std::fs;
    use std::path::Path;

    const CHUNK: usize = SMALLEST_CHUNK as usize;

    /// Text, zeros and noise, so that all kinds of chunks are there.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        (0..length)
            .map(|at| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match (at / CHUNK) % 3 {
                    0 => (at % 251) as u8,
                    1 => 0,
                    _ => (state >> 56) as u8,
                }
            })
            .collect()
    }

    fn seal(folder: &Path, streams: Vec<Stream>) {
        let store = LocalFolder::new(folder);
        let manifest = Manifest { streams, ..manifest() }.to_bytes().unwrap();
        let stored = put(&store, "manifest.json", &manifest).unwrap();
        let line = format!(
            "{{\"subject\":[{{\"id\":\"manifest.json\",\"sha256\":\"{}\",\"size\":{}}}],\"type\":\"bundle.sealed\"}}\n",
            stored.sha256, stored.size
        );
        fs::write(folder.join("custody.jsonl"), line).unwrap();
    }

    fn write(folder: &Path, data: &[u8], gaps: &[(usize, Gap)]) -> Stream {
        let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder));
        let cut = Cut { chunk_size: SMALLEST_CHUNK, segment_size: 4 * CHUNK as u64 };
        let mut writer = StreamWriter::begin(store, "disk", "disk", cut).unwrap();
        let mut encoder = Encoder::new(1).unwrap();
        for (index, chunk) in data.chunks(CHUNK).enumerate() {
            let gaps: Vec<_> =
                gaps.iter().filter(|(at, _)| *at == index).map(|(_, gap)| gap.clone()).collect();
            writer.push(&encoder.encode(chunk).unwrap(), &gaps).unwrap();
        }
        writer.finish(sha256(data), sha256(data), None).unwrap()
    }

    fn bundle(data: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let stream = write(folder.path(), data, &[]);
        seal(folder.path(), vec![stream]);
        folder
    }

    #[test]
    fn streams_of_odd_sizes_come_back_whole() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 9 * CHUNK + 7] {
            let data = content(length);
            let folder = bundle(&data);
            let reader = Bundle::open(folder.path()).unwrap().stream("disk").unwrap();
            assert_eq!(reader.len(), length as u64);
            let mut back = vec![1; length + 10];
            assert_eq!(reader.read_at(0, &mut back).unwrap(), length);
            assert_eq!(&back[..length], data);
            assert_eq!(reader.read_at(length as u64, &mut back).unwrap(), 0);
            assert_eq!(reader.read_at(u64::MAX, &mut back).unwrap(), 0);
            assert_eq!(reader.stream().segments.len(), length.div_ceil(4 * CHUNK));
        }
    }

    #[test]
    fn many_threads_read_the_same_bytes_within_a_small_cache() {
        let data = Arc::new(content(40 * CHUNK + 3));
        let folder = bundle(&data);
        let store = Arc::new(LocalFolder::new(folder.path()));
        let reader = Bundle::open_with(folder.path(), store, 5 * CHUNK).unwrap().stream("disk").unwrap();
        std::thread::scope(|scope| {
            for seed in 0..4usize {
                let (reader, data) = (reader.clone(), Arc::clone(&data));
                scope.spawn(move || {
                    for step in 0..200 {
                        let at = (step * 7919 + seed * 104_729) * 31 % data.len();
                        let end = data.len().min(at + 1 + (step * 613) % (2 * CHUNK));
                        let mut buf = vec![0xAA; end - at];
                        reader.read_exact_at(at as u64, &mut buf).unwrap();
                        assert!(buf == data[at..end], "{at}..{end}");
                    }
                });
            }
        });
    }

    #[test]
    fn every_chunk_is_proved_to_be_under_the_root() {
        let folder = bundle(&content(7 * CHUNK + 1));
        let reader = Bundle::open(folder.path()).unwrap().stream("disk").unwrap();
        for index in 0..8 {
            let proof = reader.chunk_proof(index).unwrap();
            let leaf = merkle::leaf_hash(proof.sha256.as_bytes());
            assert!(merkle::verify_inclusion(&leaf, index, proof.tree_size, &proof.path, &proof.chunk_root));
            assert!(!merkle::verify_inclusion(&leaf, (index + 1) % 8, 8, &proof.path, &proof.chunk_root));
        }
        assert_eq!(reader.chunk_proof(8), None);
    }

    #[test]
    fn gaps_are_extents_of_their_own_and_read_as_zeros() {
        let mut data = vec![7u8; 3 * CHUNK];
        data[CHUNK + 512..CHUNK + 1024].fill(0);
        let gap = Gap { start: 512, length: 512, state: State::Unreadable, detail: "errno=5 tries=3".into() };
        let folder = tempfile::tempdir().unwrap();
        let stream = write(folder.path(), &data, &[(1, gap)]);
        assert_eq!(
            stream.states,
            StateBytes { data: 3 * CHUNK as u64 - 512, unreadable: 512, ..Default::default() }
        );
        seal(folder.path(), vec![stream]);
        let reader = Bundle::open(folder.path()).unwrap().stream("disk").unwrap();
        assert_eq!(reader.extents().len(), 3);
        let bad = reader.extent_at(CHUNK as u64 + 600).unwrap();
        assert_eq!((bad.start, bad.length, bad.state), (CHUNK as u64 + 512, 512, State::Unreadable));
        let mut back = vec![1; data.len()];
        reader.read_exact_at(0, &mut back).unwrap();
        assert_eq!(back, data);
    }

    #[test]
    fn an_open_a_later_and_a_missing_bundle_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Bundle::open(folder.path()), Err(Error::NotABundle { .. })));
        let stream = write(folder.path(), b"abc", &[]);
        fs::write(folder.path().join("custody.jsonl"), b"{\"type\":\"acquire.start\"}\n").unwrap();
        assert!(matches!(Bundle::open(folder.path()), Err(Error::NotSealed { .. })));
        seal(folder.path(), vec![stream]);
        Bundle::open(folder.path()).unwrap();
        let sealed = fs::read(folder.path().join("custody.jsonl")).unwrap();
        fs::write(folder.path().join("custody.jsonl"), b"{\"type\":\"acquire.end\"}\n").unwrap();
        assert!(matches!(Bundle::open(folder.path()), Err(Error::NotSealed { .. })));
        fs::write(folder.path().join("custody.jsonl"), sealed).unwrap();
        let manifest = fs::read_to_string(folder.path().join("manifest.json")).unwrap();
        fs::write(folder.path().join("manifest.json"), manifest.replace("J. Doe", "J. Roe")).unwrap();
        assert!(matches!(Bundle::open(folder.path()), Err(Error::NotAsSealed { .. })));
        fs::write(folder.path().join("manifest.json"), manifest.replace("bundle/1", "bundle/9")).unwrap();
        assert!(matches!(Bundle::open(folder.path()), Err(Error::UnknownFormat { .. })));
    }

    #[test]
    fn a_changed_table_is_refused_even_where_its_rows_fit() {
        let data = content(3 * CHUNK);
        let folder = bundle(&data);
        let path = folder.path().join("data/disk.chunks.tsv");
        let table = fs::read_to_string(&path).unwrap();
        let hash = sha256(&data[..CHUNK]).to_string();
        fs::write(&path, table.replace(&hash, &sha256(b"other").to_string())).unwrap();
        let refused = Bundle::open(folder.path()).unwrap().stream("disk").unwrap_err();
        assert!(matches!(refused, Error::Altered { .. }), "{refused}");
    }

    #[test]
    fn zeros_are_believed_only_where_the_chunk_has_the_hash_of_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let mut stream = write(folder.path(), &content(6 * CHUNK), &[]);
        let path = folder.path().join("data/disk.extents.tsv");
        let table = fs::read_to_string(&path).unwrap();
        let moved = table.replace("zero", "x").replace("data", "zero").replacen('x', "data", 2);
        fs::write(&path, &moved).unwrap();
        stream.extents.sha256 = sha256(moved.as_bytes());
        std::mem::swap(&mut stream.states.data, &mut stream.states.zero);
        seal(folder.path(), vec![stream]);
        let refused = Bundle::open(folder.path()).unwrap().stream("disk").unwrap_err();
        assert!(matches!(&refused, Error::Table { line: 2, .. }), "{refused}");
    }

    #[test]
    fn a_flipped_byte_in_a_segment_names_its_chunk_and_leaves_the_others_readable() {
        let data = content(6 * CHUNK);
        let folder = bundle(&data);
        let row = Bundle::open(folder.path()).unwrap().stream("disk").unwrap().chunk_row(5).unwrap();
        let path = folder.path().join("data/disk").join(crate::bundle::segment_name(row.segment));
        let good = fs::read(&path).unwrap();
        for at in [0, 5, 6, row.frame_length as usize / 2, row.frame_length as usize - 1] {
            let mut bad = good.clone();
            bad[row.frame_offset as usize + at] ^= 0x10;
            fs::write(&path, bad).unwrap();
            let reader = Bundle::open(folder.path()).unwrap().stream("disk").unwrap();
            let mut buf = vec![0; CHUNK];
            match reader.read_at(row.offset + 3, &mut buf) {
                Err(Error::Chunk { index: 5, start, .. }) => assert_eq!(start, row.offset),
                other => panic!("byte {at}: {other:?}"),
            }
            reader.read_exact_at(0, &mut buf).unwrap();
            assert_eq!(buf, &data[..CHUNK]);
        }
    }
}
