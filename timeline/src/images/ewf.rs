//! Disk images in the Expert Witness Compression Format: EnCase 1 to 7 `.E01`, SMART `.s01`, and libewf's own `ewfx`.
//!
//! - Read: any number of segments in any order, chunks deflated or stored, both copies of a table, tables with a base
//!   offset, offsets that outgrow 31 bits, chunks that lie in the table's own section (EnCase 1, SMART).
//! - Checked: the Adler-32 of every section, table and chunk. A damaged or missing chunk is a read error for its bytes
//!   alone, and an issue; all others stay readable.
//! - Not read: EWF version 2 (Ex01), logical evidence (L01), encrypted images. They are named as what they are.
//! - Reference: Joachim Metz, "Expert Witness Compression Format specification" (libewf's documentation).

use std::io::Read;
use std::sync::Arc;

use crate::bytes::{ByteSource, StreamRange, read_vec};
use crate::error::ReadError;
use crate::volumes::VolumeIssue;
use crate::volumes::fields::{le32, le64, part};
use crate::volumes::issues::IssueList;

use super::decoded_cache::DecodedCache;
use super::ewf_segment::{Section, Segment, adler32};
use super::ewf_table::{FoundTable, Stored, Table};

/// Chunks are 32 KiB by default; no writer offers more than 16 MiB of 512-byte sectors.
const LARGEST_CHUNK: u64 = 64 << 20;
/// Decoded chunks that are kept.
const CACHE: usize = 64 << 20;
/// A list of sectors that could not be read is shown so far; the rest is counted.
const LISTED_SECTORS: usize = 1000;
/// The XML with hashes that libewf's own format adds is a few hundred bytes.
const LONGEST_XHASH: u64 = 64 << 10;

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EwfFacts {
    /// Bytes of the disk.
    pub media_size: u64,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Bytes of a chunk.
    pub chunk_size: u64,
    /// MD5 of the disk, as the image's maker found it.
    pub md5: Option<[u8; 16]>,
    /// SHA-1 of the disk, as the image's maker found it.
    pub sha1: Option<[u8; 20]>,
    /// How many segments there are.
    pub segments: usize,
    /// Sectors that could not be read when the image was made, and were filled with zeros: first sector, how many.
    pub unreadable_sectors: Vec<(u32, u32)>,
}

/// The disk inside an Expert Witness image.
pub struct Ewf {
    stored: Arc<dyn ByteSource>,
    facts: EwfFacts,
    /// The section that says size and chunk size.
    volume: StreamRange,
    /// Each table with the number of its first chunk, in the order of the chunks.
    tables: Vec<(u64, Table)>,
    cache: DecodedCache,
    issues: IssueList,
}

/// What comes next in the order of the chunks.
enum Run {
    Table(FoundTable),
    /// A segment or table that is not there: it is not known how many chunks it held.
    Gap,
    /// A place where tables would be hidden by a damaged descriptor, if any are missing.
    MayBeGap,
}

impl Ewf {
    /// Opens an image whose segments lie one after the other in `stored`, `parts` being their lengths in that order.
    /// Where `parts` do not add up to the stream, the segments are found by their own chain.
    ///
    /// `Ok(Err(reason))` is for bytes that are no such image, or one without its size.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when `stored` cannot be read.
    pub fn open(stored: Arc<dyn ByteSource>, parts: &[u64]) -> Result<Result<Ewf, String>, ReadError> {
        let issues = IssueList::default();
        let mut segments = match segments_of(&*stored, parts, &issues)? {
            Ok(segments) => segments,
            Err(reason) => return Ok(Err(reason)),
        };
        segments.sort_by_key(|segment| segment.number);
        let mut opening = Opening {
            facts: EwfFacts::default(),
            volume: None,
            is_volume_sound: false,
            runs: Vec::new(),
            chunks: 0,
        };
        opening.facts.segments = segments.len();
        let (mut before, mut is_ended) = (0u16, false);
        for segment in &segments {
            if segment.number != before.saturating_add(1) {
                let what = match segment.number == before {
                    true => format!("segment {before} is there twice"),
                    false => format!("segment {} is missing", before.saturating_add(1)),
                };
                issues.add(segment.start, what);
                opening.runs.push(Run::Gap);
            }
            before = segment.number;
            is_ended = opening.segment(&*stored, segment, &issues)?;
        }
        if !is_ended {
            opening.runs.push(Run::Gap);
            issues.add(stored.len(), format!("segment {before} is not the last one, but no more are there"));
        }
        let Some(volume) = opening.volume.clone() else {
            return Ok(Err("no section of this E01 image says how large the disk is".to_owned()));
        };
        let tables = opening.number_tables(&issues);
        let largest = usize::try_from(opening.facts.chunk_size).unwrap_or(usize::MAX);
        Ok(Ok(Ewf {
            stored,
            facts: opening.facts,
            volume,
            tables,
            cache: DecodedCache::new(CACHE, largest),
            issues,
        }))
    }

