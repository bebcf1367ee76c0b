//! A fixed number of chunk buffers that go round: this is what bounds the memory of an acquisition.

use std::fmt::Debug;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Bytes of all buffers together. Deep enough that hashing goes on while data is hard to compress, and compressing while
/// the disk is slow: with 4 MiB instead, two cores took a sixth more time. With 128 MiB a chunk is out of the
/// processor's caches by the time that it is compressed, which costs a tenth.
pub(crate) const BUFFER_BYTES: usize = 24 << 20;

/// The same where the memory that they take is the evidence.
pub(crate) const SPARING_BUFFER_BYTES: usize = 8 << 20;

/// With fewer, a slow disk or a slow core would hold up the others.
const FEWEST: usize = 4;

/// Where a buffer goes when its last holder drops it.
pub(crate) trait Home: Debug + Send + Sync {
    /// Takes it back.
    fn back(&self, data: Vec<u8>);
}

impl Home for Sender<Vec<u8>> {
    fn back(&self, data: Vec<u8>) {
        // The pipeline may be gone already: then nobody waits for the buffer.
        let _ = self.send(data);
    }
}

/// Gives out buffers, and waits for one to come back when all are out.
#[derive(Debug)]
pub(crate) struct Buffers {
    home: Arc<dyn Home>,
    // Kept, so that waiting never fails.
    _home: Sender<Vec<u8>>,
    idle: Receiver<Vec<u8>>,
    unmade: usize,
    size: usize,
}

impl Buffers {
    /// Buffers of one size, of so many bytes together.
    pub(crate) fn new(size: usize, bytes: usize) -> Self {
        Self::of(size, (bytes / size.max(1)).max(FEWEST))
    }

    /// So many leaves to hold a chunk of zeros, which has no bytes of its own.
    pub(crate) fn of_zeros(count: usize) -> Self {
        Self::of(0, count.max(FEWEST))
    }

    fn of(size: usize, unmade: usize) -> Self {
        let (home, idle) = unbounded();
        Self { home: Arc::new(home.clone()), _home: home, idle, unmade, size }
    }

    /// An empty buffer with room for one chunk.
    pub(crate) fn take(&mut self) -> Buffer {
        let idle = self.idle.try_recv().ok();
        let data = match idle {
            Some(data) => data,
            None if self.unmade > 0 => {
                self.unmade -= 1;
                vec![0; self.size]
            }
            // A sender is kept here, so this fails never; an empty buffer is still a correct one.
            None => self.idle.recv().unwrap_or_else(|_| vec![0; self.size]),
        };
        Buffer { data, filled: 0, zeros: None, home: Arc::clone(&self.home) }
    }

    /// A chunk of zeros, the first `length` of those that all share.
    pub(crate) fn take_zeros(&mut self, zeros: &Arc<[u8]>, length: usize) -> Buffer {
        let mut buffer = self.take();
        (buffer.zeros, buffer.filled) = (Some(Arc::clone(zeros)), length.min(zeros.len()));
        buffer
    }
}

/// One buffer; it goes home when the last holder drops it.
#[derive(Debug)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    filled: usize,
    /// Instead of bytes of its own.
    zeros: Option<Arc<[u8]>>,
    home: Arc<dyn Home>,
}

impl Buffer {
    /// A buffer that is empty, of whoever wants it back.
    #[cfg(feature = "cloud")]
    pub(crate) fn of(data: Vec<u8>, home: Arc<dyn Home>) -> Self {
        Self { data, filled: 0, zeros: None, home }
    }

    /// What has been filled in.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.zeros.as_deref().unwrap_or(&self.data).get(..self.filled).unwrap_or_default()
    }

    /// How much is filled.
    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// The room behind it.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.data.get_mut(self.filled..).unwrap_or_default()
    }

    /// Says that the first bytes of the room have been written.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.filled = self.filled.saturating_add(bytes).min(self.data.len());
    }

    pub(crate) fn is_full(&self) -> bool {
        self.filled == self.data.len()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.back(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_buffers_are_made_than_the_bound_allows() {
        let mut buffers = Buffers::new(16 << 20, BUFFER_BYTES);
        let out: Vec<_> = (0..4).map(|_| buffers.take()).collect();
        assert_eq!(buffers.unmade, 0);
        let waiting = std::thread::spawn(move || buffers.take().len());
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!waiting.is_finished());
        drop(out);
        assert_eq!(waiting.join().unwrap(), 0);
    }
}
