//! Read → hash and compress → write: one pass over a stream, all cores at work, memory bounded.
//!
//! The caller feeds chunks. One thread hashes the whole stream in order, and each chunk with it where the processor can do
//! both in one pass; workers compress chunks, and hash them where that was not done; one thread writes the frames in
//! order. Chunks in flight are bounded by the buffers that go round, so a slow store
//! holds up the source instead of filling the memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use custody::bundle::{
    BundleStore, Cut, EncodedChunk, Encoder, Gap, HashState, MARK_EVERY, Recipients, Resumed, State,
    StreamHashes, StreamWriter, is_zero,
};
use custody::{Digest, Hash256};

use crate::buffers::{BUFFER_BYTES, Buffer, Buffers};
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Chunks of zeros that are on their way at a time; they take no room.
const ZEROS_ON_THE_WAY: usize = 64;

/// How a stream is stored.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PipelineOptions {
    /// How the stream is cut into chunks and segments.
    pub cut: Cut,
    /// zstd level.
    pub level: i32,
    /// Threads that hash and compress; 0 for one a core.
    pub workers: usize,
    /// Bytes of a stream between two marks of its journal, which is as much as an interruption may cost.
    pub mark_every: u64,
    /// Bytes of chunks that are on their way at a time; there are four of them at least.
    pub buffer_bytes: usize,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self { cut: Cut::default(), level: 1, workers: 0, mark_every: MARK_EVERY, buffer_bytes: BUFFER_BYTES }
    }
}

/// What goes with every stream of one acquisition.
#[derive(Clone)]
pub(crate) struct Flow<'a> {
    pub(crate) options: PipelineOptions,
    pub(crate) progress: &'a dyn Progress,
    /// Set when a person wants it to stop; what was read until then is kept.
    pub(crate) stop: Arc<AtomicBool>,
    /// Whom the bundle's data is encrypted to, if it is.
    pub(crate) protection: Option<Arc<Recipients>>,
}

/// A stream whose first bytes may be stored already.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) writer: StreamWriter,
    hashes: StreamHashes,
    /// Leaves the hash of the whole stream out: what is measured with more bytes than can be hashed in an hour.
    #[cfg(test)]
    pub(crate) is_not_hashed: bool,
}

impl Begun {
    /// A stream from its first byte. With a journal, it can be taken up again.
    pub(crate) fn anew(
        store: &Arc<dyn BundleStore>,
        name: &str,
        kind: &str,
        flow: &Flow<'_>,
        journal: bool,
    ) -> Result<Self> {
        let (cut, protection, store) = (flow.options.cut, flow.protection.clone(), Arc::clone(store));
        let keeps_hashes = journal && (protection.is_some() || store.write_only().is_some());
        let writer = if journal {
            let every = flow.options.mark_every;
            StreamWriter::begin_with_journal(store, name, kind, cut, protection, every)?
        } else {
            StreamWriter::begin_with(store, name, kind, cut, protection)?
        };
        Ok(Self::of(writer, StreamHashes::new(keeps_hashes)))
    }
}

impl Begun {
    fn of(writer: StreamWriter, hashes: StreamHashes) -> Self {
        Self {
            writer,
            hashes,
            #[cfg(test)]
            is_not_hashed: false,
        }
    }
}

impl From<Resumed> for Begun {
    fn from(resumed: Resumed) -> Self {
        let Resumed { writer, hashes, .. } = resumed;
        Self::of(writer, hashes)
    }
}

/// The hash of nothing, whatever it is given.
#[cfg(test)]
#[derive(Clone)]
struct NoHash;

#[cfg(test)]
impl Hash256 for NoHash {
    fn new() -> Self {
        Self
    }
    fn update(&mut self, _: &[u8]) {}
    fn finish(self) -> Digest {
        custody::sha256(b"")
    }
}

/// A stream that is written but not yet finished: its catalogue may still follow.
#[derive(Debug)]
pub(crate) struct Written {
    /// Ends the stream.
    pub(crate) writer: StreamWriter,
    /// SHA-256 of the whole stream.
    pub(crate) sha256: Digest,
    /// SHA-256 of its `data` and `zero` extents.
    pub(crate) sha256_data: Digest,
}

struct Chunk {
    index: u64,
    buffer: Buffer,
    is_zero: bool,
    gaps: Vec<Gap>,
    /// Its hash, where whoever read it had to work it out.
    sha256: Option<Digest>,
}

/// A chunk on its way to be compressed.
struct Task {
    chunk: Arc<Chunk>,
    /// Its hash, where that came with the stream's.
    sha256: Option<Digest>,
}

