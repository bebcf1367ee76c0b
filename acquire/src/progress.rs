//! How an acquisition tells how far it is.

/// Told how far an acquisition is. Silent unless a caller draws something.
pub trait Progress: Send + Sync {
    /// A stream begins.
    fn started(&self, _what: &str, _total_bytes: Option<u64>) {}
    /// Another part of the stream begins.
    fn part(&self, _what: &str) {}
    /// Bytes of the stream have been stored.
    fn advanced(&self, _bytes: u64) {}
    /// The stream is complete.
    fn finished(&self) {}
}

/// Draws nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
