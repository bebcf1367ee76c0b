//! A bundle's stream as the lowest layer of bytes.

use std::sync::Arc;

use custody::bundle::{Bundle, StreamReader};

use crate::bytes::{ByteSource, StreamRange};
use crate::error::{Error, ReadError};

/// The bytes of one stream of a bundle, read chunk by chunk and never changed.
pub struct BundleStream {
    name: String,
    reader: StreamReader,
}

impl BundleStream {
    /// Opens the stream of that name.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] when the bundle has no such stream, or its tables are damaged.
    pub fn open(bundle: &Arc<Bundle>, name: &str) -> Result<BundleStream, Error> {
        Ok(BundleStream { name: name.to_owned(), reader: bundle.stream(name)? })
    }
}

impl ByteSource for BundleStream {
    fn len(&self) -> u64 {
        self.reader.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.reader.read_at(offset, buf).map_err(|error| ReadError::Read {
            what: format!("stream {}", self.name),
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