struct Encoded {
    chunk: EncodedChunk,
    /// Kept until the frame is written, so that frames are bounded as well.
    from: Arc<Chunk>,
}

/// Stores what `produce` feeds as one stream of a bundle, behind what is stored of it already.
///
/// # Errors
///
/// What `produce` gives, [`Error::NoSpace`], [`Error::Bundle`], [`Error::Compress`], [`Error::Thread`],
/// [`Error::Paused`]. The first cause is given, and what was stored stays.
pub(crate) fn store_stream<T>(
    begun: Begun,
    flow: &Flow<'_>,
    produce: impl FnOnce(&mut Feed) -> Result<T>,
) -> Result<(T, Written)> {
    #[cfg(test)]
    let is_not_hashed = begun.is_not_hashed;
    let Begun { writer, hashes, .. } = begun;
    let Flow { options, progress, .. } = *flow;
    let (size, index) = (writer.size(), writer.chunks());
    let workers = match options.workers {
        0 => thread::available_parallelism().map_or(2, usize::from),
        workers => workers,
    };
    let (to_hash, hash_queue) = unbounded::<Chunk>();
    let (to_work, work_queue) = unbounded::<Task>();
    let (to_write, write_queue) = unbounded::<(u64, Result<Encoded>)>();
    let (to_reuse, written_queue) = unbounded();
    let (hashes_so_far, hashes_queue) = unbounded();
    let each_segment = options.cut.segment_size / u64::from(options.cut.chunk_size).max(1);
    let buffers = Buffers::new(options.cut.chunk_size as usize, options.buffer_bytes);
    let zeros: Arc<[u8]> = vec![0; options.cut.chunk_size as usize].into();
    let leaves = Buffers::of_zeros(ZEROS_ON_THE_WAY);
    let mut encoders = Vec::new();
    for _ in 0..workers {
        encoders.push(Encoder::new(options.level).map_err(Error::Compress)?);
    }
    thread::scope(|scope| {
        let spawn = |name: &str| thread::Builder::new().name(name.to_owned());
        let hashing = spawn("hash")
            .spawn_scoped(scope, move || match hashes {
                #[cfg(test)]
                _ if is_not_hashed => hash(&hash_queue, &to_work, NoHash, None, |_, _, _| {}),
                StreamHashes::Fast(whole, data) => hash(&hash_queue, &to_work, whole, data, |_, _, _| {}),
                StreamHashes::Kept(whole, data) => {
                    hash(&hash_queue, &to_work, whole, data, |index, whole, data| {
                        if index.saturating_add(1).is_multiple_of(each_segment) {
                            // The writer may be gone, for a reason of its own.
                            let _ = hashes_so_far.send(HashState::of(whole, data));
                        }
                    })
                }
            })
            .map_err(Error::Thread)?;
        for encoder in encoders {
            let (queue, out, written) = (work_queue.clone(), to_write.clone(), written_queue.clone());
            spawn("encode")
                .spawn_scoped(scope, move || encode(encoder, &queue, &out, &written))
                .map_err(Error::Thread)?;
        }
        drop((work_queue, to_write));
        let writing = spawn("write")
            .spawn_scoped(scope, move || write(writer, &write_queue, &hashes_queue, &to_reuse, progress))
            .map_err(Error::Thread)?;
        let stop = Arc::clone(&flow.stop);
        let mut feed =
            Feed { buffers, leaves, zeros, current: None, gaps: Vec::new(), index, size, to_hash, stop };
        let produced = produce(&mut feed).and_then(|made| feed.submit().map(|()| made));
        let fed = feed.size();
        drop(feed);
        let hashes = hashing.join().map_err(|_| Error::Stopped);
        // A cause in the writer is why the producer was stopped, so it comes first.
        let writer = writing.join().map_err(|_| Error::Stopped)??;
        match (produced, hashes) {
            // A worker that died leaves a hole at the end: never take such a stream for a whole one.
            (Ok(_), Ok(_)) if writer.size() != fed => {
                writer.abandon();
                Err(Error::Stopped)
            }
            (Ok(produced), Ok((sha256, sha256_data))) => {
                Ok((produced, Written { writer, sha256, sha256_data }))
            }
            (Err(error), _) | (_, Err(error)) => {
                writer.abandon();
                Err(error)
            }
        }
    })
}

