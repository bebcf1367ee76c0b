//! Where the chunks of an Expert Witness image lie: its tables, which are read again whenever a chunk is needed.

use crate::bytes::{ByteSource, read_vec};
use crate::error::ReadError;
use crate::volumes::fields::{le32, le64, part};
use crate::volumes::issues::IssueList;

use super::ewf_segment::{Section, adler32};

const HEADER: u64 = 24;
const ENTRY: u64 = 4;
/// The bit of an entry that says its chunk is compressed.
const COMPRESSED: u32 = 0x8000_0000;
/// An offset from which one chunk more may need the 32nd bit.
const NEARLY_31_BITS: u32 = 0x7800_0000;
/// Entries are read in pieces of this size.
const STEP: u64 = 64 << 10;

/// One table: the places of consecutive chunks. The entries stay in the evidence, since a large disk has hundreds of
/// millions of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// How many chunks.
    pub(super) count: u64,
    /// Where its entries lie in the stream.
    entries: u64,
    /// What the offsets in its entries are added to, in the stream.
    base: u64,
    /// From this entry on, offsets use all 32 bits and chunks are not compressed (a fault of EnCase 6.7).
    full_from: u64,
    /// The end of the data of its last chunk, in the stream.
    data_end: u64,
}

/// Where one chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) start: u64,
    /// The byte behind it, or behind whatever lies between it and the next chunk.
    pub(super) end: u64,
    pub(super) is_compressed: bool,
}

/// A table as it was found.
pub(super) struct FoundTable {
    pub(super) table: Table,
    /// Whether its checksums hold: that says which of two copies to use.
    pub(super) is_sound: bool,
    /// Whether it is known how many chunks it is of: else those behind it have no number.
    pub(super) is_count_known: bool,
}

impl Table {
    /// Reads the table in `section` of a segment that begins at `segment`; `None` where it does not even have a header.
    ///
    /// `sections` are all of the segment: the data end of the last chunk is the end of the section it lies in.
    pub(super) fn read(
        source: &dyn ByteSource,
        section: &Section,
        segment: u64,
        sections: &[Section],
        issues: &IssueList,
    ) -> Result<Option<FoundTable>, ReadError> {
        let room = section.end.saturating_sub(section.data);
        let header = read_vec(source, section.data, HEADER as usize)?;
        if room < HEADER || header.len() < HEADER as usize {
            issues.add(section.data, format!("the {} is cut off", section.kind));
            return Ok(None);
        }
        let mut is_count_known = adler32(part(&header, 0, 20)) == le32(&header, 20);
        if !is_count_known {
            issues.add(section.data, format!("the checksum of the {}'s header does not hold", section.kind));
        }
        let fits = (room - HEADER) / ENTRY;
        let mut count = u64::from(le32(&header, 0));
        if count > fits {
            let what =
                format!("the {} says it has {count} entries, of which {fits} can be there", section.kind);
            issues.add(section.data, what);
            (count, is_count_known) = (fits, false);
        }
        let mut table = Table {
            count,
            entries: section.data.saturating_add(HEADER),
            base: segment.saturating_add(le64(&header, 8)),
            full_from: u64::MAX,
            data_end: 0,
        };
        let mut is_sound = is_count_known;
        let sum = table.scan(source)?;
        let footer_at = table.entries.saturating_add(count.saturating_mul(ENTRY));
        // Only a table that is followed by its checksum and nothing else has one: in the oldest form chunks follow.
        if (4..16).contains(&section.end.saturating_sub(footer_at)) {
            let footer = read_vec(source, footer_at, 4)?;
            if le32(&footer, 0) != sum {
                issues
                    .add(footer_at, format!("the checksum of the {}'s entries does not hold", section.kind));
                is_sound = false;
            }
        }
        if let Some(last) = count.checked_sub(1) {
            let start = table.place(source, last)?.map_or(0, |(start, _)| start);
            let holder = sections.iter().find(|s| s.data <= start && start < s.end);
            table.data_end = holder.map_or(start, |holder| holder.end);
        }
        Ok(Some(FoundTable { table, is_sound, is_count_known }))
    }

    /// Looks at all entries once: gives their checksum, and finds where their offsets outgrow 31 bits.
    fn scan(&mut self, source: &dyn ByteSource) -> Result<u32, ReadError> {
        let mut sum = adler2::Adler32::new();
        let bytes = self.count.saturating_mul(ENTRY);
        let (mut done, mut index, mut before) = (0, 0u64, 0u32);
        while done < bytes {
            let piece = read_vec(source, self.entries.saturating_add(done), STEP.min(bytes - done) as usize)?;
            if piece.is_empty() {
                break;
            }
            sum.write_slice(&piece);
            for entry in piece.chunks_exact(ENTRY as usize) {
                let raw = le32(entry, 0);
                let offset = raw & !COMPRESSED;
                if self.full_from == u64::MAX && before >= NEARLY_31_BITS && offset < before {
                    self.full_from = index;
                }
                before = offset;
                index = index.saturating_add(1);
            }
            done = done.saturating_add(piece.len() as u64);
        }
        Ok(sum.checksum())
    }

    /// The range of the stream that holds an entry.
    pub(super) fn entry_range(&self, index: u64) -> std::ops::Range<u64> {
        let at = self.entries.saturating_add(index.saturating_mul(ENTRY));
        at..at.saturating_add(ENTRY)
    }

    fn place(&self, source: &dyn ByteSource, index: u64) -> Result<Option<(u64, bool)>, ReadError> {
        let entry = read_vec(source, self.entry_range(index).start, ENTRY as usize)?;
        Ok((entry.len() == ENTRY as usize).then(|| {
            let raw = le32(&entry, 0);
            match index < self.full_from {
                true => (self.base.saturating_add((raw & !COMPRESSED).into()), raw & COMPRESSED != 0),
                false => (self.base.saturating_add(raw.into()), false),
            }
        }))
    }

    /// Where its chunk `index` is stored, at most `longest` bytes; `None` where the entry is not there.
    pub(super) fn stored(
        &self,
        source: &dyn ByteSource,
        index: u64,
        longest: u64,
    ) -> Result<Option<Stored>, ReadError> {
        if index >= self.count {
            return Ok(None);
        }
        let Some((start, is_compressed)) = self.place(source, index)? else { return Ok(None) };
        let next = match index.saturating_add(1) {
            next if next < self.count => self.place(source, next)?.map(|(start, _)| start),
            _ => Some(self.data_end),
        };
        let longest = start.saturating_add(longest).min(source.len());
        let end = next.filter(|end| *end > start).unwrap_or(longest).min(longest);
        Ok(Some(Stored { start, end, is_compressed }))
    }
}
