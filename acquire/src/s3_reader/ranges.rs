//! Pieces of objects that are held for a while: what is read in order is asked for ahead, and no piece twice at a time.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::requests::{Client, Lock, Object, io_error, tried};
use crate::progress::Progress;

/// Bytes are held in blocks of this size: about one stored chunk.
const BLOCK: u64 = 256 << 10;
/// Blocks that one request asks for, where an object is read in order: 4 MiB.
const GROUP: u64 = 16;
/// Groups that are asked for ahead of a reader that goes on in order.
const AHEAD: u64 = 3;
/// An object of this size is asked for whole.
const SMALL: u64 = 1 << 20;
/// Bytes that are held, at most.
const HELD: usize = 64 << 20;
/// Requests that go on at a time.
const AT_A_TIME: usize = 16;
/// Readers in order that are told apart in one object.
const RUNS: usize = 8;

/// A block of an object.
type Key = (u32, u64);

#[derive(Debug)]
enum Block {
    Here {
        bytes: Box<[u8]>,
        used: u64,
    },
    Coming,
    /// Told to a reader that waits for it, then forgotten, so that the next asks again.
    Failed(io::Error),
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<Key, Block>,
    held: usize,
    coming: usize,
    clock: u64,
    /// For each object, the blocks that readers in order will want next.
    runs: HashMap<u32, Vec<u64>>,
}

/// What the requests of one reader share.
pub(super) struct Ranges {
    client: Client,
    state: Mutex<State>,
    arrived: Condvar,
    requests: Semaphore,
    locks: Mutex<BTreeMap<u32, Lock>>,
    fetched: AtomicU64,
    progress: Mutex<Option<Arc<dyn Progress>>>,
}

/// A run of blocks that one request asks for.
struct Piece {
    first: u64,
    count: u64,
}

