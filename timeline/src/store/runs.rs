//! Sorting in bounded memory: threads fill runs, full runs are sorted and, beyond a limit, go to disk; a merge
//! gives all rows in order while it holds one small batch a run.
//!
//! Runs on disk lie in one file of the timeline's own `tmp/`, never in a folder of the system: evidence must not
//! leak out of the case. The file holds blocks of a few rows: compressed length and plain length (4 bytes each,
//! little-endian), then the zstd frame. A row in a block is its length (4 bytes), its key and its postcard bytes.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{failed, remove_folder};
use super::row::Row;
use super::stored_row::{KEY_LENGTH, Key, StoredRow, order};
use crate::Error;

/// Plain bytes of a block on disk; a merge holds one of them a run. A larger row is a block of its own.
const BLOCK: usize = 64 << 10;

/// How much sorting may hold.
#[derive(Debug, Clone, Copy)]
pub struct SortLimits {
    /// A run is full at so many rows …
    pub run_rows: usize,
    /// … or so many bytes. Every sink holds up to one run.
    pub run_bytes: usize,
    /// Full runs stay in memory up to this many bytes together; a small timeline never touches the disk.
    pub held_bytes: usize,
}

impl SortLimits {
    /// Limits for so many sinks: about 640 MiB in all, whatever their number.
    pub fn for_threads(threads: usize) -> SortLimits {
        let share = (384 << 20) / threads.max(1);
        SortLimits { run_rows: 256 << 10, run_bytes: share.min(128 << 20), held_bytes: 256 << 20 }
    }
}

/// Where the sinks' runs come together.
#[derive(Debug)]
pub struct Sorter {
    limits: SortLimits,
    folder: PathBuf,
    runs: Mutex<Runs>,
}

#[derive(Debug, Default)]
struct Runs {
    held: Vec<HeldRun>,
    held_bytes: usize,
    spilled: Vec<SpilledRun>,
    file: Option<File>,
    file_length: u64,
    rows: u64,
}

#[derive(Debug)]
struct SpilledRun {
    start: u64,
    end: u64,
}

impl Sorter {
    /// A sorter whose runs go below `folder`. What an interrupted build left there is removed.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when the folder cannot be emptied.
    pub fn new(folder: &Path, limits: SortLimits) -> Result<Sorter, Error> {
        remove_folder(folder)?;
        Ok(Sorter { limits, folder: folder.to_owned(), runs: Mutex::default() })
    }

    /// A sink for one thread.
    pub fn sink(self: &Arc<Self>) -> RowSink {
        RowSink { sorter: self.clone(), bytes: Vec::new(), index: Vec::new() }
    }

    /// Rows taken from sinks that are full or finished.
    pub fn rows(&self) -> u64 {
        self.lock().rows
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        // A thread that panicked while it held the lock has at worst lost its own run, and says so itself.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, mut run: HeldRun) -> Result<(), Error> {
        run.sort();
        let mut runs = self.lock();
        runs.rows += run.index.len() as u64;
        if runs.held_bytes.saturating_add(run.size()) <= self.limits.held_bytes {
            runs.held_bytes += run.size();
            runs.held.push(run);
            return Ok(());
        }
        drop(runs);
        let packed = run.pack()?;
        drop(run);
        self.spill(&packed)
    }

    fn spill(&self, packed: &[u8]) -> Result<(), Error> {
        let path = self.folder.join("runs.bin");
        let mut runs = self.lock();
        if runs.file.is_none() {
            std::fs::create_dir_all(&self.folder).map_err(failed("create", &self.folder))?;
            let file = File::options().read(true).write(true).create_new(true).open(&path);
            runs.file = Some(file.map_err(failed("create", &path))?);
        }
        let start = runs.file_length;
        if let Some(file) = &mut runs.file {
            file.seek(SeekFrom::Start(start)).map_err(failed("write", &path))?;
            file.write_all(packed).map_err(failed("write", &path))?;
        }
        let end = start.saturating_add(packed.len() as u64);
        runs.file_length = end;
        runs.spilled.push(SpilledRun { start, end });
        Ok(())
    }

