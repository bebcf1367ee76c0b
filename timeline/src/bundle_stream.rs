//! A bundle's stream as the lowest layer of bytes.

use custody::bundle::StreamReader;

use crate::bytes::{ByteSource, StreamRange};
use crate::error::ReadError;

/// The bytes of one stream of a bundle, read chunk by chunk and never changed.
pub(crate) struct BundleStream(StreamReader);

impl BundleStream {
    /// The bytes that `reader` gives.
    pub(crate) fn new(reader: StreamReader) -> BundleStream {
        BundleStream(reader)
    }
}

impl ByteSource for BundleStream {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.0.read_at(offset, buf).map_err(|error| ReadError::Read {
            what: format!("stream {}", self.0.name()),
            offset,
            length: buf.len() as u64,
            reason: error.to_string(),
        })
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let end = offset.saturating_add(length).min(self.len());
        if offset < end { std::iter::once(offset..end).collect() } else { Vec::new() }
    }
}
