//! Decoded parts of an image that were used last, within a fixed number of bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: u64 = 8;

/// A cache that threads seldom wait for: parts lie in shards by their number.
#[derive(Debug)]
pub(super) struct DecodedCache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes: usize,
}

#[derive(Debug, Default)]
struct Shard {
    parts: HashMap<u64, (Arc<Vec<u8>>, u64)>,
    bytes: usize,
    uses: u64,
}

impl DecodedCache {
    /// A cache of `bytes`, or of one part for each shard if that is more: so the largest part must be bounded.
    pub(super) fn new(bytes: usize, largest_part: usize) -> DecodedCache {
        let shard_bytes = (bytes / SHARDS as usize).max(largest_part);
        DecodedCache { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), shard_bytes }
    }

    /// The part of that number, decoded by `decode` if it is not there.
    pub(super) fn get_or<E>(
        &self,
        number: u64,
        decode: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Arc<Vec<u8>>, E> {
        if let Some(mut shard) = self.shard(number) {
            shard.uses += 1;
            let now = shard.uses;
            if let Some((part, used)) = shard.parts.get_mut(&number) {
                *used = now;
                return Ok(part.clone());
            }
        }
        // Decoded without the lock: two threads may decode the same part, none waits for another's.
        let part = Arc::new(decode()?);
        self.put(number, part.clone());
        Ok(part)
    }

    /// Keeps a part that was decoded on the way to another.
    pub(super) fn put(&self, number: u64, part: Arc<Vec<u8>>) {
        if let Some(mut shard) = self.shard(number) {
            shard.keep(number, part, self.shard_bytes);
        }
    }

    fn shard(&self, number: u64) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get((number % SHARDS) as usize)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn keep(&mut self, number: u64, part: Arc<Vec<u8>>, most: usize) {
        self.uses += 1;
        let now = self.uses;
        self.bytes = self.bytes.saturating_add(part.len());
        if let Some((old, _)) = self.parts.insert(number, (part, now)) {
            self.bytes = self.bytes.saturating_sub(old.len());
        }
        while self.bytes > most {
            let oldest = self.parts.iter().min_by_key(|(_, (_, used))| *used).map(|(number, _)| *number);
            let Some((old, _)) = oldest.and_then(|number| self.parts.remove(&number)) else { break };
            self.bytes = self.bytes.saturating_sub(old.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_decoded_once_while_it_is_kept_and_bytes_are_bounded() {
        let cache = DecodedCache::new(0, 100);
        let decoded = std::cell::Cell::new(0);
        let get = |number| {
            let part = cache.get_or(number, || {
                decoded.set(decoded.get() + 1);
                Ok::<_, ()>(vec![number as u8; 60])
            });
            assert_eq!(part.unwrap().first(), Some(&(number as u8)));
        };
        get(0);
        get(0);
        assert_eq!(decoded.get(), 1);
        // The same shard holds one part of 60 bytes, not two.
        get(SHARDS);
        get(0);
        assert_eq!(decoded.get(), 3);
        assert!(cache.shards.iter().all(|shard| shard.lock().unwrap().bytes <= 100));
    }
}