impl Ranges {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            state: Mutex::default(),
            arrived: Condvar::new(),
            requests: Semaphore::new(AT_A_TIME),
            locks: Mutex::default(),
            fetched: AtomicU64::new(0),
            progress: Mutex::default(),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn report_to(&self, progress: Arc<dyn Progress>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// Bytes that came from the server so far.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// What protects each object that was read so far, by its number.
    pub(super) fn locks(&self) -> BTreeMap<u32, Lock> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads at an offset; fewer bytes only at the end of the object.
    pub(super) fn read(
        self: &Arc<Self>,
        runtime: &Handle,
        path: &str,
        object: &Object,
        offset: u64,
        buf: &mut [u8],
    ) -> io::Result<usize> {
        let end = object.size.min(offset.saturating_add(buf.len() as u64));
        if offset >= end {
            return Ok(0);
        }
        let (first, last) = (offset / BLOCK, (end - 1) / BLOCK);
        let mut state = self.state();
        for piece in state.wanted(object, first, last) {
            self.ask(runtime, &mut state, path, object, piece);
        }
        let mut done = 0;
        for number in first..=last {
            let key = (object.id, number);
            // A failure of long ago, of bytes that were asked for ahead, is no failure of this read.
            let mut asked = false;
            loop {
                state.clock += 1;
                let now = state.clock;
                match state.blocks.get_mut(&key) {
                    Some(Block::Here { bytes, used }) => {
                        *used = now;
                        let at = offset.saturating_add(done as u64).saturating_sub(number * BLOCK);
                        let held = bytes.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
                        let room = buf.get_mut(done..).unwrap_or_default();
                        let length = held.len().min(room.len());
                        for (to, from) in [(room.get_mut(..length), held.get(..length))] {
                            if let (Some(to), Some(from)) = (to, from) {
                                to.copy_from_slice(from);
                            }
                        }
                        done += length;
                        break;
                    }
                    Some(Block::Coming) => {
                        asked = true;
                        state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    Some(Block::Failed(_)) => {
                        if let Some(Block::Failed(error)) = state.blocks.remove(&key)
                            && asked
                        {
                            return Err(error);
                        }
                    }
                    // It failed before, or gave way to others before it was taken.
                    None => self.ask(runtime, &mut state, path, object, Piece { first: number, count: 1 }),
                }
            }
        }
        Ok(done)
    }

    /// Asks for the whole of a small object that will be read soon.
    pub(super) fn will_read(self: &Arc<Self>, runtime: &Handle, path: &str, object: &Object) {
        let mut state = self.state();
        if object.size == 0 || object.size > SMALL || state.is_full() {
            return;
        }
        for piece in state.missing(object, 0, (object.size - 1) / BLOCK) {
            self.ask(runtime, &mut state, path, object, piece);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request for blocks that are not there.
    fn ask(self: &Arc<Self>, runtime: &Handle, state: &mut State, path: &str, object: &Object, piece: Piece) {
        for number in piece.first..piece.first.saturating_add(piece.count) {
            state.blocks.insert((object.id, number), Block::Coming);
        }
        state.coming = state.coming.saturating_add(piece.bytes(object));
        let (this, path, object) = (Arc::clone(self), path.to_owned(), object.clone());
        runtime.spawn(async move {
            let mut delivery = Delivery { ranges: &this, object: &object, piece: &piece, done: None };
            let (start, length) = (piece.first * BLOCK, piece.bytes(&object) as u64);
            let permit = this.requests.acquire().await;
            let answer = tried(|| this.client.range(&path, &object, start, length)).await;
            drop(permit);
            delivery.done = Some(match answer {
                Ok((bytes, lock)) => {
                    this.locks.lock().unwrap_or_else(PoisonError::into_inner).insert(object.id, lock);
                    this.count(length);
                    Ok(bytes)
                }
                Err(failure) => Err(io_error(failure)),
            });
        });
    }

    fn count(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
        if let Some(progress) = &*self.progress.lock().unwrap_or_else(PoisonError::into_inner) {
            progress.advanced(bytes);
        }
    }
}

impl Piece {
    /// Bytes of the object that it covers.
    fn bytes(&self, object: &Object) -> usize {
        let start = self.first.saturating_mul(BLOCK);
        let end = self.first.saturating_add(self.count).saturating_mul(BLOCK).min(object.size);
        usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)
    }
}

/// Gives the blocks of a request their content, or the failure, however the request ends.
struct Delivery<'a> {
    ranges: &'a Ranges,
    object: &'a Object,
    piece: &'a Piece,
    done: Option<io::Result<Vec<u8>>>,
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        let done = self.done.take().unwrap_or_else(|| Err(io::Error::other("the request was given up")));
        let mut state = self.ranges.state();
        state.coming = state.coming.saturating_sub(self.piece.bytes(self.object));
        let numbers = self.piece.first..self.piece.first.saturating_add(self.piece.count);
        match done {
            Ok(bytes) => {
                for (number, block) in numbers.zip(bytes.chunks(BLOCK as usize)) {
                    state.hold((self.object.id, number), block);
                }
            }
            Err(error) => {
                for number in numbers {
                    let same = io::Error::new(error.kind(), error.to_string());
                    state.blocks.insert((self.object.id, number), Block::Failed(same));
                }
            }
        }
        self.ranges.arrived.notify_all();
    }
}

impl State {
    /// Which blocks to ask for, so that these can be read, and those that will be wanted next.
    fn wanted(&mut self, object: &Object, first: u64, last: u64) -> Vec<Piece> {
        let blocks = object.size.div_ceil(BLOCK);
        if object.size <= SMALL {
            return self.missing(object, 0, blocks.saturating_sub(1));
        }
        let runs = self.runs.entry(object.id).or_default();
        let goes_on = runs.iter().position(|next| first <= *next && first.saturating_add(1) >= *next);
        match goes_on {
            Some(run) => {
                runs.remove(run);
            }
            None if runs.len() >= RUNS => {
                runs.remove(0);
            }
            None => {}
        }
        runs.push(last.saturating_add(1));
        // Whoever begins at the start of a file goes on, as a rule.
        if goes_on.is_none() && first > 0 {
            return self.missing(object, first, last);
        }
        let group_end = |block: u64| (block / GROUP).saturating_add(1).saturating_mul(GROUP) - 1;
        let mut pieces = self.missing(object, first, group_end(last).min(blocks - 1));
        for ahead in 1..=AHEAD {
            let start = group_end(last).saturating_add(1).saturating_add((ahead - 1) * GROUP);
            if start >= blocks || self.is_full() {
                break;
            }
            // Only a whole group is worth a request that nobody waits for yet.
            let end = (start + GROUP - 1).min(blocks - 1);
            let missing = self.missing(object, start, end);
            if missing.iter().map(|piece| piece.count).sum::<u64>() == end - start + 1 {
                pieces.extend(missing);
            }
        }
        pieces
    }