/// Hashes the whole stream, and only once the two differ what of it was read; passes every chunk on.
fn hash<H: Hash256 + Clone>(
    queue: &Receiver<Chunk>,
    to_work: &Sender<Task>,
    mut whole: H,
    mut data: Option<H>,
    mut after: impl FnMut(u64, &H, Option<&H>),
) -> (Digest, Digest) {
    for chunk in queue {
        let chunk = Arc::new(chunk);
        let bytes = chunk.buffer.bytes();
        if !chunk.gaps.is_empty() && data.is_none() {
            data = Some(whole.clone());
        }
        let task = |sha256| Task { chunk: Arc::clone(&chunk), sha256 };
        // The hash of zeros is known to who compresses.
        let own_is_known = chunk.is_zero || chunk.sha256.is_some();
        let mut data_is_done = data.is_none();
        let passed_on = if own_is_known {
            let passed_on = to_work.send(task(chunk.sha256));
            match data.as_mut().filter(|_| chunk.gaps.is_empty()) {
                Some(data) => {
                    whole.update_with(data, bytes);
                    data_is_done = true;
                }
                None => whole.update(bytes),
            }
            passed_on
        } else if whole.gives_chunk_hashes() {
            let own = whole.update_chunk(bytes);
            to_work.send(task(own))
        } else {
            let passed_on = to_work.send(task(None));
            whole.update(bytes);
            passed_on
        };
        if let Some(data) = data.as_mut().filter(|_| !data_is_done) {
            let mut at = 0usize;
            for gap in &chunk.gaps {
                data.update(bytes.get(at..gap.start as usize).unwrap_or_default());
                at = (gap.start as usize).saturating_add(gap.length as usize);
            }
            data.update(bytes.get(at..).unwrap_or_default());
        }
        after(chunk.index, &whole, data.as_ref());
        // Nobody is left to compress: the stream ends here, shorter than what was fed.
        if passed_on.is_err() {
            break;
        }
    }
    let sha256 = whole.finish();
    (sha256, data.map_or(sha256, H::finish))
}

fn encode(
    mut encoder: Encoder,
    queue: &Receiver<Task>,
    out: &Sender<(u64, Result<Encoded>)>,
    written: &Receiver<EncodedChunk>,
) {
    for Task { chunk: from, sha256 } in queue {
        if let Ok(chunk) = written.try_recv() {
            encoder.reuse(chunk);
        }
        let index = from.index;
        let encoded = encoder
            .encode_known(from.buffer.bytes(), from.is_zero, sha256)
            .map(|chunk| Encoded { chunk, from })
            .map_err(Error::Compress);
        if out.send((index, encoded)).is_err() {
            return;
        }
    }
}

fn write(
    mut writer: StreamWriter,
    queue: &Receiver<(u64, Result<Encoded>)>,
    hashes: &Receiver<HashState>,
    to_reuse: &Sender<EncodedChunk>,
    progress: &dyn Progress,
) -> Result<StreamWriter> {
    let mut early = BTreeMap::new();
    let mut next = writer.chunks();
    for (index, encoded) in queue {
        early.insert(index, encoded);
        while let Some(encoded) = early.remove(&next) {
            let Encoded { chunk, from } = encoded?;
            writer.push(&chunk, &from.gaps)?;
            if writer.awaits_hashes() {
                writer.mark_sealed(hashes.recv().map_err(|_| Error::Stopped)?)?;
            }
            progress.advanced(u64::from(chunk.length));
            next += 1;
            // Those of zeros share one frame. Who compresses may have ended.
            if !chunk.is_zero {
                let _ = to_reuse.send(chunk);
            }
        }
    }
    Ok(writer)
}

