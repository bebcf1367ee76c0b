//! One chunk as one zstd frame, and the seek table behind the frames of a segment.
//!
//! Reference: the zstd frame format, and the "zstd seekable format" of the zstd project's `contrib/seekable_format`.

use std::io;
use std::sync::Arc;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::digest::{Digest, sha256};

/// The smallest chunk that the format allows: 64 KiB.
pub const SMALLEST_CHUNK: u32 = 64 << 10;
/// The largest chunk that the format allows: 16 MiB.
pub const LARGEST_CHUNK: u32 = 16 << 20;
/// The usual chunk: 512 KiB.
pub const DEFAULT_CHUNK: u32 = 512 << 10;

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;

/// A chunk ready to be stored.
#[derive(Debug, Clone)]
pub struct EncodedChunk {
    /// Bytes of the stream in it.
    pub length: u32,
    /// SHA-256 of those bytes.
    pub sha256: Digest,
    /// Whether they are all zero.
    pub is_zero: bool,
    /// The zstd frame that gives them.
    pub frame: Frame,
}

/// The bytes of a zstd frame: its own, or those that all chunks of zeros share.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Of this chunk alone.
    Own(Vec<u8>),
    /// Of every chunk of zeros of one length.
    Shared(Arc<[u8]>),
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Hashes and compresses chunks; one for each thread that does so.
pub struct Encoder {
    compressor: Compressor<'static>,
    zeros: Option<EncodedChunk>,
    /// Room of a frame that is written already.
    spare: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// Makes one for a zstd level (−7 to 19 make sense; 1 is usual).
    ///
    /// # Errors
    ///
    /// What zstd says, as when there is no memory.
    pub fn new(level: i32) -> io::Result<Self> {
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Self { compressor, zeros: None, spare: Vec::new() })
    }

    /// Gives back the room of a frame that is written, for the next one: memory that is new costs the kernel more than a
    /// copy would.
    pub fn reuse(&mut self, chunk: EncodedChunk) {
        if let Frame::Own(room) = chunk.frame {
            self.spare = room;
        }
    }

    /// Hashes and compresses one chunk. Chunks of zeros cost a comparison only.
    ///
    /// # Errors
    ///
    /// What zstd says; a chunk longer than [`LARGEST_CHUNK`] is refused.
    pub fn encode(&mut self, data: &[u8]) -> io::Result<EncodedChunk> {
        self.encode_known(data, is_zero(data), None)
    }

    /// As [`Encoder::encode`], of which it is known already whether it is all zeros, and maybe its hash.
    ///
    /// # Errors
    ///
    /// As [`Encoder::encode`].
    pub fn encode_known(
        &mut self,
        data: &[u8],
        is_zero: bool,
        hash: Option<Digest>,
    ) -> io::Result<EncodedChunk> {
        let length = u32::try_from(data.len())
            .ok()
            .filter(|&length| length <= LARGEST_CHUNK)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "chunk longer than 16 MiB"))?;
        if !is_zero {
            let mut frame = std::mem::take(&mut self.spare);
            frame.clear();
            frame.reserve(zstd::zstd_safe::compress_bound(data.len()));
            self.compressor.compress_to_buffer(data, &mut frame)?;
            let frame = Frame::Own(frame);
            let sha256 = hash.unwrap_or_else(|| sha256(data));
            return Ok(EncodedChunk { length, sha256, is_zero: false, frame });
        }
        if let Some(zeros) = self.zeros.as_ref().filter(|zeros| zeros.length == length) {
            return Ok(zeros.clone());
        }
        let frame = Frame::Shared(self.compressor.compress(data)?.into());
        let zeros = EncodedChunk { length, sha256: sha256(data), is_zero: true, frame };
        self.zeros = Some(zeros.clone());
        Ok(zeros)
    }
}

/// Whether all bytes are zero, at the speed of `memcmp`.
#[must_use]
pub fn is_zero(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, rest)) => data.get(..rest.len()) == Some(rest),
        Some(_) => false,
        None => true,
    }
}

