//! Chunks that were decompressed last, within a fixed number of bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Number of a stream in its bundle, and of a chunk in the stream.
pub(crate) type Key = (usize, u64);

/// A cache in parts, so that threads seldom wait for each other. Each part drops what it used longest ago.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    parts: Vec<Mutex<Part>>,
    part_bytes: usize,
}

#[derive(Debug, Default)]
struct Part {
    chunks: HashMap<Key, (Arc<Vec<u8>>, u64)>,
    bytes: usize,
    clock: u64,
}

impl ChunkCache {
    /// `largest` is the size of the largest chunk: every part can hold some.
    pub(crate) fn new(bytes: usize, largest: usize) -> Self {
        let parts = (bytes / largest.saturating_mul(4).max(1)).clamp(1, 16);
        Self { parts: (0..parts).map(|_| Mutex::default()).collect(), part_bytes: bytes / parts }
    }

    fn part(&self, key: Key) -> Option<&Mutex<Part>> {
        let parts = self.parts.len() as u64;
        self.parts.get(usize::try_from(key.1.wrapping_add(key.0 as u64) % parts.max(1)).unwrap_or(0))
    }

    pub(crate) fn get(&self, key: Key) -> Option<Arc<Vec<u8>>> {
        let mut part = self.part(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        part.clock += 1;
        let now = part.clock;
        let (chunk, used) = part.chunks.get_mut(&key)?;
        *used = now;
        Some(Arc::clone(chunk))
    }

    pub(crate) fn put(&self, key: Key, chunk: Arc<Vec<u8>>) {
        let Some(part) = self.part(key) else { return };
        if chunk.len() > self.part_bytes {
            return;
        }
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.clock += 1;
        let now = part.clock;
        part.bytes += chunk.len();
        if let Some((old, _)) = part.chunks.insert(key, (chunk, now)) {
            part.bytes = part.bytes.saturating_sub(old.len());
        }
        while part.bytes > self.part_bytes {
            let Some(oldest) = part.chunks.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
            else {
                break;
            };
            if let Some((old, _)) = part.chunks.remove(&oldest) {
                part.bytes = part.bytes.saturating_sub(old.len());
            }
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.lock().unwrap().bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_never_holds_more_than_its_bytes_and_drops_the_oldest() {
        let cache = ChunkCache::new(4 * 100, 100);
        for index in 0..50 {
            cache.put((0, index), Arc::new(vec![0; 100]));
            assert!(cache.bytes() <= 400);
        }
        assert!(cache.get((0, 49)).is_some());
        assert!(cache.get((0, 0)).is_none());
        assert!(cache.get((1, 49)).is_none());
    }

    #[test]
    fn a_chunk_that_is_put_twice_counts_once() {
        let cache = ChunkCache::new(1000, 100);
        cache.put((0, 1), Arc::new(vec![0; 100]));
        cache.put((0, 1), Arc::new(vec![0; 100]));
        assert_eq!(cache.bytes(), 100);
    }

    #[test]
    fn a_chunk_larger_than_the_cache_is_not_kept() {
        let cache = ChunkCache::new(10, 100);
        cache.put((0, 1), Arc::new(vec![0; 100]));
        assert!(cache.get((0, 1)).is_none());
    }
}
