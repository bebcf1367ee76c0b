//! A fixed number of chunk buffers that go round: this is what bounds the memory of an acquisition.

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Bytes of all buffers together. Deep enough that hashing goes on while data is hard to compress, and compressing while
/// the disk is slow: with 4 MiB instead, two cores took a sixth more time. With 128 MiB a chunk is out of the
/// processor's caches by the time that it is compressed, which costs a tenth.
pub(crate) const BUFFER_BYTES: usize = 24 << 20;

/// The same where the memory that they take is the evidence.
pub(crate) const SPARING_BUFFER_BYTES: usize = 8 << 20;

/// With fewer, a slow disk or a slow core would hold up the others.
const FEWEST: usize = 4;

/// Gives out buffers, and waits for one to come back when all are out.
#[derive(Debug)]
pub(crate) struct Buffers {
    home: Sender<Vec<u8>>,
    idle: Receiver<Vec<u8>>,
    unmade: usize,
    size: usize,
}

impl Buffers {
    /// Buffers of one size, of so many bytes together.
    pub(crate) fn new(size: usize, bytes: usize) -> Self {
        let (home, idle) = unbounded();
        let unmade = (bytes / size.max(1)).max(FEWEST);
        Self { home, idle, unmade, size }
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
        Buffer { data, filled: 0, home: self.home.clone() }
    }
}

/// One buffer; it goes home when the last holder drops it.
#[derive(Debug)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    filled: usize,
    home: Sender<Vec<u8>>,
}

impl Buffer {
    /// What has been filled in.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.data.get(..self.filled).unwrap_or_default()
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
        // The pipeline may be gone already: then nobody waits for the buffer.
        let _ = self.home.send(std::mem::take(&mut self.data));
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
