//! A memory image padded by address: byte n of the file is the byte at physical address n.
//!
//! What lies between the ranges becomes a hole of the file where the file system has holes, and reads as zeros. That
//! makes a file as long as the highest address: a machine of 8 GiB has some up to 9 GiB and perhaps one far above, so
//! the length is checked before anything is written.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::iomem::PhysicalRange;
use super::lime::{HEADER_BYTES, Header, read_header};

/// Bytes that are copied together.
const BLOCK: usize = 1 << 20;

/// Why a memory stream could not be written as a padded image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaddedError {
    /// The stream could not be read.
    #[error("failed to read the memory stream at byte {offset}")]
    Read {
        /// Where in the stream.
        offset: u64,
        /// What happened.
        source: io::Error,
    },
    /// The image could not be written.
    #[error("failed to write the image at byte {offset}")]
    Write {
        /// Where in the image.
        offset: u64,
        /// What happened.
        source: io::Error,
    },
    /// It is no LiME stream, or one that is damaged here.
    #[error("there is no LiME header at byte {offset} of the memory stream")]
    NoHeader {
        /// Where in the stream.
        offset: u64,
    },
    /// It is compressed by AVML.
    #[error("the memory stream is compressed by AVML at byte {offset}: avml-convert makes a LiME file of it")]
    Compressed {
        /// Where in the stream.
        offset: u64,
    },
    /// Its last range is cut.
    #[error("the memory stream ends {missing} bytes before the end of its range {range}")]
    Cut {
        /// The range.
        range: PhysicalRange,
        /// Bytes of it that are missing.
        missing: u64,
    },
    /// The image would be longer than allowed.
    #[error(
        "range {range} would make the image longer than the {longest} bytes that are allowed: export it as LiME instead"
    )]
    TooLong {
        /// The range.
        range: PhysicalRange,
        /// Bytes allowed.
        longest: u64,
    },
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Padded {
    /// Ranges of memory.
    pub ranges: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Length of the image: the highest address and one.
    pub length: u64,
}

/// The ranges of a LiME stream, each with the offset of its first byte in the stream.
///
/// Only headers are read.
///
/// # Errors
///
/// [`PaddedError`], as for [`write_padded`].
pub fn lime_ranges<R: Read + Seek>(stream: &mut R) -> Result<Vec<(PhysicalRange, u64)>, PaddedError> {
    let failed = |offset: u64| move |source| PaddedError::Read { offset, source };
    let size = stream.seek(SeekFrom::End(0)).map_err(failed(0))?;
    let mut ranges = Vec::new();
    let mut offset = 0u64;
    while offset < size {
        stream.seek(SeekFrom::Start(offset)).map_err(failed(offset))?;
        let mut header = [0u8; HEADER_BYTES];
        if size - offset < HEADER_BYTES as u64 {
            return Err(PaddedError::NoHeader { offset });
        }
        stream.read_exact(&mut header).map_err(failed(offset))?;
        let range = match read_header(&header) {
            Header::Lime(range) => range,
            Header::Avml => return Err(PaddedError::Compressed { offset }),
            Header::Other => return Err(PaddedError::NoHeader { offset }),
        };
        let start = offset.saturating_add(HEADER_BYTES as u64);
        ranges.push((range, start));
        let left = size.saturating_sub(start);
        if range.length() > left {
            return Err(PaddedError::Cut { range, missing: range.length() - left });
        }
        offset = start.saturating_add(range.length());
    }
    Ok(ranges)
}