    /// The runs of blocks that are neither here nor on their way, each short enough for one request.
    fn missing(&self, object: &Object, first: u64, last: u64) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for number in first..=last {
            if self.blocks.contains_key(&(object.id, number)) {
                continue;
            }
            match pieces.last_mut() {
                Some(piece) if piece.first + piece.count == number && piece.count < GROUP => piece.count += 1,
                _ => pieces.push(Piece { first: number, count: 1 }),
            }
        }
        pieces
    }

    /// Whether as much is on its way as can be held.
    fn is_full(&self) -> bool {
        self.coming >= HELD / 2
    }

    /// Keeps a block, and lets those go that nobody used for the longest time.
    fn hold(&mut self, key: Key, bytes: &[u8]) {
        self.clock += 1;
        self.held = self.held.saturating_add(bytes.len());
        self.blocks.insert(key, Block::Here { bytes: bytes.into(), used: self.clock });
        while self.held > HELD {
            let oldest = self.blocks.iter().filter_map(|(key, block)| match block {
                Block::Here { bytes, used } => Some((*used, *key, bytes.len())),
                _ => None,
            });
            let Some((_, key, length)) = oldest.min() else { return };
            self.blocks.remove(&key);
            self.held = self.held.saturating_sub(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(size: u64) -> Object {
        Object { id: 0, size, etag: String::new(), version: None }
    }

    fn asked(state: &mut State, object: &Object, first: u64, last: u64) -> Vec<(u64, u64)> {
        let pieces = state.wanted(object, first, last);
        for piece in &pieces {
            for number in piece.first..piece.first + piece.count {
                state.blocks.insert((object.id, number), Block::Coming);
            }
        }
        pieces.iter().map(|piece| (piece.first, piece.count)).collect()
    }

    #[test]
    fn a_file_that_is_read_in_order_is_asked_for_ahead_in_large_pieces() {
        let (mut state, object) = (State::default(), object(100 * BLOCK));
        assert_eq!(asked(&mut state, &object, 0, 1), [(0, 16), (16, 16), (32, 16), (48, 16)]);
        assert_eq!(asked(&mut state, &object, 1, 2), []);
        assert_eq!(asked(&mut state, &object, 2, 16), [(64, 16)]);
    }

    #[test]
    fn a_read_somewhere_asks_for_what_it_needs_and_no_more() {
        let (mut state, object) = (State::default(), object(100 * BLOCK));
        assert_eq!(asked(&mut state, &object, 50, 51), [(50, 2)]);
        assert_eq!(asked(&mut state, &object, 90, 90), [(90, 1)]);
        assert_eq!(asked(&mut state, &object, 52, 52)[0], (52, 12), "it goes on where the first ended");
    }

    #[test]
    fn a_small_file_is_asked_for_whole_and_the_end_is_kept() {
        let (mut state, object) = (State::default(), object(BLOCK + 1));
        assert_eq!(asked(&mut state, &object, 1, 1), [(0, 2)]);
        assert_eq!(Piece { first: 0, count: 2 }.bytes(&object) as u64, BLOCK + 1);
    }

    #[test]
    fn what_is_held_is_bounded_and_the_last_used_stays() {
        let mut state = State::default();
        for number in 0..1000 {
            state.hold((0, number), &[0; BLOCK as usize]);
        }
        assert!(state.held <= HELD && state.blocks.len() as u64 == HELD as u64 / BLOCK);
        assert!(state.blocks.contains_key(&(0, 999)) && !state.blocks.contains_key(&(0, 0)));
    }
}