    /// What the image says about itself.
    pub fn facts(&self) -> &EwfFacts {
        &self.facts
    }

    /// What is damaged or missing, as found so far, each at its byte of the stream.
    pub fn issues(&self) -> Vec<VolumeIssue> {
        self.issues.to_vec()
    }

    /// Bytes that chunk `index` holds of the disk.
    fn length_of(&self, index: u64) -> u64 {
        let start = index.saturating_mul(self.facts.chunk_size);
        self.facts.media_size.saturating_sub(start).min(self.facts.chunk_size)
    }

    fn table_of(&self, index: u64) -> Option<(&Table, u64)> {
        let behind = self.tables.partition_point(|(first, _)| *first <= index);
        let (first, table) = self.tables.get(behind.checked_sub(1)?)?;
        let within = index.checked_sub(*first).filter(|within| *within < table.count)?;
        Some((table, within))
    }

    fn place_of(&self, index: u64) -> Result<Option<Stored>, ReadError> {
        let chunk = self.facts.chunk_size;
        // What deflate makes of bytes that it cannot shorten: a few more in each 16 KiB.
        let longest = chunk.saturating_add(chunk / 8).saturating_add(1024);
        match self.table_of(index) {
            Some((table, within)) => table.stored(&*self.stored, within, longest),
            None => Ok(None),
        }
    }

    fn chunk(&self, index: u64) -> Result<Arc<Vec<u8>>, ReadError> {
        self.cache.get_or(index, || {
            let place = self.place_of(index)?;
            let decoded = match &place {
                None => Err("no table says where it lies".to_owned()),
                Some(place) => self.decode(place, self.length_of(index))?,
            };
            decoded.map_err(|reason| {
                let start = index.saturating_mul(self.facts.chunk_size);
                let length = self.length_of(index);
                let end = start.saturating_add(length);
                let at = place.map_or(0, |place| place.start);
                self.issues.add(at, format!("bytes {start} to {end} of the disk (chunk {index}): {reason}"));
                ReadError::Lost {
                    what: "the disk in the E01 image".to_owned(),
                    offset: start,
                    length,
                    reason,
                }
            })
        })
    }

    /// The `wanted` bytes of a chunk; the inner error says in words what is wrong with it.
    fn decode(&self, place: &Stored, wanted: u64) -> Result<Result<Vec<u8>, String>, ReadError> {
        let (wanted, chunk) = (wanted as usize, self.facts.chunk_size as usize);
        let length = usize::try_from(place.end.saturating_sub(place.start)).unwrap_or(usize::MAX);
        if place.is_compressed {
            let bytes = read_vec(&*self.stored, place.start, length)?;
            let mut out = Vec::with_capacity(chunk);
            let result =
                flate2::bufread::ZlibDecoder::new(&*bytes).take(chunk as u64 + 1).read_to_end(&mut out);
            return Ok(match result {
                Err(error) => Err(format!("it does not inflate: {error}")),
                // Only at its end is the checksum looked at.
                Ok(_) if out.len() > chunk => Err(format!("it inflates to more than {chunk} bytes")),
                Ok(_) if out.len() < wanted => {
                    Err(format!("it inflates to {} bytes, not {wanted}", out.len()))
                }
                Ok(_) => {
                    out.truncate(wanted);
                    Ok(out)
                }
            });
        }
        let length = length.min(chunk.saturating_add(4));
        let mut bytes = read_vec(&*self.stored, place.start, length)?;
        // The last chunk is stored whole or cut to the disk's size.
        let held = [bytes.len().saturating_sub(4), wanted].into_iter().filter(|held| *held >= wanted);
        let is_sound = |held: &usize| {
            let sum = part(&bytes, *held, 4);
            sum.len() == 4 && adler32(part(&bytes, 0, *held)) == le32(sum, 0)
        };
        Ok(match held.clone().find(is_sound) {
            Some(_) => {
                bytes.truncate(wanted);
                Ok(bytes)
            }
            None if held.count() < 2 && bytes.len() < wanted.saturating_add(4) => {
                Err(format!("{} bytes of it are stored, not {wanted} and a checksum", bytes.len()))
            }
            None => Err("its checksum does not hold".to_owned()),
        })
    }