/// Writes a LiME stream as an image that is padded by address.
///
/// `out` must be empty. Zeros are not written but sought over, so that the file stays sparse; its end is written always.
/// Where ranges overlap, the later one of the stream wins, as it was read later.
///
/// # Errors
///
/// [`PaddedError`]. All headers are read before anything is written, so a stream that is damaged or too long (an image of
/// more than `longest` bytes) writes nothing.
pub fn write_padded<R: Read + Seek, W: Write + Seek>(
    stream: &mut R,
    out: &mut W,
    longest: u64,
) -> Result<Padded, PaddedError> {
    let ranges = lime_ranges(stream)?;
    let mut padded = Padded { ranges: ranges.len() as u64, ..Padded::default() };
    for (range, _) in &ranges {
        if range.last() >= longest {
            return Err(PaddedError::TooLong { range: *range, longest });
        }
        padded.length = padded.length.max(range.last().saturating_add(1));
        padded.bytes = padded.bytes.saturating_add(range.length());
    }
    let mut sorted: Vec<PhysicalRange> = ranges.iter().map(|(range, _)| *range).collect();
    sorted.sort_unstable();
    // Where ranges overlap, zeros have to be written too.
    let overlap = sorted.windows(2).any(|pair| matches!(pair, [a, b] if a.last() >= b.start()));
    let mut block = vec![0u8; BLOCK];
    let mut end_written = false;
    for (range, start) in ranges {
        stream.seek(SeekFrom::Start(start)).map_err(|source| PaddedError::Read { offset: start, source })?;
        let mut done = 0u64;
        while done < range.length() {
            let take = usize::try_from(range.length() - done).unwrap_or(BLOCK).min(BLOCK);
            let Some(block) = block.get_mut(..take) else { break };
            stream
                .read_exact(block)
                .map_err(|source| PaddedError::Read { offset: start.saturating_add(done), source })?;
            let at = range.start().saturating_add(done);
            if overlap || block.iter().any(|&byte| byte != 0) {
                let failed = |source| PaddedError::Write { offset: at, source };
                out.seek(SeekFrom::Start(at)).map_err(failed)?;
                out.write_all(block).map_err(failed)?;
                end_written |= at.saturating_add(take as u64) == padded.length;
            }
            done = done.saturating_add(take as u64);
        }
    }
    if let Some(last) = padded.length.checked_sub(1).filter(|_| !end_written) {
        let failed = |source| PaddedError::Write { offset: last, source };
        out.seek(SeekFrom::Start(last)).map_err(failed)?;
        out.write_all(&[0]).map_err(failed)?;
    }
    out.flush().map_err(|source| PaddedError::Write { offset: padded.length, source })?;
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::super::lime::header;
    use super::super::made_machine::filled;
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;
    use std::os::unix::fs::MetadataExt;

    fn lime(parts: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (start, bytes) in parts {
            stream.extend(header(PhysicalRange::with_length(*start, bytes.len() as u64).unwrap()));
            stream.extend(bytes);
        }
        stream
    }

    #[test]
    fn every_byte_lies_at_its_address_and_gaps_read_as_zeros() {
        let stream = lime(&[
            (0x1000, filled(0x1000, 0xc00)),
            (0x30_0000, filled(0x30_0000, 0x18_0000)),
            (0x50_0000, vec![0; 9]),
        ]);
        let mut out = Cursor::new(Vec::new());
        let padded = write_padded(&mut Cursor::new(stream), &mut out, 1 << 30).unwrap();
        assert_eq!(padded, Padded { ranges: 3, bytes: 0xc00 + 0x18_0000 + 9, length: 0x50_0009 });
        let image = out.into_inner();
        assert_eq!(image.len(), 0x50_0009);
        assert_eq!(image[0x1000..0x1c00], filled(0x1000, 0xc00));
        assert_eq!(image[0x30_0000..0x48_0000], filled(0x30_0000, 0x18_0000));
        assert!(image[..0x1000].iter().chain(&image[0x1c00..0x30_0000]).all(|&byte| byte == 0));
    }

    #[test]
    fn gaps_and_pages_of_zeros_take_no_room_on_disk() {
        let stream = lime(&[(0, vec![7; 4096]), (1 << 30, vec![0; 8 << 20])]);
        let mut out = tempfile::tempfile().unwrap();
        write_padded(&mut Cursor::new(stream), &mut out, 2 << 30).unwrap();
        let metadata = out.metadata().unwrap();
        assert_eq!(metadata.len(), (1 << 30) + (8 << 20));
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }

    #[test]
    fn where_ranges_overlap_the_later_one_wins_with_its_zeros() {
        let stream = lime(&[(0, vec![7; 100]), (50, vec![0; 20])]);
        let mut out = Cursor::new(Vec::new());
        write_padded(&mut Cursor::new(stream), &mut out, 100).unwrap();
        let image = out.into_inner();
        assert!(
            image[..50].iter().chain(&image[70..]).all(|&b| b == 7) && image[50..70].iter().all(|&b| b == 0)
        );
    }

    #[test]
    fn a_stream_that_is_damaged_cut_compressed_or_too_long_writes_nothing() {
        let good = lime(&[(0x1000, vec![1; 100]), (0x9000, vec![2; 100])]);
        let refused = |stream: Vec<u8>, longest: u64| {
            let mut out = Cursor::new(Vec::new());
            let error = write_padded(&mut Cursor::new(stream), &mut out, longest).unwrap_err();
            assert!(out.into_inner().is_empty());
            error
        };
        assert!(matches!(refused(good.clone(), 0x9063), PaddedError::TooLong { .. }));
        assert!(matches!(
            refused(good[..good.len() - 1].to_vec(), 1 << 20),
            PaddedError::Cut { missing: 1, .. }
        ));
        assert!(matches!(refused(good[..140].to_vec(), 1 << 20), PaddedError::NoHeader { offset: 132 }));
        assert!(matches!(
            refused(b"AVML\x02\0\0\0".repeat(8), 1 << 20),
            PaddedError::Compressed { offset: 0 }
        ));
        assert!(matches!(refused(vec![9; 64], 1 << 20), PaddedError::NoHeader { offset: 0 }));
        let none = write_padded(&mut Cursor::new(Vec::new()), &mut Cursor::new(Vec::new()), 0).unwrap();
        assert_eq!(none, Padded::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), damage in 0usize..32) {
            let mut stream = lime(&[(3, vec![1; 50])]);
            stream.extend(&bytes);
            stream[damage] = bytes.first().copied().unwrap_or(0);
            let _ = write_padded(&mut Cursor::new(stream), &mut Cursor::new(Vec::new()), 1 << 16);
        }
    }
}
