//! The payload of an AVML v2 image, unpacked where it is read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::address_space::{Block, HEADER, Header, is_avml, le};
use crate::bytes::{ByteSource, StreamRange, read_vec};
use crate::error::ReadError;

/// The version of the form that is packed.
pub(crate) const VERSION: u32 = 2;

/// A snappy frame holds no more than this.
const LARGEST_CHUNK: u64 = 1 << 16;
/// More pieces than this (1 TiB of them) are not listed.
const MOST_CHUNKS: usize = 1 << 24;
/// Unpacked pieces that are held, 4 MiB.
const HELD: usize = 64;

/// One piece of up to 64 KiB, as it is stored.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// Where it lies in the unpacked payload.
    start: u64,
    /// How long it is there.
    length: u32,
    /// Where its stored bytes lie, behind type, length and checksum.
    stored: u64,
    /// How many they are.
    stored_length: u32,
    is_packed: bool,
}

/// All ranges' unpacked bytes, one after the other.
pub(crate) struct AvmlBytes {
    stream: Arc<dyn ByteSource>,
    chunks: Vec<Chunk>,
    headers: Vec<u64>,
    length: u64,
    /// The last unpacked pieces, each with its index.
    held: Mutex<Vec<(usize, Arc<Vec<u8>>)>>,
}

impl AvmlBytes {
    /// Finds all pieces without unpacking them. What cannot be read ends them, and is an issue.
    pub(crate) fn open(
        stream: Arc<dyn ByteSource>,
        issues: &mut BTreeSet<String>,
    ) -> (AvmlBytes, Vec<Block>) {
        let mut image =
            AvmlBytes { stream, chunks: Vec::new(), headers: Vec::new(), length: 0, held: Mutex::default() };
        let mut blocks = Vec::new();
        if let Err(error) = image.ranges(&mut blocks, issues) {
            issues.insert(format!("the image is not read any further: {error}"));
        }
        (image, blocks)
    }

    fn ranges(&mut self, blocks: &mut Vec<Block>, issues: &mut BTreeSet<String>) -> Result<(), ReadError> {
        let image = self;
        let mut offset = 0u64;
        while offset < image.stream.len() {
            let header =
                Header::parse(&read_vec(&*image.stream, offset, HEADER as usize)?).filter(|h| is_avml(*h));
            let Some((header, length)) = header.and_then(|header| Some((header, header.length()?))) else {
                let rest = image.stream.len().saturating_sub(offset);
                issues.insert(format!(
                    "at offset {offset} there is no AVML header: the last {rest} bytes are not read"
                ));
                break;
            };
            image.headers.push(offset);
            let from = image.length;
            let payload = offset.saturating_add(HEADER);
            let end = image.frames(payload, length)?;
            let there = image.length.saturating_sub(from);
            blocks.push(Block { physical: header.first, length: there, offset: from });
            if there < length {
                issues.insert(format!(
                    "the range {:#x}-{:#x} unpacks to {there} of {length} bytes",
                    header.first, header.last
                ));
            }
            let trailer = le(&read_vec(&*image.stream, end, 8)?);
            if trailer != end.saturating_sub(payload) {
                issues.insert(format!("at offset {end} the packed length is not that of the range before"));
                break;
            }
            offset = end.saturating_add(8);
        }
        Ok(())
    }

    /// Lists the frames of one range until they hold `length` bytes; gives the offset behind them.
    fn frames(&mut self, from: u64, length: u64) -> Result<u64, ReadError> {
        let limit = self.length.saturating_add(length);
        let mut at = from;
        while self.length < limit && self.chunks.len() < MOST_CHUNKS {
            // Type, length of three bytes, checksum of four, and of a packed piece its unpacked length.
            let head = read_vec(&*self.stream, at, 13)?;
            let (Some(kind), Some(size)) = (head.first(), head.get(1..4).map(le)) else { break };
            let body = at.saturating_add(4);
            let next = body.saturating_add(size);
            if next > self.stream.len() {
                break;
            }
            let is_packed = *kind == 0;
            match kind {
                0 | 1 if size >= 4 => {
                    let unpacked = if is_packed {
                        head.get(8..).and_then(varint).unwrap_or(u64::MAX)
                    } else {
                        size.saturating_sub(4)
                    };
                    if unpacked > LARGEST_CHUNK || unpacked > limit.saturating_sub(self.length) {
                        break;
                    }
                    self.chunks.push(Chunk {
                        start: self.length,
                        length: unpacked as u32,
                        stored: body.saturating_add(4),
                        stored_length: size.saturating_sub(4) as u32,
                        is_packed,
                    });
                    self.length = self.length.saturating_add(unpacked);
                }
                // The stream's mark, padding, and pieces that may be passed over.
                0x80..=0xff => {}
                _ => break,
            }
            at = next;
        }
        Ok(at)
    }

