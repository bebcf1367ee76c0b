//! The chunks and extents tables: tab-separated, one header line, every number checked.

use std::fmt::Write as _;
use std::io::{self, BufRead};

use super::error::{Error, Result};
use super::extent::{Extent, State};
use super::frame::{LARGEST_CHUNK, SMALLEST_CHUNK, longest_frame};
use crate::digest::Digest;

pub(crate) const CHUNKS_HEADER: &str = "index\toffset\tlength\tsha256\tsegment\tframe_offset\tframe_length";
pub(crate) const EXTENTS_HEADER: &str = "start\tlength\tstate\tdetail";

/// No line of a table is longer: a detail is cut before.
const LONGEST_ROW: usize = 4096;

/// One chunk of a stream: where it is, what it hashes to and which frame gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRow {
    /// Number of the chunk, from 0.
    pub index: u64,
    /// Its first byte in the stream.
    pub offset: u64,
    /// Its bytes in the stream.
    pub length: u32,
    /// SHA-256 of those bytes.
    pub sha256: Digest,
    /// Number of the segment, which is its file's name: `000007.zst`.
    pub segment: u32,
    /// Where the frame starts in that file.
    pub frame_offset: u64,
    /// Bytes of the frame.
    pub frame_length: u32,
}

/// The file name of a segment.
#[must_use]
pub fn segment_name(segment: u32) -> String {
    format!("{segment:06}.zst")
}

