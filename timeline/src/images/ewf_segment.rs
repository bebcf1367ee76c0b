//! One segment file of an Expert Witness image (`.E01`, `.E02`, …): its header and its chain of sections.
//!
//! Reference: Joachim Metz, "Expert Witness Compression Format specification" (libewf's documentation).

use crate::bytes::{ByteSource, read_vec};
use crate::error::ReadError;
use crate::text::{clean, until_nul};
use crate::volumes::fields::{byte, le16, le32, le64, part};
use crate::volumes::issues::IssueList;

/// Before the first section: signature, segment number.
pub(super) const FILE_HEADER: u64 = 13;
/// Type, next, size, padding, checksum.
pub(super) const DESCRIPTOR: u64 = 76;
const SIGNATURE: &[u8] = b"EVF\x09\x0d\x0a\xff\x00";
/// Other formats that carry the same file endings, told apart by their first bytes.
const OTHERS: &[(&[u8], &str)] = &[
    (b"EVF2\r\n\x81\x00", "an Ex01 image (EWF version 2), which this version does not read"),
    (b"LVF\x09\x0d\x0a\xff\x00", "logical evidence (L01), which this version does not read"),
    (b"LEF2\r\n\x81\x00", "logical evidence (Lx01), which this version does not read"),
    (b"ADCRYPT\x00", "encrypted (AD encryption), which is not read without its key"),
];
/// No segment has as many; a longer chain is made to be slow.
const MOST_SECTIONS: usize = 1 << 20;

/// Where a segment lies in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) length: u64,
    /// The number in its header; 0 where there is none.
    pub(super) number: u16,
}

/// A section: what its descriptor says, checked against the segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: String,
    /// Its first byte behind the descriptor, in the stream.
    pub(super) data: u64,
    /// The byte behind its last, in the stream.
    pub(super) end: u64,
    /// Whether the checksum of its descriptor holds, so that it is what it says and no section is hidden behind it.
    pub(super) is_sound: bool,
}

/// The Adler-32 of RFC 1950, which guards every structure of the format.
pub(super) fn adler32(bytes: &[u8]) -> u32 {
    adler2::adler32_slice(bytes)
}

impl Segment {
    /// Reads the header at `start`; `Err` says in words why this is no segment of such an image.
    pub(super) fn read(
        source: &dyn ByteSource,
        start: u64,
        length: u64,
    ) -> Result<Result<Segment, String>, ReadError> {
        let head = read_vec(source, start, FILE_HEADER as usize)?;
        if !head.starts_with(SIGNATURE) || length < FILE_HEADER {
            let other = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, what)| *what);
            return Ok(Err(other.unwrap_or("no segment of an Expert Witness image (E01)").to_owned()));
        }
        if byte(&head, 8) != 1 || part(&head, 11, 2) != [0, 0] {
            return Ok(Err("a damaged E01 segment: its header is not one".to_owned()));
        }
        Ok(Ok(Segment { start, length, number: le16(&head, 9) }))
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// All sections, as far as the chain holds. Each lies behind the one before it, so it always ends.
    pub(super) fn sections(
        &self,
        source: &dyn ByteSource,
        issues: &IssueList,
    ) -> Result<Vec<Section>, ReadError> {
        let mut sections = Vec::new();
        let mut at = self.start.saturating_add(FILE_HEADER);
        while sections.len() < MOST_SECTIONS {
            let here = at.saturating_sub(self.start);
            let room = self.end().saturating_sub(at);
            if room < DESCRIPTOR {
                issues.add(at, format!("segment {} ends without a last section", self.number));
                return Ok(sections);
            }
            let descriptor = read_vec(source, at, DESCRIPTOR as usize)?;
            let kind = clean(until_nul(part(&descriptor, 0, 16)));
            let (next, size) = (le64(&descriptor, 16), le64(&descriptor, 24));
            let is_sound = adler32(part(&descriptor, 0, 72)) == le32(&descriptor, 72);
            if !is_sound {
                issues.add(at, format!("the checksum of the section {kind:?} does not hold"));
            }
            let is_last = matches!(kind.as_str(), "next" | "done");
            let by_next = (next >= here.saturating_add(DESCRIPTOR) && next <= self.length).then_some(next);
            let by_size =
                (size >= DESCRIPTOR && size <= room).then(|| here.saturating_add(size)).filter(|_| !is_last);
            if let (Some(next), Some(size)) = (by_next, by_size)
                && next != size
            {
                let what = format!(
                    "the section {kind:?} ends at {size} by its size and at {next} by its link, which is followed"
                );
                issues.add(at, what);
            }
            let end = match (is_last, by_next.or(by_size)) {
                (true, _) => at.saturating_add(DESCRIPTOR),
                (false, Some(end)) => self.start.saturating_add(end),
                (false, None) => {
                    issues.add(
                        at,
                        format!(
                            "the section {kind:?} has no end: the rest of segment {} is not read",
                            self.number
                        ),
                    );
                    self.end()
                }
            };
            let data = at.saturating_add(DESCRIPTOR);
            sections.push(Section { kind, data, end, is_sound });
            if is_last || by_next.or(by_size).is_none() {
                return Ok(sections);
            }
            at = end;
        }
        issues.add(at, format!("segment {} has more sections than any: the rest is not read", self.number));
        Ok(sections)
    }
}
