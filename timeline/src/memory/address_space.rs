//! Physical memory as an image holds it: LiME v1, AVML v2, or plain bytes.
//!
//! - Known by: the magic of the first header.
//! - Reference: LiME `doc/README.md` (header of 32 bytes: magic, version, first and last address, padding); AVML
//!   `src/image.rs` (the same header; the payload a snappy frame stream, then its length).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::avml::{self, AvmlBytes};
use crate::bytes::{ByteSource, StreamRange, read_vec};
use crate::error::ReadError;
use crate::event::Span;

/// Memory is looked at in pages of this size.
pub(crate) const PAGE: u64 = 4096;
/// Bytes of a LiME or AVML header.
pub(crate) const HEADER: u64 = 32;

const LIME_MAGIC: u32 = 0x4C69_4D45;
const AVML_MAGIC: u32 = 0x4C4D_5641;
/// More ranges than this are not kept: no machine's memory map comes near it, a page-tolerant reader's gaps may.
const MOST_BLOCKS: usize = 1 << 20;
/// Pages that are held, 32 MiB; then all are forgotten.
const PAGES_HELD: usize = 8192;

/// The first bytes of one range of memory, as a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The magic.
    pub(crate) magic: u32,
    /// The version of the form.
    pub(crate) version: u32,
    /// First address.
    pub(crate) first: u64,
    /// Last address.
    pub(crate) last: u64,
}

impl Header {
    /// Reads a header; `None` if it is cut.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
        let number = |at: usize, length: usize| Some(le(bytes.get(at..at.checked_add(length)?)?));
        number(24, 8)?;
        Some(Header {
            magic: number(0, 4)? as u32,
            version: number(4, 4)? as u32,
            first: number(8, 8)?,
            last: number(16, 8)?,
        })
    }

    /// Bytes of the range; `None` where it ends before it begins.
    pub(crate) fn length(self) -> Option<u64> {
        self.last.checked_sub(self.first)?.checked_add(1)
    }
}

/// The little-endian number in up to eight bytes.
pub(crate) fn le(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// A range of physical addresses, and where its bytes lie in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// First physical address.
    pub(crate) physical: u64,
    /// Number of bytes.
    pub(crate) length: u64,
    /// Where the first of them lies.
    pub(crate) offset: u64,
}

/// The memory of a machine, read by physical address. It may be read by several threads at once.
pub(crate) struct AddressSpace {
    source: Arc<dyn ByteSource>,
    form: &'static str,
    /// By physical address, without overlaps.
    blocks: Vec<Block>,
    /// Indices of `blocks` by offset.
    by_offset: Vec<usize>,
    issues: Mutex<BTreeSet<String>>,
    pages: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
}

impl AddressSpace {
    /// Finds the ranges of an image. What is wrong with it is in [`AddressSpace::issues`]. `missing` are ranges of the
    /// stream that were not acquired: they read as zeros, which would be taken for memory.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the stream cannot be read.
    pub(crate) fn open(stream: Arc<dyn ByteSource>, missing: &[Span]) -> Result<AddressSpace, ReadError> {
        let mut issues = BTreeSet::new();
        let first = Header::parse(&read_vec(&*stream, 0, HEADER as usize)?);
        let (form, source, mut blocks) = match first.map(|header| (header.magic, header.version)) {
            Some((LIME_MAGIC, 1)) => {
                let (headers, blocks) = lime_blocks(&*stream, &mut issues);
                let image: Arc<dyn ByteSource> = Arc::new(LimeBytes { stream, headers });
                ("lime", image, blocks)
            }
            Some((AVML_MAGIC, 2)) => {
                let (image, blocks) = AvmlBytes::open(stream, &mut issues);
                ("avml", Arc::new(image) as Arc<dyn ByteSource>, blocks)
            }
            _ => {
                issues.insert(
                    "the image has neither a LiME nor an AVML header: its offsets are taken as addresses"
                        .to_owned(),
                );
                let length = stream.len();
                ("raw", stream, vec![Block { physical: 0, length, offset: 0 }])
            }
        };
        // Of a packed image a piece with a gap does not unpack, which is an error where it is read.
        if form != "avml" {
            blocks = without(&blocks, missing);
        }
        blocks.sort_by_key(|block| (block.physical, block.offset));
        let mut end = 0;
        let mut apart: Vec<Block> = Vec::new();
        for mut block in blocks.into_iter().filter(|block| block.length > 0) {
            if block.physical < end && !apart.is_empty() {
                let twice = end.saturating_sub(block.physical).min(block.length);
                issues.insert(format!(
                    "{twice} bytes from address {:#x} on are in the image twice: the first are taken",
                    block.physical
                ));
                block.physical = block.physical.saturating_add(twice);
                block.offset = block.offset.saturating_add(twice);
                block.length = block.length.saturating_sub(twice);
            }
            if block.length > 0 {
                end = block.physical.saturating_add(block.length);
                apart.push(block);
            }
        }
        if form != "raw" {
            old_avml_fault(&apart, &mut issues);
        }
        let mut by_offset: Vec<usize> = (0..apart.len()).collect();
        by_offset.sort_by_key(|at| apart.get(*at).map(|block| block.offset));
        Ok(AddressSpace {
            source,
            form,
            blocks: apart,
            by_offset,
            issues: Mutex::new(issues),
            pages: Mutex::default(),
        })
    }