fn segment_number(name: &str) -> Option<u32> {
    let number: u32 = name.strip_suffix(".zst")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

impl ChunkRow {
    pub(crate) fn write(&self, line: &mut String) {
        let _ = writeln!(
            line,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            self.index,
            self.offset,
            self.length,
            self.sha256,
            segment_name(self.segment),
            self.frame_offset,
            self.frame_length
        );
    }

    pub(super) fn parse(line: &str) -> std::result::Result<Self, String> {
        let mut cells = line.split('\t');
        let mut cell = |name: &'static str| cells.next().ok_or_else(|| format!("no {name}"));
        let row = Self {
            index: number(cell("index")?)?,
            offset: number(cell("offset")?)?,
            length: small(cell("length")?)?,
            sha256: cell("sha256")?
                .parse()
                .map_err(|_| "sha256 is not 64 lower-case hex digits".to_owned())?,
            segment: segment_number(cell("segment")?).ok_or("segment is not a name like 000000.zst")?,
            frame_offset: number(cell("frame_offset")?)?,
            frame_length: small(cell("frame_length")?)?,
        };
        match cells.next() {
            Some(_) => Err("more than 7 cells".to_owned()),
            None => Ok(row),
        }
    }
}

impl Extent {
    pub(crate) fn write(&self, line: &mut String) {
        let _ = writeln!(line, "{}\t{}\t{}\t{}", self.start, self.length, self.state, self.detail);
    }

    fn parse(line: &str) -> std::result::Result<Self, String> {
        let mut cells = line.split('\t');
        let mut cell = |name: &'static str| cells.next().ok_or_else(|| format!("no {name}"));
        let extent = Self {
            start: number(cell("start")?)?,
            length: number(cell("length")?)?,
            state: cell("state")?.parse::<State>().map_err(|error| error.to_string())?,
            detail: cell("detail")?.to_owned(),
        };
        if !is_detail(&extent.detail) {
            return Err("detail is not printable ASCII of at most 200 characters".to_owned());
        }
        match cells.next() {
            Some(_) => Err("more than 4 cells".to_owned()),
            None => Ok(extent),
        }
    }
}

/// Whether a text can be the detail of an extent.
pub(super) fn is_detail(text: &str) -> bool {
    text.len() <= 200 && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// A decimal number as the writer writes it: no sign, no leading zero.
fn number(text: &str) -> std::result::Result<u64, String> {
    let canonical = text == "0" || !text.starts_with('0');
    if canonical
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Ok(number);
    }
    Err(format!("{text:?} is not a number"))
}

fn small(text: &str) -> std::result::Result<u32, String> {
    u32::try_from(number(text)?).map_err(|_| format!("{text:?} is too large"))
}

/// Calls `row` for every line behind the header, and checks the frame of the table.
fn each_row(
    path: &str,
    header: &str,
    input: &mut dyn BufRead,
    mut row: impl FnMut(&str) -> std::result::Result<(), String>,
) -> Result<()> {
    let mut bytes = Vec::with_capacity(256);
    let mut line = 0u64;
    loop {
        bytes.clear();
        let read = io::Read::take(&mut *input, LONGEST_ROW as u64)
            .read_until(b'\n', &mut bytes)
            .map_err(|source| Error::read(path, source))?;
        if read == 0 {
            break;
        }
        line += 1;
        if bytes.pop() != Some(b'\n') {
            return Err(Error::table(path, line, "the line is cut or too long"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::table(path, line, "not UTF-8"))?;
        if line == 1 {
            if text != header {
                return Err(Error::table(path, line, "not the header of this table"));
            }
            continue;
        }
        row(text).map_err(|reason| Error::table(path, line, reason))?;
    }
    if line == 0 {
        return Err(Error::table(path, 1, "the table is empty"));
    }
    Ok(())
}

/// All chunks of a stream, held in 52 bytes each.
#[derive(Debug)]
pub struct ChunkTable {
    chunk_size: u32,
    size: u64,
    hashes: Vec<Digest>,
    frames: Vec<FramePlace>,
}

#[derive(Debug, Clone, Copy)]
struct FramePlace {
    offset: u64,
    length: u32,
    segment: u32,
}

impl ChunkTable {
    /// Reads a table, and checks each row against the one before and against the stream.
    ///
    /// `segments` holds the sizes of the stored segments, in order. Frames must follow each other without a hole,
    /// or else `zstd -d` would give another stream than the table.
    ///
    /// # Errors
    ///
    /// [`Error::Table`] with the line, or [`Error::Read`].
    pub fn read(
        path: &str,
        input: &mut dyn BufRead,
        chunk_size: u32,
        size: u64,
        segments: &[u64],
    ) -> Result<Self> {
        if !chunk_size.is_power_of_two() || !(SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&chunk_size) {
            return Err(Error::manifest(format!(
                "chunk_size {chunk_size} is not a power of two from 64 KiB to 16 MiB"
            )));
        }
        let expected = size.div_ceil(u64::from(chunk_size));
        let mut table = Self { chunk_size, size, hashes: Vec::new(), frames: Vec::new() };
        let mut before: Option<FramePlace> = None;
        each_row(path, CHUNKS_HEADER, input, |line| {
            let row = ChunkRow::parse(line)?;
            let index = table.hashes.len() as u64;
            if row.index != index || index >= expected {
                return Err(format!("row {} where {index} of {expected} belongs", row.index));
            }
            let offset = index.saturating_mul(u64::from(chunk_size));
            if row.offset != offset {
                return Err(format!("offset {} instead of {offset}", row.offset));
            }
            let length = u64::from(chunk_size).min(size.saturating_sub(offset));
            if u64::from(row.length) != length {
                return Err(format!("length {} instead of {length}", row.length));
            }
            let follows = match before {
                None => row.segment == 0 && row.frame_offset == 0,
                Some(last) if last.segment == row.segment => {
                    row.frame_offset == last.offset.saturating_add(u64::from(last.length))
                }
                Some(last) => Some(row.segment) == last.segment.checked_add(1) && row.frame_offset == 0,
            };
            if !follows {
                return Err("the frame does not follow the one before".to_owned());
            }
            let stored = segments.get(row.segment as usize).ok_or("the manifest has no such segment")?;
            let end = row.frame_offset.saturating_add(u64::from(row.frame_length));
            if row.frame_length == 0 || row.frame_length as usize > longest_frame(row.length) || end > *stored
            {
                return Err(format!("frame_length {} cannot be", row.frame_length));
            }
            let place =
                FramePlace { offset: row.frame_offset, length: row.frame_length, segment: row.segment };
            table.hashes.push(row.sha256);
            table.frames.push(place);
            before = Some(place);
            Ok(())
        })?;
        let found = table.hashes.len() as u64;
        if found != expected {
            return Err(Error::table(path, found + 1, format!("{found} chunks instead of {expected}")));
        }
        if before.map_or(0, |last| last.segment as usize + 1) != segments.len() {
            return Err(Error::table(path, found + 1, "the manifest lists a segment that no chunk is in"));
        }
        Ok(table)
    }

    /// How many chunks there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// The number of the chunk that holds a byte of the stream.
    #[must_use]
    pub fn chunk_of(&self, offset: u64) -> Option<u64> {
        (offset < self.size).then(|| offset / u64::from(self.chunk_size))
    }

    /// The row of a chunk.
    #[must_use]
    pub fn row(&self, index: u64) -> Option<ChunkRow> {
        let at = usize::try_from(index).ok()?;
        let (sha256, frame) = (*self.hashes.get(at)?, *self.frames.get(at)?);
        let offset = index.checked_mul(u64::from(self.chunk_size))?;
        let length = u64::from(self.chunk_size).min(self.size.checked_sub(offset)?);
        Some(ChunkRow {
            index,
            offset,
            length: u32::try_from(length).ok()?,
            sha256,
            segment: frame.segment,
            frame_offset: frame.offset,
            frame_length: frame.length,
        })
    }

    /// The hashes of all chunks, in order.
    #[must_use]
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }
}

/// Reads an extents table and checks that it partitions a stream of `size` bytes exactly.
///
/// # Errors
///
/// [`Error::Table`] with the line, or [`Error::Read`].
pub fn read_extents(path: &str, input: &mut dyn BufRead, size: u64) -> Result<Vec<Extent>> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut at = 0u64;
    each_row(path, EXTENTS_HEADER, input, |line| {
        let extent = Extent::parse(line)?;
        if extent.start != at {
            return Err(format!("starts at {} instead of {at}", extent.start));
        }
        at = extent
            .start
            .checked_add(extent.length)
            .filter(|&end| end <= size && extent.length > 0)
            .ok_or_else(|| format!("length {} cannot be: the stream has {size} bytes", extent.length))?;
        extents.push(extent);
        Ok(())
    })?;
    if at != size {
        return Err(Error::table(path, extents.len() as u64 + 1, format!("ends at {at} instead of {size}")));
    }
    Ok(extents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;

    const CHUNK: u32 = SMALLEST_CHUNK;

    fn rows() -> Vec<ChunkRow> {
        let row = |index: u64, length, segment, frame_offset, frame_length| ChunkRow {
            index,
            offset: index * u64::from(CHUNK),
            length,
            sha256: sha256(&index.to_le_bytes()),
            segment,
            frame_offset,
            frame_length,
        };
        vec![row(0, CHUNK, 0, 0, 10), row(1, CHUNK, 0, 10, 20), row(2, 5, 1, 0, 14)]
    }

    fn text(rows: &[ChunkRow]) -> String {
        let mut text = format!("{CHUNKS_HEADER}\n");
        for row in rows {
            row.write(&mut text);
        }
        text
    }

    fn read(text: &str) -> Result<ChunkTable> {
        ChunkTable::read(
            "data/disk.chunks.tsv",
            &mut text.as_bytes(),
            CHUNK,
            2 * u64::from(CHUNK) + 5,
            &[47, 31],
        )
    }

    #[test]
    fn a_chunk_table_comes_back_row_by_row() {
        let table = read(&text(&rows())).unwrap();
        assert_eq!(table.count(), 3);
        assert_eq!((0..3).map(|index| table.row(index).unwrap()).collect::<Vec<_>>(), rows());
        assert_eq!(table.row(3), None);
        assert_eq!(table.chunk_of(u64::from(CHUNK)), Some(1));
        assert_eq!(table.chunk_of(2 * u64::from(CHUNK) + 5), None);
    }

    #[test]
    fn a_row_that_cannot_be_is_refused_with_its_line() {
        type Change = fn(&mut Vec<ChunkRow>);
        let changes: [Change; 9] = [
            |rows| rows[1].index = 2,
            |rows| rows[1].offset += 1,
            |rows| rows[1].length -= 1,
            |rows| rows[1].frame_offset = 11,
            |rows| rows[1].frame_length = u32::MAX,
            |rows| rows[1].frame_length = 0,
            |rows| rows[2].segment = 2,
            |rows| rows.truncate(2),
            |rows| rows.push(rows[2].clone()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = rows();
            change(&mut changed);
            assert!(matches!(read(&text(&changed)), Err(Error::Table { .. })), "change {number}");
        }
    }

    #[test]
    fn text_that_the_writer_would_not_write_is_refused() {
        let good = text(&rows());
        for (from, to) in [
            ("index\t", "Index\t"),
            ("\n1\t", "\n01\t"),
            ("\n1\t", "\n+1\t"),
            ("000000.zst", "0.zst"),
            ("000000.zst", "../000000.zst"),
            ("\n1\t", "\r\n1\t"),
            ("\t14\n", "\t14"),
            ("\t14\n", "\t14\t\n"),
        ] {
            assert!(good.contains(from));
            assert!(read(&good.replacen(from, to, 1)).is_err(), "{from:?} to {to:?}");
        }
        assert!(read("").is_err());
        assert!(read(&good.to_uppercase()).is_err());
    }

    #[test]
    fn extents_that_do_not_partition_the_stream_are_refused() {
        let read = |rows: &str, size| {
            read_extents("data/disk.extents.tsv", &mut format!("{EXTENTS_HEADER}\n{rows}").as_bytes(), size)
        };
        assert_eq!(read("", 0).unwrap(), []);
        assert_eq!(read("0\t5\tdata\t\n5\t1\tunreadable\terrno=5 tries=2\n", 6).unwrap().len(), 2);
        for (rows, size) in [
            ("", 1),
            ("0\t5\tdata\t\n", 6),
            ("0\t7\tdata\t\n", 6),
            ("0\t3\tdata\t\n4\t2\tzero\t\n", 6),
            ("0\t3\tdata\t\n2\t4\tzero\t\n", 6),
            ("0\t0\tdata\t\n", 0),
            ("0\t6\tgone\t\n", 6),
            ("0\t6\tdata\n", 6),
            ("0\t6\tdata\t\u{1b}[2J\n", 6),
            ("0\t18446744073709551615\tdata\t\n1\t1\tdata\t\n", 6),
            ("0\t18446744073709551616\tdata\t\n", 6),
        ] {
            assert!(matches!(read(rows, size), Err(Error::Table { .. })), "{rows:?}");
        }
    }
}