    /// All rows in order. Every sink must have finished; what one still holds is not in it.
    pub(super) fn merge(&self) -> Result<Merge, Error> {
        let runs = std::mem::take(&mut *self.lock());
        let mut sources: Vec<Source> = Vec::new();
        for run in runs.held {
            sources.push(Source::Held { run, next: 0 });
        }
        for SpilledRun { start, end } in runs.spilled {
            sources.push(Source::Spilled { at: start, end, block: Vec::new(), next: 0 });
        }
        let mut merge = Merge {
            sources: Vec::new(),
            heap: Vec::new(),
            disk: Disk { file: runs.file, path: self.folder.join("runs.bin"), packed: Vec::new() },
        };
        for mut source in sources {
            if let Some(head) = source.advance(&mut merge.disk)? {
                merge.heap.push(merge.sources.len());
                merge.sources.push((source, head));
            }
        }
        for place in (0..merge.heap.len() / 2).rev() {
            merge.sift_down(place);
        }
        Ok(merge)
    }

    /// Removes the folder of runs.
    pub(super) fn clear(&self) -> Result<(), Error> {
        *self.lock() = Runs::default();
        remove_folder(&self.folder)
    }
}

/// Takes the rows of one thread. [`RowSink::finish`] hands over what it still holds.
#[derive(Debug)]
#[must_use = "the rows that a sink holds are lost unless it is finished"]
pub struct RowSink {
    sorter: Arc<Sorter>,
    bytes: Vec<u8>,
    index: Vec<Entry>,
}

impl RowSink {
    /// Takes a row.
    ///
    /// # Errors
    ///
    /// [`Error::File`] when a full run cannot be written.
    pub fn push(&mut self, row: &Row) -> Result<(), Error> {
        let at = self.bytes.len();
        let bytes = std::mem::take(&mut self.bytes);
        self.bytes = postcard::to_extend(&StoredRow::of(row), bytes).map_err(unstorable)?;
        let length = u32::try_from(self.bytes.len() - at).map_err(unstorable)?;
        self.index.push(Entry { key: Key::of(row), at, length });
        if self.index.len() >= self.sorter.limits.run_rows || self.bytes.len() >= self.sorter.limits.run_bytes
        {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Hands over the rows that are left.
    ///
    /// # Errors
    ///
    /// As [`RowSink::push`].
    pub fn finish(mut self) -> Result<(), Error> {
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        if self.index.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.sorter.add(HeldRun { bytes, index: std::mem::take(&mut self.index) })
    }
}

fn unstorable(error: impl std::fmt::Display) -> Error {
    Error::Usage { what: format!("a row cannot be stored: {error}") }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: Key,
    at: usize,
    length: u32,
}

#[derive(Debug)]
struct HeldRun {
    bytes: Vec<u8>,
    index: Vec<Entry>,
}

impl HeldRun {
    fn size(&self) -> usize {
        self.bytes.capacity() + self.index.capacity() * size_of::<Entry>()
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.index.sort_unstable_by(|a, b| order((&a.key, a.payload(bytes)), (&b.key, b.payload(bytes))));
    }

    /// The run as blocks for the disk.
    fn pack(&self) -> Result<Vec<u8>, Error> {
        let mut packed = Vec::with_capacity(self.bytes.len() / 4);
        let mut block = Vec::with_capacity(BLOCK * 2);
        for entry in &self.index {
            let payload = entry.payload(&self.bytes);
            block.extend_from_slice(&entry.length.to_le_bytes());
            entry.key.put(&mut block);
            block.extend_from_slice(payload);
            if block.len() >= BLOCK {
                pack_block(&block, &mut packed)?;
                block.clear();
            }
        }
        pack_block(&block, &mut packed)?;
        Ok(packed)
    }
}

impl Entry {
    fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.at..self.at + self.length as usize).unwrap_or(&[])
    }
}

fn pack_block(block: &[u8], packed: &mut Vec<u8>) -> Result<(), Error> {
    if block.is_empty() {
        return Ok(());
    }
    let frame = zstd::bulk::compress(block, 1).map_err(unstorable)?;
    for length in [frame.len(), block.len()] {
        packed.extend_from_slice(&u32::try_from(length).map_err(unstorable)?.to_le_bytes());
    }
    packed.extend_from_slice(&frame);
    Ok(())
}

/// The rows of all runs, in order.
pub(super) struct Merge {
    sources: Vec<(Source, Head)>,
    /// Numbers of sources, the one with the smallest head first: a binary heap.
    heap: Vec<usize>,
    disk: Disk,
}

/// The next row of a source: its key, and where its bytes are.
#[derive(Debug, Clone, Copy)]
struct Head {
    key: Key,
    at: usize,
    length: usize,
}

struct Disk {
    file: Option<File>,
    path: PathBuf,
    packed: Vec<u8>,
}