    /// `lime`, `avml` or `raw`.
    pub(crate) fn form(&self) -> &'static str {
        self.form
    }

    /// The bytes that offsets of [`AddressSpace::locate`] are in: the stream, of AVML the unpacked payload.
    pub(crate) fn source(&self) -> &Arc<dyn ByteSource> {
        &self.source
    }

    /// The ranges, by physical address.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// What is wrong with the image, so far.
    pub(crate) fn issues(&self) -> Vec<String> {
        lock(&self.issues).iter().cloned().collect()
    }

    /// Where the bytes at an address lie: the range up to `length`, or up to where the next lie elsewhere.
    pub(crate) fn locate(&self, physical: u64, length: u64) -> Option<Span> {
        let after = self.blocks.partition_point(|block| block.physical <= physical);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let skip = physical.checked_sub(block.physical)?;
        let there = block.length.checked_sub(skip).filter(|there| *there > 0)?;
        Some(Span::new(block.offset.checked_add(skip)?, there.min(length)))
    }

    /// The physical address of the byte at an offset of the image.
    pub(crate) fn physical_at(&self, offset: u64) -> Option<u64> {
        let block = |at: &usize| self.blocks.get(*at);
        let after = self.by_offset.partition_point(|at| block(at).is_some_and(|b| b.offset <= offset));
        let block = block(self.by_offset.get(after.checked_sub(1)?)?)?;
        let skip = offset.checked_sub(block.offset)?;
        (skip < block.length).then(|| block.physical.checked_add(skip)).flatten()
    }

    /// Fills `buf` from a physical address on; `false` where the image does not hold all of it.
    pub(crate) fn read(&self, physical: u64, buf: &mut [u8]) -> bool {
        let mut at = physical;
        let mut rest = buf;
        while !rest.is_empty() {
            let from = (at % PAGE) as usize;
            let take = rest.len().min(PAGE as usize - from);
            let (to, behind) = rest.split_at_mut(take);
            let page = self.page(at / PAGE);
            match page.as_ref().and_then(|page| page.get(from..from + take)) {
                Some(bytes) => to.copy_from_slice(bytes),
                // A range that begins within a page.
                None if !self.read_around(at, to) => return false,
                None => {}
            }
            rest = behind;
            let Some(next) = at.checked_add(take as u64) else { return rest.is_empty() };
            at = next;
        }
        true
    }

    fn read_around(&self, physical: u64, to: &mut [u8]) -> bool {
        let Some(span) = self.locate(physical, to.len() as u64) else { return false };
        span.length == to.len() as u64
            && self.source.read_at(span.offset, to).is_ok_and(|there| there as u64 == span.length)
    }

    /// The number of 8 bytes at a physical address.
    pub(crate) fn u64(&self, physical: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(physical, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// One page, cut where its range ends in it. A page that cannot be read is an issue, and absent.
    fn page(&self, number: u64) -> Option<Arc<Vec<u8>>> {
        if let Some(page) = lock(&self.pages).get(&number) {
            return Some(page.clone());
        }
        let start = number.checked_mul(PAGE)?;
        // The first range of a machine may begin within a page, and the last end in one.
        let mut page = Vec::new();
        while (page.len() as u64) < PAGE {
            let left = PAGE.saturating_sub(page.len() as u64);
            let Some(span) = self.locate(start.checked_add(page.len() as u64)?, left) else { break };
            match read_vec(&*self.source, span.offset, span.length as usize) {
                Ok(bytes) if bytes.len() as u64 == span.length => page.extend_from_slice(&bytes),
                Ok(_) => break,
                Err(error) => {
                    self.note(format!("a page that was looked at cannot be read: {error}"));
                    break;
                }
            }
        }
        let page = Arc::new(page);
        let mut pages = lock(&self.pages);
        if pages.len() >= PAGES_HELD {
            pages.clear();
        }
        pages.insert(number, page.clone());
        Some(page)
    }

    /// Adds an issue; no more than a hundred are kept.
    pub(crate) fn note(&self, issue: String) {
        let mut issues = lock(&self.issues);
        issues.insert(issue);
        // Whatever the order in which threads find them, the same ones are kept.
        if issues.len() > 100 {
            issues.pop_last();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stream of a LiME image, which says by its headers where in memory its bytes are from.
struct LimeBytes {
    stream: Arc<dyn ByteSource>,
    headers: Vec<u64>,
}

impl ByteSource for LimeBytes {
    fn len(&self) -> u64 {
        self.stream.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.stream.read_at(offset, buf)
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        self.stream.stream_ranges(offset, length)
    }

    fn map_ranges(&self) -> Vec<StreamRange> {
        self.headers.iter().flat_map(|offset| self.stream.stream_ranges(*offset, HEADER)).collect()
    }
}

type Found = (Vec<u64>, Vec<Block>);

fn lime_blocks(stream: &dyn ByteSource, issues: &mut BTreeSet<String>) -> Found {
    let (mut headers, mut blocks) = (Vec::new(), Vec::new());
    let mut offset = 0u64;
    while offset < stream.len() {
        let rest = stream.len().saturating_sub(offset);
        let bytes = match read_vec(stream, offset, HEADER as usize) {
            Ok(bytes) => bytes,
            Err(error) => {
                issues.insert(format!("the last {rest} bytes are not read, for want of a header: {error}"));
                break;
            }
        };
        let header = Header::parse(&bytes).filter(|h| (h.magic, h.version) == (LIME_MAGIC, 1));
        let Some((header, length)) = header.and_then(|header| Some((header, header.length()?))) else {
            issues.insert(format!(
                "at offset {offset} there is no LiME header: the last {rest} bytes are not read"
            ));
            break;
        };
        if blocks.len() >= MOST_BLOCKS {
            issues.insert(format!(
                "there are more than {MOST_BLOCKS} ranges: the last {rest} bytes are not read"
            ));
            break;
        }
        let payload = offset.saturating_add(HEADER);
        let there = stream.len().saturating_sub(payload);
        if length > there {
            issues.insert(format!(
                "the image is cut: the range {:#x}-{:#x} has {there} of {length} bytes",
                header.first, header.last
            ));
        }
        headers.push(offset);
        blocks.push(Block { physical: header.first, length: length.min(there), offset: payload });
        offset = payload.saturating_add(length);
    }
    (headers, blocks)
}

/// The ranges without what is missing of them; both are in the order of the stream.
fn without(blocks: &[Block], missing: &[Span]) -> Vec<Block> {
    let mut left = Vec::new();
    let mut gaps = missing.iter().filter(|gap| gap.length > 0).peekable();
    for block in blocks {
        let end = block.offset.saturating_add(block.length);
        let mut at = block.offset;
        let mut keep = |from: u64, to: u64| {
            if from < to {
                let physical = block.physical.saturating_add(from.saturating_sub(block.offset));
                left.push(Block { physical, length: to.saturating_sub(from), offset: from });
            }
        };
        while let Some(gap) = gaps.next_if(|gap| gap.end() <= at) {
            debug_assert!(gap.length > 0);
        }
        while let Some(gap) = gaps.peek().filter(|gap| gap.offset < end) {
            keep(at, gap.offset);
            at = gap.end().max(at);
            if gap.end() > end {
                break;
            }
            gaps.next();
        }
        keep(at, end);
    }
    left
}

/// AVML up to 0.20 took the last address of a range for the one behind it, and lost a byte of each.
fn old_avml_fault(blocks: &[Block], issues: &mut BTreeSet<String>) {
    let lost = blocks
        .iter()
        .filter(|block| block.physical.checked_add(block.length).is_some_and(|end| end % PAGE == PAGE - 1));
    let lost = lost.count();
    if lost > 0 && lost.saturating_mul(2) >= blocks.len() {
        issues.insert(format!(
            "{lost} of {} ranges lack their last byte, as AVML up to 0.20 writes them; from /dev/crash it also lost \
             the last page of each",
            blocks.len()
        ));
    }
}

/// A header as bytes, for images that tests make.
#[cfg(test)]
pub(crate) fn lime_header(first: u64, length: u64) -> Vec<u8> {
    let last = first + length - 1;
    [&LIME_MAGIC.to_le_bytes()[..], &1u32.to_le_bytes(), &first.to_le_bytes(), &last.to_le_bytes(), &[0; 8]]
        .concat()
}

/// Whether these are the first bytes of an AVML range.
pub(crate) fn is_avml(header: Header) -> bool {
    (header.magic, header.version) == (AVML_MAGIC, avml::VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(ranges: &[(u64, Vec<u8>)]) -> Vec<u8> {
        ranges
            .iter()
            .flat_map(|(at, bytes)| [lime_header(*at, bytes.len() as u64), bytes.clone()].concat())
            .collect()
    }

    fn open(bytes: Vec<u8>) -> AddressSpace {
        AddressSpace::open(Arc::new(bytes), &[]).unwrap()
    }

    #[test]
    fn addresses_lead_to_the_bytes_of_their_range_and_back() {
        let space = open(image(&[(0x1000, vec![1; 0x1000]), (0x10_0000, vec![2; 0x2000])]));
        assert_eq!(space.form(), "lime");
        assert_eq!(space.issues(), [""; 0]);
        assert_eq!(space.locate(0x1ff0, 100), Some(Span::new(32 + 0xff0, 16)));
        assert_eq!(space.locate(0x2000, 1), None);
        assert_eq!(space.locate(0xfff, 1), None);
        let mut two = [0; 2];
        assert!(space.read(0x10_0fff, &mut two));
        assert_eq!(two, [2, 2]);
        assert!(!space.read(0x1fff, &mut two));
        assert_eq!(space.physical_at(32 + 0x1000 + 32 + 5), Some(0x10_0005));
        assert_eq!(space.physical_at(32 + 0x1000 + 31), None);
        assert_eq!(space.source().map_ranges(), vec![0..32, 0x1020..0x1040]);
    }

    #[test]
    fn a_page_that_two_ranges_share_is_read_across_the_header_between_them() {
        let space = open(image(&[(0x1000, vec![1; 0x800]), (0x1800, vec![2; 0x800])]));
        let mut bytes = [0; 2];
        assert!(space.read(0x17ff, &mut bytes));
        assert_eq!(bytes, [1, 2]);
    }

    #[test]
    fn a_cut_image_gives_what_it_holds_and_says_so() {
        let mut bytes = image(&[(0, vec![7; 0x2000])]);
        bytes.truncate(32 + 0x1800);
        let space = open(bytes);
        assert_eq!(space.locate(0x17ff, 9), Some(Span::new(32 + 0x17ff, 1)));
        assert_eq!(space.issues(), ["the image is cut: the range 0x0-0x1fff has 6144 of 8192 bytes"]);
    }

    #[test]
    fn hostile_headers_end_the_image_with_an_issue() {
        let mut backwards = image(&[(0, vec![7; 16])]);
        backwards.extend(lime_header(0x100, 1));
        let at = backwards.len() - 16;
        backwards[at..at + 8].copy_from_slice(&0u64.to_le_bytes());
        assert_eq!(
            open(backwards).issues(),
            ["at offset 48 there is no LiME header: the last 32 bytes are not read"]
        );
        let everything = [lime_header(0, 1)[..16].to_vec(), vec![0xff; 8], vec![0; 8]].concat();
        assert_eq!(open(everything).blocks(), []);
        let twice = open(image(&[(0, vec![1; 64]), (32, vec![2; 64])]));
        assert_eq!(
            twice.issues(),
            ["32 bytes from address 0x20 on are in the image twice: the first are taken"]
        );
        let mut byte = [0];
        assert!(twice.read(63, &mut byte) && byte == [1] && twice.read(64, &mut byte) && byte == [2]);
    }

    #[test]
    fn what_was_not_acquired_is_no_memory() {
        let bytes = image(&[(0x1000, vec![1; 0x3000]), (0x10_0000, vec![2; 0x2000])]);
        let second = 32 + 0x3000 + 32;
        // A page of the first range; and from the last page of it to the first of the second.
        let missing = [
            Span::new(32, 0x1000),
            Span::new(32 + 0x2000, second + 0x1000 - 32 - 0x2000),
            Span::new(1 << 40, 5),
        ];
        let space = AddressSpace::open(Arc::new(bytes), &missing).unwrap();
        let whole =
            |physical, length| Block { physical, length, offset: space.locate(physical, 1).unwrap().offset };
        assert_eq!(space.blocks(), [whole(0x2000, 0x1000), whole(0x10_1000, 0x1000)]);
        assert_eq!(space.locate(0x2000, 5), Some(Span::new(32 + 0x1000, 5)));
        assert_eq!(space.locate(0x10_1000, 5), Some(Span::new(second + 0x1000, 5)));
        assert!(
            !space.read(0x1000, &mut [0]) && space.read(0x2fff, &mut [0]) && !space.read(0x3000, &mut [0])
        );
    }

    #[test]
    fn the_lost_byte_of_an_old_avml_is_named() {
        let space = open(image(&[(0x1000, vec![1; 0xfff]), (0x10_0000, vec![2; 0x1fff])]));
        assert!(space.issues()[0].starts_with("2 of 2 ranges lack their last byte, as AVML up to 0.20"));
    }
}