/// The longest frame that a chunk of this length can have.
pub(crate) fn longest_frame(length: u32) -> usize {
    // What zstd calls compress_bound, plus room for a frame written in small blocks.
    zstd::zstd_safe::compress_bound(length as usize).saturating_add(1 << 10)
}

/// Decompresses one frame to exactly `length` bytes, and never to more.
pub(crate) fn decode(
    decompressor: &mut Decompressor<'static>,
    frame: &[u8],
    length: u32,
) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(length as usize);
    let written = decompressor.decompress_to_buffer(frame, &mut data).map_err(|error| error.to_string())?;
    if written != length as usize {
        return Err(format!("the frame gives {written} bytes instead of {length}"));
    }
    Ok(data)
}

/// The skippable frame that lets any seekable-zstd reader find the frames of a segment.
#[derive(Debug, Default)]
pub(crate) struct SeekTable {
    entries: Vec<u8>,
    frames: u32,
}

impl SeekTable {
    pub(crate) fn push(&mut self, frame_length: u32, length: u32) {
        self.entries.extend_from_slice(&frame_length.to_le_bytes());
        self.entries.extend_from_slice(&length.to_le_bytes());
        self.frames = self.frames.saturating_add(1);
    }

    pub(crate) fn to_frame(&self) -> Vec<u8> {
        let size = u32::try_from(self.entries.len() + 9).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(self.entries.len() + 17);
        frame.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
        frame.extend_from_slice(&size.to_le_bytes());
        frame.extend_from_slice(&self.entries);
        frame.extend_from_slice(&self.frames.to_le_bytes());
        frame.push(0); // no checksums here: each frame has its own
        frame.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_comes_back_and_its_frame_has_a_checksum() {
        let mut encoder = Encoder::new(1).unwrap();
        let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let chunk = encoder.encode(&data).unwrap();
        assert!(!chunk.is_zero);
        assert_eq!(chunk.sha256, sha256(&data));
        let frame = chunk.frame.as_ref();
        assert_eq!(frame[4] & 0b100, 0b100, "content checksum flag of the frame header");
        let mut decompressor = Decompressor::new().unwrap();
        assert_eq!(decode(&mut decompressor, frame, chunk.length).unwrap(), data);
    }

    #[test]
    fn a_frame_never_gives_more_than_the_table_states() {
        let mut encoder = Encoder::new(1).unwrap();
        let bomb = encoder.encode(&vec![0; 1 << 20]).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        assert!(decode(&mut decompressor, bomb.frame.as_ref(), 1 << 10).is_err());
        assert!(decode(&mut decompressor, bomb.frame.as_ref(), 2 << 20).is_err());
    }

    #[test]
    fn zeros_of_any_length_are_known_as_zeros() {
        for length in [0usize, 1, 7, 8, 4096, 524_288] {
            let mut data = vec![0u8; length];
            assert!(is_zero(&data));
            if let Some(last) = data.last_mut() {
                *last = 1;
                assert!(!is_zero(&data), "{length}");
                data.fill(0);
                data[0] = 1;
                assert!(!is_zero(&data), "{length}");
            }
        }
        let mut encoder = Encoder::new(1).unwrap();
        let zeros = encoder.encode(&[0; 4096]).unwrap();
        assert!(zeros.is_zero);
        assert_eq!(zeros.sha256, sha256(&[0; 4096]));
        let shorter = encoder.encode(&[0; 4095]).unwrap();
        assert_eq!(shorter.sha256, sha256(&[0; 4095]));
    }

    #[test]
    fn the_seek_table_has_the_layout_of_the_seekable_format() {
        let mut table = SeekTable::default();
        table.push(0x11, 0x22);
        assert_eq!(
            table.to_frame(),
            [
                0x5E, 0x2A, 0x4D, 0x18, 17, 0, 0, 0, 0x11, 0, 0, 0, 0x22, 0, 0, 0, 1, 0, 0, 0, 0, 0xB1, 0xEA,
                0x92, 0x8F
            ]
        );
    }
}