enum Source {
    Held { run: HeldRun, next: usize },
    Spilled { at: u64, end: u64, block: Vec<u8>, next: usize },
}

impl Merge {
    /// Gives the next row and its size in bytes to `take`; false at the end.
    pub(super) fn next(&mut self, take: impl FnOnce(&Key, &StoredRow<'_>, usize)) -> Result<bool, Error> {
        let Some(smallest) = self.heap.first().copied() else { return Ok(false) };
        let Some((source, head)) = self.sources.get_mut(smallest) else { return Ok(false) };
        let row = postcard::from_bytes(source.bytes(head)).map_err(|e| self.disk.damaged(&e))?;
        take(&head.key, &row, head.length);
        match source.advance(&mut self.disk)? {
            Some(next) => *head = next,
            None => {
                *source = Source::Spilled { at: 0, end: 0, block: Vec::new(), next: 0 };
                self.heap.swap_remove(0);
            }
        }
        self.sift_down(0);
        Ok(true)
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let mut smallest = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if self.less(child, smallest) {
                    smallest = child;
                }
            }
            if smallest == place {
                return;
            }
            self.heap.swap(place, smallest);
            place = smallest;
        }
    }

    fn less(&self, a: usize, b: usize) -> bool {
        let source = |place: usize| self.heap.get(place).and_then(|n| self.sources.get(*n));
        let (Some((a, a_head)), Some((b, b_head))) = (source(a), source(b)) else { return false };
        match a_head.key.cmp(&b_head.key) {
            Ordering::Equal => a.bytes(a_head) < b.bytes(b_head),
            other => other == Ordering::Less,
        }
    }
}

impl Source {
    fn bytes(&self, head: &Head) -> &[u8] {
        let bytes = match self {
            Source::Held { run, .. } => &run.bytes,
            Source::Spilled { block, .. } => block,
        };
        bytes.get(head.at..head.at + head.length).unwrap_or(&[])
    }

    fn advance(&mut self, disk: &mut Disk) -> Result<Option<Head>, Error> {
        match self {
            Source::Held { run, next } => {
                let Some(entry) = run.index.get(*next) else { return Ok(None) };
                *next += 1;
                Ok(Some(Head { key: entry.key, at: entry.at, length: entry.length as usize }))
            }
            Source::Spilled { at, end, block, next } => {
                if *next >= block.len() {
                    if *at >= *end {
                        return Ok(None);
                    }
                    *at = disk.read_block(*at, *end, block)?;
                    *next = 0;
                }
                let record = block.get(*next..).unwrap_or(&[]);
                let head = record.split_first_chunk::<4>().and_then(|(length, rest)| {
                    let (key, rest) = Key::take(rest)?;
                    let length = u32::from_le_bytes(*length) as usize;
                    (length <= rest.len()).then_some(Head { key, at: *next + 4 + KEY_LENGTH, length })
                });
                let Some(head) = head else { return Err(disk.damaged(&"a row is cut short")) };
                *next = head.at + head.length;
                Ok(Some(head))
            }
        }
    }
}

impl Disk {
    /// Reads the block at `at` into `block`; gives the place behind it.
    fn read_block(&mut self, at: u64, end: u64, block: &mut Vec<u8>) -> Result<u64, Error> {
        let mut lengths = [0u8; 8];
        self.read(at, &mut lengths)?;
        let [a, b, c, d, e, f, g, h] = lengths;
        let (packed, plain) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let next = at.saturating_add(8).saturating_add(packed.into());
        if next > end {
            return Err(self.damaged(&"a block is cut short"));
        }
        let mut frame = std::mem::take(&mut self.packed);
        frame.resize(packed as usize, 0);
        self.read(at + 8, &mut frame)?;
        // Grows with what is there: a length that was only read allocates nothing.
        block.clear();
        let limit = u64::from(plain).saturating_add(1);
        zstd::Decoder::with_buffer(frame.as_slice())
            .and_then(|decoder| decoder.take(limit).read_to_end(block))
            .map_err(|e| self.damaged(&e))?;
        self.packed = frame;
        if block.len() != plain as usize {
            return Err(self.damaged(&"a block is cut short"));
        }
        Ok(next)
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Err(self.damaged(&"it is gone")) };
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(buffer))
            .map_err(failed("read", &self.path))
    }

    fn damaged(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::Damaged { path: self.path.clone(), reason: reason.to_string() }
    }
}
