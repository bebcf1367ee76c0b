//! A bundle's stream as the lowest layer of bytes.

use custody::bundle::{State, StreamReader};

use crate::bytes::{ByteSource, StreamRange};
use crate::error::ReadError;

/// The bytes of one stream of a bundle, read chunk by chunk and never changed.
///
/// Bytes that lie in another bundle, which this one builds on, are refused: as zeros they would tell of files that never were.
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
        let length = buf.len() as u64;
        let fault = |reason: String| ReadError::Read {
            what: format!("stream {}", self.0.name()),
            offset,
            length,
            reason,
        };
        let end = offset.saturating_add(length);
        let mut at = offset;
        while let Some(extent) = self.0.extent_at(at).filter(|_| at < end) {
            if extent.state == State::Base {
                return Err(fault(
                    "these bytes did not change since the base, and lie in the exhibit of that".to_owned(),
                ));
            }
            at = extent.end();
        }
        self.0.read_at(offset, buf).map_err(|error| fault(error.to_string()))
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let end = offset.saturating_add(length).min(self.len());
        if offset < end { std::iter::once(offset..end).collect() } else { Vec::new() }
    }
}
