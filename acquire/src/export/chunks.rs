//! Reads the chunks of a stream by several threads, checks each, and gives what was made of them in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::unbounded;
use custody::bundle::{State, StreamReader};

use crate::error::{Error, Result};

/// Bytes of all chunks that are read but not yet written.
const BYTES_AHEAD: u64 = 48 << 20;

/// One chunk of a stream, checked.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    bytes: Arc<Vec<u8>>,
    length: usize,
    /// Whether they are zeros for sure, so that a file can have a hole here.
    pub(super) is_zeros: bool,
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Lets several threads make something of each chunk, and gives it to `take` in the order of the chunks.
///
/// `begin` makes what each thread keeps for itself. Chunks in flight are bounded. The first error ends it.
pub(super) fn each_in_order<W, T: Send>(
    reader: &StreamReader,
    threads: usize,
    begin: impl Fn() -> W + Sync,
    make: impl Fn(&mut W, Piece) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let count = reader.chunk_count();
    let chunk_size = u64::from(reader.stream().chunk_size).max(1);
    let threads = threads.max(1);
    let ahead = (BYTES_AHEAD / chunk_size).max(threads as u64 + 1);
    let zeros = Arc::new(vec![0; usize::try_from(chunk_size.min(reader.len())).unwrap_or(0)]);
    let (jobs, queue) = unbounded::<u64>();
    let (done, results) = unbounded::<(u64, Result<T>)>();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (queue, done, zeros, begin, make) = (queue.clone(), done.clone(), &zeros, &begin, &make);
            let work = move || {
                let mut own = begin();
                for index in queue {
                    // A thread that died silently would leave the others waiting for its chunk.
                    let made = catch_unwind(AssertUnwindSafe(|| {
                        piece(reader, index, zeros).and_then(|piece| make(&mut own, piece))
                    }));
                    if done.send((index, made.unwrap_or(Err(Error::Stopped)))).is_err() {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .name("export".to_owned())
                .spawn_scoped(scope, work)
                .map_err(Error::Thread)?;
        }
        drop((queue, done));
        // Moved in, so that whatever ends this block ends the threads.
        let jobs = jobs;
        let mut asked = 0u64;
        let mut early = BTreeMap::new();
        for next in 0..count {
            while asked < count && asked < next.saturating_add(ahead) {
                jobs.send(asked).map_err(|_| Error::Stopped)?;
                asked += 1;
            }
            let made = loop {
                if let Some(made) = early.remove(&next) {
                    break made;
                }
                let (index, made) = results.recv().map_err(|_| Error::Stopped)?;
                early.insert(index, made);
            };
            take(made?)?;
        }
        Ok(())
    })
}

/// Reads one chunk, unless the table says that all of it is zeros.
fn piece(reader: &StreamReader, index: u64, zeros: &Arc<Vec<u8>>) -> Result<Piece> {
    if let Some(row) = reader.chunk_row(index) {
        let end = row.offset.saturating_add(u64::from(row.length));
        let extent = reader.extent_at(row.offset);
        if extent.is_some_and(|extent| extent.state != State::Data && extent.end() >= end) {
            let length = row.length as usize;
            return Ok(Piece { bytes: Arc::clone(zeros), length, is_zeros: true });
        }
    }
    let bytes = reader.chunk(index).map_err(Error::of_reading)?;
    Ok(Piece { length: bytes.len(), bytes, is_zeros: false })
}