/// Where a producer puts the bytes of a stream: a whole chunk at a time, or as a [`io::Write`].
#[derive(Debug)]
pub struct Feed {
    buffers: Buffers,
    /// For chunks of zeros, which all share their bytes.
    leaves: Buffers,
    zeros: Arc<[u8]>,
    current: Option<Buffer>,
    gaps: Vec<Gap>,
    index: u64,
    size: u64,
    to_hash: Sender<Chunk>,
    stop: Arc<AtomicBool>,
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunk").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Feed {
    /// Bytes of the stream so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Lets `read` fill room of the current chunk, and takes as many bytes as it says. Gives that number.
    ///
    /// What it marks is counted from the start of the room, and must lie within what it fills.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the bundle can take no more, or what `read` gives.
    pub fn fill(&mut self, read: impl FnOnce(&mut [u8], &mut Marks<'_>) -> Result<usize>) -> Result<usize> {
        let buffer = self.current.get_or_insert_with(|| self.buffers.take());
        let mut marks = Marks { start: buffer.len(), gaps: &mut self.gaps };
        let filled = read(buffer.room(), &mut marks)?.min(buffer.room().len());
        buffer.grow(filled);
        let full = buffer.is_full();
        self.size = self.size.saturating_add(filled as u64);
        if full {
            self.submit()?;
        }
        Ok(filled)
    }

    /// Appends bytes that were read from the source.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the bundle can take no more.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let taken = self.fill(|room, _| {
                let take = room.len().min(bytes.len());
                if let (Some(room), Some(bytes)) = (room.get_mut(..take), bytes.get(..take)) {
                    room.copy_from_slice(bytes);
                }
                Ok(take)
            })?;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Appends zeros: such as were read, or with a state and its detail, what stands where nothing was. Whole chunks
    /// of them are neither written to memory nor looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`] if the bundle can take no more.
    pub fn zeros(&mut self, mut length: u64, instead_of: Option<(State, &str)>) -> Result<()> {
        while length > 0 {
            let chunk = self.zeros.len() as u64;
            let taken = if self.current.is_none() && length >= chunk {
                let gaps = instead_of.map(|(state, detail)| Gap {
                    start: 0,
                    length: u32::try_from(chunk).unwrap_or(u32::MAX),
                    state,
                    detail: detail.to_owned(),
                });
                let buffer = self.leaves.take_zeros(&self.zeros, self.zeros.len());
                self.size = self.size.saturating_add(chunk);
                self.send(buffer, true, gaps.into_iter().collect(), None)?;
                chunk
            } else {
                let most = usize::try_from(length).unwrap_or(usize::MAX);
                let filled = self.fill(|room, marks| {
                    let taken = room.len().min(most);
                    room.get_mut(..taken).unwrap_or_default().fill(0);
                    if let Some((state, detail)) = instead_of {
                        marks.add(0, taken, state, detail);
                    }
                    Ok(taken)
                })?;
                filled as u64
            };
            length = length.saturating_sub(taken);
        }
        Ok(())
    }

    /// Appends a buffer that is not all zeros and has no gap, without a copy where it is just the next chunk.
    #[cfg(feature = "cloud")]
    pub(crate) fn chunk(&mut self, buffer: Buffer, sha256: Option<Digest>) -> Result<()> {
        if self.current.is_some() || buffer.len() != self.zeros.len() {
            return self.append(buffer.bytes());
        }
        self.size = self.size.saturating_add(buffer.len() as u64);
        self.send(buffer, false, Vec::new(), sha256)
    }

    fn submit(&mut self) -> Result<()> {
        let Some(buffer) = self.current.take().filter(|buffer| buffer.len() > 0) else { return Ok(()) };
        let (is_zero, gaps) = (is_zero(buffer.bytes()), std::mem::take(&mut self.gaps));
        self.send(buffer, is_zero, gaps, None)
    }

    fn send(&mut self, buffer: Buffer, is_zero: bool, gaps: Vec<Gap>, sha256: Option<Digest>) -> Result<()> {
        let chunk = Chunk { index: self.index, buffer, is_zero, gaps, sha256 };
        self.to_hash.send(chunk).map_err(|_| Error::Stopped)?;
        self.index += 1;
        // Asked for between chunks, so that the last chunk of a pause is a whole one.
        if self.stop.load(Ordering::Relaxed) { Err(Error::Paused) } else { Ok(()) }
    }
}

/// Takes note of ranges that hold zeros instead of what the source holds.
#[derive(Debug)]
pub struct Marks<'a> {
    start: usize,
    gaps: &'a mut Vec<Gap>,
}

impl Marks<'_> {
    /// Notes a range, counted from where these marks start. Ranges must come in order.
    pub fn add(&mut self, start: usize, length: usize, state: State, detail: &str) {
        let start = self.start.saturating_add(start);
        if let (Ok(start), Ok(length)) = (u32::try_from(start), u32::try_from(length)) {
            self.gaps.push(Gap { start, length, state, detail: detail.to_owned() });
        }
    }

    /// Marks that start `bytes` further on.
    pub fn from(&mut self, bytes: usize) -> Marks<'_> {
        Marks { start: self.start.saturating_add(bytes), gaps: self.gaps }
    }
}

impl io::Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Stores one stream without anything around it.
#[cfg(test)]
pub(crate) fn store_alone<T>(
    store: Arc<dyn BundleStore>,
    name: &str,
    options: PipelineOptions,
    produce: impl FnOnce(&mut Feed) -> Result<T>,
) -> Result<(T, Written)> {
    let (progress, stop) = (&crate::progress::NoProgress, Arc::default());
    let flow = Flow { options, progress, stop, protection: None };
    store_stream(Begun::anew(&store, name, name, &flow, false)?, &flow, produce)
}