    /// Calls `each` for the chunks that hold a range: number, first and last byte of the range in it.
    fn for_chunks(&self, offset: u64, length: u64, mut each: impl FnMut(u64, u64, u64)) {
        let end = offset.saturating_add(length).min(self.len());
        let chunk = self.facts.chunk_size.max(1);
        let mut at = offset;
        while at < end {
            let index = at / chunk;
            let start = index.saturating_mul(chunk);
            let to = start.saturating_add(chunk).min(end);
            each(index, at.saturating_sub(start), to.saturating_sub(start));
            at = to;
        }
    }
}

impl ByteSource for Ewf {
    fn len(&self) -> u64 {
        self.facts.media_size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0;
        let there = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = there.min(buf.len());
        while done < want {
            let at = offset.saturating_add(done as u64);
            let index = at / self.facts.chunk_size.max(1);
            let within = (at % self.facts.chunk_size.max(1)) as usize;
            let chunk = self.chunk(index)?;
            let from = chunk.get(within..).unwrap_or(&[]);
            let n = from.len().min(want - done);
            let (Some(to), Some(from)) = (buf.get_mut(done..done + n), from.get(..n)) else { break };
            if n == 0 {
                break;
            }
            to.copy_from_slice(from);
            done += n;
        }
        Ok(done)
    }

    /// Of a chunk that is stored as it is, the bytes themselves; of a deflated one, all its deflated bytes.
    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let mut ranges = Vec::new();
        self.for_chunks(offset, length, |index, from, to| {
            let Ok(Some(place)) = self.place_of(index) else { return };
            let (start, end) = match place.is_compressed {
                true => (place.start, place.end),
                false => (place.start.saturating_add(from), place.start.saturating_add(to)),
            };
            ranges.extend(self.stored.stream_ranges(start, end.saturating_sub(start)));
        });
        ranges
    }

    fn container_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        let mut ranges = Vec::new();
        self.for_chunks(offset, length, |index, _, _| {
            if let Some((table, within)) = self.table_of(index) {
                let entry = table.entry_range(within);
                ranges.extend(self.stored.stream_ranges(entry.start, entry.end.saturating_sub(entry.start)));
            }
        });
        ranges
    }

    fn stored_as(&self, offset: u64, length: u64) -> Option<&'static str> {
        let mut any = false;
        self.for_chunks(offset, length, |index, _, _| {
            any |= matches!(self.place_of(index), Ok(Some(place)) if place.is_compressed);
        });
        any.then_some("deflated chunks of an E01 image, whole")
    }

    fn map_ranges(&self) -> Vec<StreamRange> {
        self.stored.stream_ranges(self.volume.start, self.volume.end.saturating_sub(self.volume.start))
    }
}

/// The segments in `stored`, by the lengths of its parts, or else by their own chains.
fn segments_of(
    stored: &dyn ByteSource,
    parts: &[u64],
    issues: &IssueList,
) -> Result<Result<Vec<Segment>, String>, ReadError> {
    let sum = parts.iter().fold(0u64, |sum, part| sum.saturating_add(*part));
    let mut segments = Vec::new();
    let mut start = 0u64;
    if !parts.is_empty() && sum == stored.len() {
        for length in parts {
            match Segment::read(stored, start, *length)? {
                Ok(segment) => segments.push(segment),
                Err(what) if start == 0 => return Ok(Err(what)),
                Err(what) => {
                    issues.add(start, format!("the part of {length} bytes that begins here is {what}"));
                }
            }
            start = start.saturating_add(*length);
        }
        return Ok(Ok(segments));
    }
    if !parts.is_empty() {
        issues.add(0, format!("the parts are {sum} bytes long together, the stream {}", stored.len()));
    }
    while start < stored.len() {
        let rest = stored.len().saturating_sub(start);
        match Segment::read(stored, start, rest)? {
            Ok(mut segment) => {
                let sections = segment.sections(stored, &IssueList::default())?;
                let end = sections.last().map_or(stored.len(), |section| section.end).max(start + 1);
                segment.length = end.saturating_sub(start);
                segments.push(segment);
                start = end;
            }
            Err(what) if segments.is_empty() => return Ok(Err(what)),
            Err(what) => {
                issues.add(start, format!("behind the last segment is {what}"));
                break;
            }
        }
    }
    if segments.is_empty() { Ok(Err("empty".to_owned())) } else { Ok(Ok(segments)) }
}

/// What is known of an image while its segments are read in order.
struct Opening {
    facts: EwfFacts,
    volume: Option<StreamRange>,
    is_volume_sound: bool,
    runs: Vec<Run>,
    /// How many chunks the image says it has.
    chunks: u64,
}

