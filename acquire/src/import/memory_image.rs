//! LiME and AVML images: which ranges of memory they hold, and whether they are whole.
//!
//! Neither has a hash, a count or an end mark, so a cut file can only be told by its last range. AVML compresses each
//! block as snappy frames, which carry checksums: they are all decompressed.
//!
//! AVML up to 0.20 took the last address of a range for the one behind it. The last byte of every range is missing then;
//! read from `/dev/crash`, it is the last page, which leaves no other trace than a gap of one page where two ranges
//! would have met.
//!
//! Reference: `doc/README.md` of LiME, `src/image.rs` of AVML.

use std::io::{self, Read};

use serde_json::{Value, json};
use snap::read::FrameDecoder;

use super::Checked;
use super::parts::{Part, Parts};
use crate::ewf::{u32_at, u64_at};
use crate::source::{Issue, Issues};

const HEADER: u64 = 32;
const PAGE: u64 = 4096;
pub(super) const LIME: &[u8; 8] = b"EMiL\x01\0\0\0";
pub(super) const AVML: &[u8; 8] = b"AVML\x02\0\0\0";
/// Ranges that are listed one by one.
const LISTED: usize = 256;
/// Ranges that are read, at most.
const MOST: usize = 1 << 20;
/// Room to decompress into.
const ROOM: usize = 256 << 10;

/// A range of memory: its first address and the one behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    start: u64,
    end: u64,
}

/// Reads the image's ranges through.
pub(super) fn check(parts: &Parts) -> Checked {
    let mut checked = Checked::default();
    let Some(part) = parts.list().first() else { return checked };
    let mut image = Image { part, at: 0, ranges: Vec::new(), compressed: 0, issues: Issues::default() };
    let is_whole = image.read();
    let Image { mut ranges, compressed, mut issues, .. } = image;
    let order_differs = ranges.windows(2).any(|pair| matches!(pair, [a, b] if a.end > b.start));
    if order_differs {
        issues.add(issue(part, None, "its ranges overlap or are not in the order of their addresses"));
    }
    ranges.sort_unstable();
    // AVML cuts ranges into blocks: those that touch are one range of memory.
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    let short = joined.iter().filter(|range| range.end % 2 == 1).count();
    if short > 0 {
        let what = format!(
            "{short} of its {} ranges end one byte short: AVML up to 0.20 lost the last byte of each",
            joined.len()
        );
        issues.add(issue(part, None, &what));
    }
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    for pair in joined.windows(2) {
        if let [before, after] = pair {
            gaps.push((before.end, after.start));
        }
    }
    let one_page = gaps.iter().filter(|(start, end)| end - start == PAGE).count();
    let addresses = |pairs: &[(u64, u64)]| -> Vec<Value> {
        pairs
            .iter()
            .take(LISTED)
            .map(|(start, end)| json!([hex(*start), hex(end.saturating_sub(1))]))
            .collect()
    };
    let all: Vec<(u64, u64)> = joined.iter().map(|range| (range.start, range.end)).collect();
    let bytes = joined.iter().fold(0u64, |bytes, range| bytes.saturating_add(range.end - range.start));
    checked.facts.extend([
        ("check".to_owned(), Value::from("none stored")),
        ("range_count".to_owned(), joined.len().into()),
        ("ranges".to_owned(), addresses(&all).into()),
        ("gaps".to_owned(), addresses(&gaps).into()),
        ("gap_count".to_owned(), gaps.len().into()),
        ("memory_bytes".to_owned(), bytes.min(1 << 53).into()),
        ("is_whole".to_owned(), is_whole.into()),
    ]);
    if compressed > 0 {
        checked.facts.insert("compressed_blocks".to_owned(), compressed.into());
    }
    if one_page > 0 {
        // May be a reserved page; said, so that it is not missed.
        checked.facts.insert("gaps_of_one_page".to_owned(), one_page.into());
    }
    checked.issues = issues;
    checked
}

fn hex(address: u64) -> String {
    format!("{address:#x}")
}

fn issue(part: &Part, offset: Option<u64>, what: &str) -> Issue {
    Issue { path: part.name.clone(), offset, length: None, what: what.to_owned() }
}

struct Image<'p> {
    part: &'p Part,
    at: u64,
    ranges: Vec<Range>,
    compressed: u64,
    issues: Issues,
}

impl Image<'_> {
    fn note(&mut self, what: &str) {
        self.issues.add(issue(self.part, Some(self.at), what));
    }

    /// Goes from header to header; says whether the file ends behind a whole range.
    fn read(&mut self) -> bool {
        while self.at < self.part.size {
            if self.ranges.len() >= MOST {
                self.note("more ranges than are read");
                return false;
            }
            let mut header = [0; HEADER as usize];
            if self.part.read_exact_at(self.at, &mut header).is_err() {
                self.note("the file ends within a header");
                return false;
            }
            let (start, last) = (u64_at(&header, 8).unwrap_or(0), u64_at(&header, 16).unwrap_or(0));
            let Some(end) = last.checked_add(1).filter(|end| *end > start) else {
                self.note("a range ends before it begins");
                return false;
            };
            let whole = match header.split_first_chunk::<8>() {
                Some((LIME, _)) => self.plain(end - start),
                Some((AVML, _)) => self.compressed(end - start),
                _ => {
                    let magic = u32_at(&header, 0).unwrap_or(0);
                    self.note(&format!("no header of a range stands here, but {magic:#010x}"));
                    return false;
                }
            };
            self.ranges.push(Range { start, end });
            if !whole {
                return false;
            }
        }
        true
    }

    fn plain(&mut self, length: u64) -> bool {
        let left = self.part.size.saturating_sub(self.at.saturating_add(HEADER));
        if length > left {
            self.note(&format!("the file is cut: {} bytes of this range are missing", length - left));
            return false;
        }
        self.at += HEADER + length;
        true
    }

    /// Decompresses a block of known length, behind which the length of its compressed form stands.
    fn compressed(&mut self, length: u64) -> bool {
        let begin = self.at.saturating_add(HEADER);
        let input = At { part: self.part, at: begin };
        let mut decoder = FrameDecoder::new(input);
        let mut room = vec![0; ROOM];
        let mut done = 0u64;
        while done < length {
            let want = usize::try_from(length - done).unwrap_or(ROOM).min(ROOM);
            match decoder.read(room.get_mut(..want).unwrap_or_default()) {
                Ok(0) => {
                    self.note(&format!("the file is cut: {} bytes of this range are missing", length - done));
                    return false;
                }
                Ok(read) => done += read as u64,
                Err(error) => {
                    self.note(&format!("this block cannot be decompressed behind byte {done}: {error}"));
                    return false;
                }
            }
        }
        let end = decoder.get_ref().at;
        let mut trailer = [0; 8];
        let said = self.part.read_exact_at(end, &mut trailer).map(|()| u64::from_le_bytes(trailer));
        match said {
            Ok(said) if said == end - begin => {
                self.at = end + 8;
                self.compressed += 1;
                true
            }
            Ok(said) => {
                self.note(&format!("this block has {} compressed bytes, but says {said}", end - begin));
                false
            }
            Err(_) => {
                self.note("the file ends before the length of this block");
                false
            }
        }
    }
}

/// Reads a file from a place on, and knows how far it is.
struct At<'p> {
    part: &'p Part,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.part.read_at(self.at, buf)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}
