//! What is inside a gzip file that goes by: its hash, and its bytes where they are wanted.

use std::io::{self, Write};

use custody::{Digest, Hasher};
use flate2::write::MultiGzDecoder;

/// Bytes that one file may unpack to. CloudTrail's are a few hundred MiB at most.
const MOST_HASHED: u64 = 4 << 30;
const MOST_KEPT: u64 = 64 << 20;

/// What a file held.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) sha256: Digest,
    /// Empty unless they were to be kept.
    pub(super) bytes: Vec<u8>,
}

struct Sink {
    hasher: Hasher,
    kept: Option<Vec<u8>>,
    left: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than such a file can hold"))?;
        self.hasher.update(bytes);
        if let Some(kept) = self.kept.as_mut() {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A gzip file as its bytes go by.
pub(super) struct Inflated {
    decoder: MultiGzDecoder<Sink>,
    failed: Option<String>,
}

impl Inflated {
    /// One that hashes what is inside, and keeps it, too, if that is wanted.
    pub(super) fn new(keeps: bool) -> Self {
        let (kept, left) = if keeps { (Some(Vec::new()), MOST_KEPT) } else { (None, MOST_HASHED) };
        Self { decoder: MultiGzDecoder::new(Sink { hasher: Hasher::new(), kept, left }), failed: None }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        if self.failed.is_none()
            && let Err(error) = self.decoder.write_all(bytes)
        {
            self.failed = Some(format!("it cannot be unpacked: {error}"));
        }
    }

    pub(super) fn finish(self) -> Result<Unpacked, String> {
        if let Some(why) = self.failed {
            return Err(why);
        }
        let sink = self.decoder.finish().map_err(|error| format!("it cannot be unpacked: {error}"))?;
        Ok(Unpacked { sha256: sink.hasher.finish(), bytes: sink.kept.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn unpack(packed: &[u8], keeps: bool) -> Result<Unpacked, String> {
        let mut inflated = Inflated::new(keeps);
        packed.chunks(7).for_each(|part| inflated.update(part));
        inflated.finish()
    }

    #[test]
    fn what_is_inside_is_hashed_and_kept_where_it_is_wanted() {
        let packed = gzip(b"{\"Records\":[]}");
        let kept = unpack(&packed, true).unwrap();
        assert_eq!(
            (kept.sha256, kept.bytes.as_slice()),
            (custody::sha256(b"{\"Records\":[]}"), &b"{\"Records\":[]}"[..])
        );
        assert!(unpack(&packed, false).unwrap().bytes.is_empty());
    }

    #[test]
    fn cut_damaged_and_endless_files_are_told() {
        let packed = gzip(&[b'x'; 5000]);
        assert!(unpack(&packed[..packed.len() - 9], false).is_err());
        assert!(unpack(b"no gzip at all", false).is_err());
        let bomb = gzip(&vec![0; MOST_KEPT as usize + 1]);
        assert!(unpack(&bomb, true).unwrap_err().contains("more than such a file can hold"));
    }
}