    fn unpacked(&self, index: usize, chunk: &Chunk) -> Result<Arc<Vec<u8>>, ReadError> {
        let held = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = held().iter().find(|(at, _)| *at == index) {
            return Ok(bytes.clone());
        }
        let stored = read_vec(&*self.stream, chunk.stored, chunk.stored_length as usize)?;
        let failed = |reason: String| ReadError::Decompress { codec: "snappy", offset: chunk.start, reason };
        let bytes = if chunk.is_packed {
            // The length was checked when the pieces were listed; the decoder reads the same one.
            snap::raw::Decoder::new().decompress_vec(&stored).map_err(|error| failed(error.to_string()))?
        } else {
            stored
        };
        if bytes.len() != chunk.length as usize {
            return Err(failed("a piece is not as long as it says".to_owned()));
        }
        let bytes = Arc::new(bytes);
        let mut held = held();
        if held.len() >= HELD {
            held.remove(0);
        }
        held.push((index, bytes.clone()));
        Ok(bytes)
    }

    fn first_chunk(&self, offset: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.start.saturating_add(chunk.length.into()) <= offset)
    }
}

impl ByteSource for AvmlBytes {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0;
        for index in self.first_chunk(offset).. {
            let (Some(to), Some(chunk)) =
                (buf.get_mut(done..).filter(|to| !to.is_empty()), self.chunks.get(index))
            else {
                break;
            };
            let bytes = self.unpacked(index, chunk)?;
            let from = offset.saturating_add(done as u64).saturating_sub(chunk.start) as usize;
            let from = bytes.get(from..).unwrap_or_default();
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
            done += from.len().min(to.len());
        }
        Ok(done)
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let end = offset.saturating_add(length);
        let chunks = self.chunks.get(self.first_chunk(offset)..).unwrap_or_default();
        let wanted = chunks.iter().take_while(|chunk| chunk.start < end);
        wanted.flat_map(|chunk| self.stream.stream_ranges(chunk.stored, chunk.stored_length.into())).collect()
    }

    fn stored_as(&self, _offset: u64, _length: u64) -> Option<&'static str> {
        Some("pieces of an AVML image, packed by snappy unless they are stored as they are")
    }

    fn map_ranges(&self) -> Vec<StreamRange> {
        self.headers.iter().flat_map(|offset| self.stream.stream_ranges(*offset, HEADER)).collect()
    }
}

/// The unpacked length at the head of a packed piece.
fn varint(bytes: &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for (n, byte) in bytes.iter().take(5).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::address_space::AddressSpace;
    use std::io::Write;

    fn range(first: u64, bytes: &[u8]) -> Vec<u8> {
        let mut packed = snap::write::FrameEncoder::new(Vec::new());
        packed.write_all(bytes).unwrap();
        let packed = packed.into_inner().unwrap();
        let last = first + bytes.len() as u64 - 1;
        let head = [&0x4C4D_5641u32.to_le_bytes()[..], &2u32.to_le_bytes()].concat();
        let length = (packed.len() as u64).to_le_bytes();
        [&head[..], &first.to_le_bytes(), &last.to_le_bytes(), &[0; 8], &packed, &length].concat()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut x = 1u32;
        let next = |_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn packed_ranges_are_read_at_any_address_and_stand_on_their_stored_pieces() {
        let (zeros, noise) = (vec![0; 200_000], noise(200_000));
        let bytes = [range(0x1000, &zeros), range(0x100_0000, &noise)].concat();
        let space = AddressSpace::open(Arc::new(bytes), &[]).unwrap();
        assert_eq!((space.form(), space.issues()), ("avml", vec![]));
        let mut read = vec![0; 150_000];
        assert!(space.read(0x100_0000 + 40_000, &mut read));
        assert_eq!(read, noise[40_000..190_000]);
        let span = space.locate(0x100_0000 + 70_000, 10).unwrap();
        assert_eq!(span.offset, 270_000);
        let ranges = space.source().stream_ranges(span.offset, span.length);
        assert_eq!(ranges.len(), 1);
        assert!(ranges[0].end - ranges[0].start >= 65_536, "noise does not pack");
        assert_eq!(space.source().map_ranges().len(), 2);
    }

    #[test]
    fn cut_and_damaged_images_give_issues_and_never_more_than_they_hold() {
        let whole = range(0, &noise(100_000));
        for length in (0..whole.len()).step_by(997) {
            let space = AddressSpace::open(Arc::new(whole[..length].to_vec()), &[]).unwrap();
            assert!(!space.issues().is_empty(), "{length}");
        }
        for at in (32..whole.len()).step_by(991) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            let space = AddressSpace::open(Arc::new(bytes), &[]).unwrap();
            space.read(0, &mut vec![0; 100_000]);
        }
    }
}