impl Opening {
    /// Reads one segment; true if it says that it is the last.
    fn segment(
        &mut self,
        source: &dyn ByteSource,
        segment: &Segment,
        issues: &IssueList,
    ) -> Result<bool, ReadError> {
        let sections = segment.sections(source, issues)?;
        let mut last: Option<bool> = None;
        for section in &sections {
            let is_table = matches!(section.kind.as_str(), "table" | "table2");
            match section.kind.as_str() {
                "volume" | "disk" | "data" if self.volume.is_none() => {
                    self.volume(source, section, issues)?;
                }
                "table" => {
                    last = self.table(source, section, segment, &sections, issues)?;
                }
                // The second copy is used where the first does not hold.
                "table2" if last != Some(true) => {
                    let mut hidden = 0;
                    while matches!(self.runs.last(), Some(Run::MayBeGap)) {
                        self.runs.pop();
                        hidden += 1;
                    }
                    let first = (last == Some(false)).then(|| self.runs.pop()).flatten();
                    let second = self.table(source, section, segment, &sections, issues)?;
                    if second != Some(true)
                        && let Some(first) = first
                    {
                        self.runs.pop();
                        self.runs.push(first);
                    }
                    self.runs.extend((0..hidden).map(|_| Run::MayBeGap));
                    last = None;
                }
                "hash" => self.facts.md5 = self.facts.md5.or(hash(source, section, 0, 32, issues)?),
                "digest" => {
                    self.facts.md5 = hash(source, section, 0, 76, issues)?.or(self.facts.md5);
                    self.facts.sha1 = hash(source, section, 16, 76, issues)?.or(self.facts.sha1);
                }
                "xhash" => self.xhash(source, section)?,
                "error2" => self.unreadable(source, section, issues)?,
                _ => {}
            }
            if !is_table {
                last = None;
            }
            if !section.is_sound {
                self.runs.push(Run::MayBeGap);
            }
        }
        let end = sections.last().map_or("", |section| section.kind.as_str());
        if !matches!(end, "next" | "done") {
            self.runs.push(Run::MayBeGap);
        }
        Ok(end == "done")
    }

    /// Adds a table; whether its checksums hold, `None` where there is none.
    fn table(
        &mut self,
        source: &dyn ByteSource,
        section: &Section,
        segment: &Segment,
        sections: &[Section],
        issues: &IssueList,
    ) -> Result<Option<bool>, ReadError> {
        Ok(match Table::read(source, section, segment.start, sections, issues)? {
            Some(found) => {
                let is_sound = found.is_sound;
                self.runs.push(Run::Table(found));
                Some(is_sound)
            }
            None => {
                self.runs.push(Run::Gap);
                Some(false)
            }
        })
    }

    fn volume(
        &mut self,
        source: &dyn ByteSource,
        section: &Section,
        issues: &IssueList,
    ) -> Result<(), ReadError> {
        const ENCASE: usize = 1052;
        const SMART: usize = 94;
        let there = usize::try_from(section.end.saturating_sub(section.data)).unwrap_or(usize::MAX);
        let bytes = read_vec(source, section.data, there.min(ENCASE))?;
        let (sectors, guarded) = match bytes.len() {
            ENCASE => (le64(&bytes, 16), ENCASE - 4),
            SMART.. => (le32(&bytes, 16).into(), SMART - 4),
            _ => {
                issues.add(section.data, format!("the section {:?} is cut off", section.kind));
                return Ok(());
            }
        };
        let is_sound = adler32(part(&bytes, 0, guarded)) == le32(&bytes, guarded);
        if !is_sound {
            issues.add(
                section.data,
                format!("the checksum of the content of {:?} does not hold", section.kind),
            );
        }
        let (chunks, per_chunk, sector) = (le32(&bytes, 4), le32(&bytes, 8), le32(&bytes, 12));
        let chunk = u64::from(per_chunk).saturating_mul(sector.into());
        match sectors.checked_mul(sector.into()) {
            Some(size) if (1..=LARGEST_CHUNK).contains(&chunk) => {
                self.facts.media_size = size;
                self.facts.sector_size = sector;
                self.facts.chunk_size = chunk;
                self.chunks = chunks.into();
                self.volume = Some(section.data..section.data.saturating_add(bytes.len() as u64));
                self.is_volume_sound = is_sound;
            }
            _ => {
                let what = format!(
                    "the section {:?} says {sectors} sectors of {sector} bytes, {per_chunk} in a chunk: that cannot be",
                    section.kind
                );
                issues.add(section.data, what);
            }
        }
        Ok(())
    }

    fn xhash(&mut self, source: &dyn ByteSource, section: &Section) -> Result<(), ReadError> {
        let length = section.end.saturating_sub(section.data).min(LONGEST_XHASH);
        let bytes = read_vec(source, section.data, length as usize)?;
        let mut text = Vec::new();
        // What does not inflate says no hash.
        let _ = flate2::bufread::ZlibDecoder::new(&*bytes).take(LONGEST_XHASH).read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let tag = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            hex::decode(rest.split_once('<')?.0.trim()).ok()
        };
        self.facts.md5 = self.facts.md5.or(tag("MD5").and_then(|hash| hash.try_into().ok()));
        self.facts.sha1 = self.facts.sha1.or(tag("SHA1").and_then(|hash| hash.try_into().ok()));
        Ok(())
    }

    /// The sectors that the maker of the image could not read.
    fn unreadable(
        &mut self,
        source: &dyn ByteSource,
        section: &Section,
        issues: &IssueList,
    ) -> Result<(), ReadError> {
        const HEADER: u64 = 520;
        let header = read_vec(source, section.data, HEADER as usize)?;
        let entries = section.data.saturating_add(HEADER);
        let fits = section.end.saturating_sub(entries) / 8;
        let count = u64::from(le32(&header, 0)).min(fits);
        let listed = count.min(LISTED_SECTORS as u64);
        let bytes = read_vec(source, entries, (listed * 8) as usize)?;
        for entry in bytes.chunks_exact(8) {
            let (first, many) = (le32(entry, 0), le32(entry, 4));
            self.facts.unreadable_sectors.push((first, many));
            let what = format!(
                "{many} sectors from {first} on could not be read when the image was made, and hold zeros"
            );
            issues.add(section.data, what);
        }
        if count > listed {
            issues.add(section.data, format!("{} more such places are not listed", count - listed));
        }
        Ok(())
    }

    /// Gives each table the number of its first chunk. Behind a gap that is known only if it is the only one: counted
    /// from the end. A chunk must never be taken for another, so those behind a second gap are not read.
    fn number_tables(&mut self, issues: &IssueList) -> Vec<(u64, Table)> {
        let needed = self.facts.media_size.div_ceil(self.facts.chunk_size.max(1));
        if self.chunks != needed {
            let what = format!("the image says it has {} chunks; its disk needs {needed}", self.chunks);
            issues.add(self.volume.as_ref().map_or(0, |volume| volume.start), what);
        }
        let held = |runs: &[Run]| {
            let count = |run: &Run| match run {
                Run::Table(found) => found.table.count,
                Run::Gap | Run::MayBeGap => 0,
            };
            runs.iter().map(count).fold(0, u64::saturating_add)
        };
        let is_gap = |run: &Run| matches!(run, Run::Gap);
        if held(&self.runs) != needed || self.runs.iter().any(is_gap) {
            issues.add(0, format!("the tables hold {} chunks; the disk has {needed}", held(&self.runs)));
            for run in &mut self.runs {
                match run {
                    Run::Table(found) if found.is_count_known => {}
                    _ => *run = Run::Gap,
                }
            }
        }
        let held = held(&self.runs);
        let has_one_gap = self.runs.iter().filter(|run| is_gap(run)).count() == 1;
        let mut tables = Vec::new();
        let mut next = 0u64;
        for run in self.runs.drain(..) {
            match run {
                Run::Gap if has_one_gap && held <= needed => next = next.saturating_add(needed - held),
                Run::Gap => break,
                Run::MayBeGap => {}
                Run::Table(FoundTable { table, .. }) => {
                    let first = next;
                    next = next.saturating_add(table.count);
                    if table.count > 0 {
                        tables.push((first, table));
                    }
                }
            }
        }
        tables
    }
}

/// A hash at `at` of a section whose checksum lies at `sum_at`; zeros mean that there is none.
fn hash<const N: usize>(
    source: &dyn ByteSource,
    section: &Section,
    at: usize,
    sum_at: usize,
    issues: &IssueList,
) -> Result<Option<[u8; N]>, ReadError> {
    let there = usize::try_from(section.end.saturating_sub(section.data)).unwrap_or(usize::MAX);
    let bytes = read_vec(source, section.data, there.min(sum_at + 4))?;
    if bytes.len() < sum_at + 4 || adler32(part(&bytes, 0, sum_at)) != le32(&bytes, sum_at) {
        issues
            .add(section.data, format!("the checksum of the {} does not hold: it is not used", section.kind));
        return Ok(None);
    }
    Ok(part(&bytes, at, N).try_into().ok().filter(|hash: &[u8; N]| hash.iter().any(|byte| *byte != 0)))
}
