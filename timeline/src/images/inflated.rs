//! Deflated bytes that can be read at any offset: the members of a zip archive, and whole gzip files.
//!
//! Deflate can only be read from its start. So decoders are put aside where they stand, copies of them are kept at
//! marks along the way, and decoded blocks are kept for a while: all of it bounded.
//!
//! Reference: RFC 1951 (deflate), RFC 1952 (gzip).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

use crate::bytes::{ByteSource, StreamRange, read_vec};
use crate::error::ReadError;
use crate::volumes::fields::{byte, le16, le32};
use crate::volumes::issues::IssueList;

use super::decoded_cache::DecodedCache;

/// Decoded bytes are kept in blocks of this size.
const BLOCK: u64 = 1 << 20;
/// Decoded blocks that are kept for all members of an archive: so much that a journal, which is read back and forth,
/// stays in it as a whole.
const CACHE: usize = 192 << 20;
/// Decoders put aside, about 110 KiB each.
const MOST_CURSORS: usize = 64;
/// Stored bytes are fetched in pieces of this size.
const INPUT: usize = 64 << 10;
/// Marks of one member, about 45 KiB each: when there are more, every second one is dropped.
const MOST_MARKS: usize = 256;
/// Decoded bytes between two marks, at first.
const FIRST_SPACING: u64 = 8 << 20;
/// A gzip header with all its fields is shorter, unless it is made to be long.
const LONGEST_HEADER: usize = 64 << 10;
/// A whole file that unpacks to more, and to more than [`HIGHEST_RATIO`] times its size, is cut there.
const HARMLESS: u64 = 16 << 30;
const HIGHEST_RATIO: u64 = 200;

/// How the stored bytes are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A bare deflate stream whose decoded bytes have this CRC-32.
    Deflate { crc: u32 },
    /// RFC 1952, all members.
    Gzip,
}

/// What all members of an archive share: decoded blocks, decoders put aside, and the issues found while reading.
pub(super) struct InflatedBlocks {
    cache: DecodedCache,
    cursors: Mutex<Vec<(u64, Cursor)>>,
    members: AtomicU64,
    pub(super) issues: IssueList,
}

impl InflatedBlocks {
    pub(super) fn new() -> Arc<InflatedBlocks> {
        Arc::new(InflatedBlocks {
            cache: DecodedCache::new(CACHE, BLOCK as usize),
            cursors: Mutex::default(),
            members: AtomicU64::new(0),
            issues: IssueList::default(),
        })
    }

    /// The decoder of a member that stands nearest before `offset`.
    fn cursor_before(&self, member: u64, offset: u64) -> Option<Cursor> {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = cursors.iter().enumerate().filter(|(_, (of, c))| *of == member && c.given <= offset);
        let at = fitting.max_by_key(|(_, (_, cursor))| cursor.given).map(|(at, _)| at)?;
        Some(cursors.remove(at).1)
    }

    fn put_aside(&self, member: u64, cursor: Cursor) {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        if cursors.len() >= MOST_CURSORS {
            cursors.remove(0);
        }
        cursors.push((member, cursor));
    }
}

/// A deflated member or file as the bytes it decodes to.
pub(super) struct Inflated {
    /// What it is called in issues.
    name: String,
    stored: Arc<dyn ByteSource>,
    form: Form,
    length: u64,
    member: u64,
    shared: Arc<InflatedBlocks>,
    marks: Mutex<Marks>,
    /// How far it decodes, and why not further.
    damage: OnceLock<(u64, String)>,
}

impl Inflated {
    /// A bare deflate stream that is said to decode to `length` bytes with CRC-32 `crc`.
    pub(super) fn deflate(
        name: String,
        stored: Arc<dyn ByteSource>,
        length: u64,
        crc: u32,
        shared: Arc<InflatedBlocks>,
    ) -> Inflated {
        Inflated::new(name, stored, Form::Deflate { crc }, length, shared)
    }

    /// A gzip file. It is decoded once to know its length: as far as it is whole. What is damaged is an issue.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the stored bytes cannot be read.
    pub(super) fn gzip(
        name: String,
        stored: Arc<dyn ByteSource>,
        shared: Arc<InflatedBlocks>,
    ) -> Result<Inflated, ReadError> {
        let mut inflated = Inflated::new(name, stored, Form::Gzip, 0, shared);
        let mut cursor = Cursor::new();
        let mut scratch = vec![0; BLOCK as usize];
        loop {
            match cursor.read(&*inflated.stored, inflated.form, &mut scratch) {
                Ok(0) => break,
                Ok(_) => inflated.mark(&cursor),
                Err(Stop::Read(error)) => return Err(error),
                Err(Stop::Damaged(reason)) => {
                    inflated.damaged(cursor.given, reason);
                    break;
                }
            }
            if cursor.given > HARMLESS && cursor.given / HIGHEST_RATIO > cursor.taken {
                let reason =
                    format!("{} bytes from {}: more than any collection gives", cursor.given, cursor.taken);
                inflated.damaged(cursor.given, reason);
                break;
            }
        }
        inflated.length = cursor.given;
        Ok(inflated)
    }

    fn new(
        name: String,
        stored: Arc<dyn ByteSource>,
        form: Form,
        length: u64,
        shared: Arc<InflatedBlocks>,
    ) -> Inflated {
        let member = shared.members.fetch_add(1, Ordering::Relaxed);
        let marks = Mutex::new(Marks { list: Vec::new(), spacing: FIRST_SPACING });
        Inflated { name, stored, form, length, member, shared, marks, damage: OnceLock::new() }
    }

    fn damaged(&self, at: u64, reason: String) {
        let place = self.stored.stream_ranges(0, 1).first().map_or(0, |range| range.start);
        self.shared.issues.add(place, format!("{}: {reason}", self.name));
        // Two threads find the same.
        let _ = self.damage.set((at, reason));
    }

    fn mark(&self, cursor: &Cursor) {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).add(cursor);
    }

    /// The bytes of one block, fewer where the member ends or is damaged.
    fn block(&self, number: u64) -> Result<Arc<Vec<u8>>, ReadError> {
        // A key of its own for each block: no member has 2^40 of them.
        let key = |number: u64| (self.member << 40) | number;
        self.shared.cache.get_or(key(number), || {
            let start = number.saturating_mul(BLOCK);
            let aside = self.shared.cursor_before(self.member, start);
            let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            let mark = marks.before(start).filter(|mark| aside.as_ref().is_none_or(|c| c.given < mark.given));
            let mut cursor = mark.map(Cursor::at_its_place).or(aside).unwrap_or_else(Cursor::new);
            drop(marks);
            loop {
                let at = cursor.given / BLOCK;
                let skip = cursor.given % BLOCK;
                let end = at.saturating_add(1).saturating_mul(BLOCK).min(self.length);
                let block = self.decode_until(&mut cursor, end)?;
                if at >= number || cursor.given < end || block.is_empty() {
                    let is_wanted = at == number && skip == 0;
                    self.finish(cursor);
                    return Ok(if is_wanted { block } else { Vec::new() });
                }
                if skip == 0 {
                    self.shared.cache.put(key(at), Arc::new(block));
                }
            }
        })
    }

    /// Decodes up to `end`, or to the place where the member is damaged.
    fn decode_until(&self, cursor: &mut Cursor, end: u64) -> Result<Vec<u8>, ReadError> {
        let want = usize::try_from(end.saturating_sub(cursor.given).min(BLOCK)).unwrap_or(0);
        let mut out = vec![0; want];
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match cursor.read(&*self.stored, self.form, rest) {
                Ok(0) => {
                    self.damaged(cursor.given, format!("it ends after {} bytes", cursor.given));
                    break;
                }
                Ok(n) => done += n,
                Err(Stop::Read(error)) => return Err(error),
                Err(Stop::Damaged(reason)) => {
                    self.damaged(cursor.given, reason);
                    break;
                }
            }
        }
        out.truncate(done);
        self.mark(cursor);
        Ok(out)
    }

    /// Puts the decoder aside, or checks at the end that this is the end.
    fn finish(&self, mut cursor: Cursor) {
        if cursor.given < self.length || self.form == Form::Gzip {
            self.shared.put_aside(self.member, cursor);
            return;
        }
        match cursor.read(&*self.stored, self.form, &mut [0]) {
            Ok(0) | Err(Stop::Read(_)) => {}
            Ok(_) => self.damaged(self.length, format!("it goes on behind its {} bytes", self.length)),
            Err(Stop::Damaged(reason)) => self.damaged(self.length, reason),
        }
    }
}

impl ByteSource for Inflated {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = there.min(buf.len());
        let mut done = 0;
        while done < want {
            let at = offset.saturating_add(done as u64);
            let beyond = |damage: &&(u64, String)| damage.0 <= at;
            if let Some((whole, reason)) = self.damage.get().filter(beyond) {
                if done > 0 {
                    return Ok(done);
                }
                return Err(ReadError::Decompress {
                    codec: "deflate",
                    offset: *whole,
                    reason: reason.clone(),
                });
            }
            let block = self.block(at / BLOCK)?;
            let from = block.get((at % BLOCK) as usize..).unwrap_or(&[]);
            let n = from.len().min(want - done);
            if let (Some(to), Some(from)) = (buf.get_mut(done..done + n), from.get(..n)) {
                to.copy_from_slice(from);
            }
            done += n;
            // A block that ends early does so because of damage, which the next turn finds.
            if n == 0 && self.damage.get().is_none_or(|(whole, _)| *whole > at) {
                return Ok(done);
            }
        }
        Ok(done)
    }

    /// The stored bytes from the start of the member to a place behind the record: deflate stands on all of them.
    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        if length == 0 || offset >= self.length {
            return Vec::new();
        }
        let end = offset.saturating_add(length);
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = marks.list.iter().find(|mark| mark.given >= end).map(|mark| mark.taken);
        self.stored.stream_ranges(0, taken.unwrap_or(self.stored.len()))
    }

    fn stored_as(&self, _offset: u64, _length: u64) -> Option<&'static str> {
        Some(match self.form {
            Form::Deflate { .. } => "a deflated member of a zip, from its start",
            Form::Gzip => "a gzip file, from its start",
        })
    }

    fn map_ranges(&self) -> Vec<StreamRange> {
        self.stored.map_ranges()
    }
}

/// Copies of the decoder along the way, in the order of their places.
struct Marks {
    list: Vec<Cursor>,
    spacing: u64,
}

impl Marks {
    fn add(&mut self, cursor: &Cursor) {
        let last = self.list.last().map_or(0, |mark| mark.given);
        if cursor.given < last.saturating_add(self.spacing) {
            return;
        }
        self.list.push(cursor.at_its_place());
        if self.list.len() > MOST_MARKS {
            let mut keep = false;
            self.list.retain(|_| {
                keep = !keep;
                keep
            });
            self.spacing = self.spacing.saturating_mul(2);
        }
    }

    fn before(&self, offset: u64) -> Option<&Cursor> {
        let behind = self.list.partition_point(|mark| mark.given <= offset);
        self.list.get(behind.checked_sub(1)?)
    }
}

/// Why a decoder does not go on.
enum Stop {
    Read(ReadError),
    Damaged(String),
}

/// What comes next in the stored bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Header,
    Body,
    Trailer,
    Nothing,
}

/// A decoder at its place.
struct Cursor {
    state: Box<InflateState>,
    next: Next,
    /// Stored bytes behind it.
    taken: u64,
    /// Decoded bytes behind it.
    given: u64,
    crc: crc32fast::Hasher,
    /// Stored bytes fetched ahead, and how many of them are used.
    input: Vec<u8>,
    used: usize,
}

impl Cursor {
    fn new() -> Cursor {
        Cursor {
            state: InflateState::new_boxed(DataFormat::Raw),
            next: Next::Header,
            taken: 0,
            given: 0,
            crc: crc32fast::Hasher::new(),
            input: Vec::new(),
            used: 0,
        }
    }

    /// A copy that fetches its input again.
    fn at_its_place(&self) -> Cursor {
        Cursor {
            state: self.state.clone(),
            next: self.next,
            taken: self.taken,
            given: self.given,
            crc: self.crc.clone(),
            input: Vec::new(),
            used: 0,
        }
    }

    /// Decodes some bytes into `out`, which is not empty; none at the end.
    fn read(&mut self, stored: &dyn ByteSource, form: Form, out: &mut [u8]) -> Result<usize, Stop> {
        loop {
            match self.next {
                Next::Nothing => return Ok(0),
                Next::Header => self.header(stored, form)?,
                Next::Trailer => self.trailer(stored, form)?,
                Next::Body => {
                    let n = self.body(stored, out)?;
                    if n > 0 {
                        return Ok(n);
                    }
                }
            }
        }
    }

    fn body(&mut self, stored: &dyn ByteSource, out: &mut [u8]) -> Result<usize, Stop> {
        if self.used >= self.input.len() {
            self.input = read_vec(stored, self.taken, INPUT).map_err(Stop::Read)?;
            self.used = 0;
        }
        let input = self.input.get(self.used..).unwrap_or(&[]);
        let is_end = input.is_empty();
        let result = inflate(&mut self.state, input, out, MZFlush::None);
        self.used += result.bytes_consumed;
        self.taken = self.taken.saturating_add(result.bytes_consumed as u64);
        self.given = self.given.saturating_add(result.bytes_written as u64);
        self.crc.update(out.get(..result.bytes_written).unwrap_or(&[]));
        match result.status {
            Ok(MZStatus::StreamEnd) => self.next = Next::Trailer,
            Ok(_) if result.bytes_written > 0 || !is_end => {}
            Err(MZError::Buf) if result.bytes_written > 0 => {}
            Ok(_) | Err(MZError::Buf) if is_end => {
                return Err(Stop::Damaged(format!("it is cut off after {} bytes", self.given)));
            }
            Ok(_) | Err(_) => {
                return Err(Stop::Damaged(format!("it does not inflate beyond {} bytes", self.given)));
            }
        }
        Ok(result.bytes_written)
    }

    /// Passes over a gzip header. Zeros or other bytes behind the last member are not one.
    fn header(&mut self, stored: &dyn ByteSource, form: Form) -> Result<(), Stop> {
        if form != Form::Gzip {
            self.next = Next::Body;
            return Ok(());
        }
        let head = read_vec(stored, self.taken, LONGEST_HEADER).map_err(Stop::Read)?;
        match gzip_header(&head) {
            Some(length) => {
                self.skip(length);
                self.state = InflateState::new_boxed(DataFormat::Raw);
                self.crc = crc32fast::Hasher::new();
                self.next = Next::Body;
            }
            None if self.taken == 0 => return Err(Stop::Damaged("it is no gzip file".to_owned())),
            None if head.iter().all(|byte| *byte == 0) => self.next = Next::Nothing,
            None => {
                let reason = format!("behind {} bytes comes something else than gzip", self.given);
                return Err(Stop::Damaged(reason));
            }
        }
        Ok(())
    }

    fn trailer(&mut self, stored: &dyn ByteSource, form: Form) -> Result<(), Stop> {
        let found = self.crc.clone().finalize();
        let expected = match form {
            Form::Deflate { crc } => {
                self.next = Next::Nothing;
                crc
            }
            Form::Gzip => {
                let trailer = read_vec(stored, self.taken, 8).map_err(Stop::Read)?;
                if trailer.len() < 8 {
                    return Err(Stop::Damaged(format!("it is cut off after {} bytes", self.given)));
                }
                self.skip(8);
                self.next = Next::Header;
                le32(&trailer, 0)
            }
        };
        if found != expected {
            self.next = Next::Nothing;
            return Err(Stop::Damaged(format!("the CRC-32 of its {} bytes does not hold", self.given)));
        }
        Ok(())
    }

    fn skip(&mut self, length: usize) {
        self.taken = self.taken.saturating_add(length as u64);
        self.input.clear();
        self.used = 0;
    }
}

/// The length of the gzip header that these bytes begin with.
fn gzip_header(head: &[u8]) -> Option<usize> {
    const HAS_CRC: u8 = 2;
    const HAS_EXTRA: u8 = 4;
    const HAS_NAME: u8 = 8;
    const HAS_COMMENT: u8 = 16;
    if !head.starts_with(&[0x1f, 0x8b, 8]) {
        return None;
    }
    let flags = byte(head, 3);
    let mut at = 10;
    if flags & HAS_EXTRA != 0 {
        at += 2 + usize::from(le16(head, at));
    }
    for field in [HAS_NAME, HAS_COMMENT] {
        if flags & field != 0 {
            at += memchr::memchr(0, head.get(at..)?)? + 1;
        }
    }
    if flags & HAS_CRC != 0 {
        at += 2;
    }
    (at <= head.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Bytes that compress to about a half, unlike each other.
    fn text(length: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b"abcdefghijklmnop"[(state >> 60) as usize]
        };
        (0..length).map(|_| next()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn open(stored: &[u8]) -> Inflated {
        Inflated::gzip("x".into(), Arc::new(stored.to_vec()), InflatedBlocks::new()).unwrap()
    }

    fn issues(inflated: &Inflated) -> Vec<String> {
        inflated.shared.issues.to_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn any_offset_of_a_gzip_file_of_several_members_can_be_read_in_any_order() {
        let plain = text(40 << 20);
        let (one, two) = plain.split_at(17_000_001);
        let stored = [gzip(one), gzip(two), vec![0; 100]].concat();
        let inflated = open(&stored);
        assert_eq!((inflated.len(), issues(&inflated)), (plain.len() as u64, Vec::new()));
        // A cache of nothing, so that every read decodes again.
        let inflated = Inflated {
            shared: Arc::new(InflatedBlocks {
                cache: DecodedCache::new(0, 0),
                cursors: Mutex::default(),
                members: AtomicU64::new(0),
                issues: IssueList::default(),
            }),
            ..inflated
        };
        for offset in [39 << 20, 0, 17_000_000, 16_777_215, 30_000_000, 1, 17_000_000, (40 << 20) - 5] {
            let read = read_vec(&inflated, offset as u64, 3000).unwrap();
            assert!(read == plain[offset..plain.len().min(offset + 3000)], "{offset}");
        }
        assert_eq!(read_vec(&inflated, 40 << 20, 10).unwrap(), [0u8; 0]);
        // A record near the start does not stand on the whole file.
        let ranges = inflated.stream_ranges(100, 10);
        assert!(ranges.len() == 1 && ranges[0].start == 0 && ranges[0].end < stored.len() as u64 / 3);
        assert_eq!(inflated.stream_ranges(39 << 20, 10), vec![0..stored.len() as u64]);
    }

    #[test]
    fn what_is_cut_or_changed_is_read_up_to_the_damage_and_named() {
        let plain = text(100_000);
        let stored = gzip(&plain);
        for length in (0..stored.len()).step_by(997).chain(stored.len() - 9..stored.len()) {
            let cut = open(&stored[..length]);
            assert!(cut.len() <= plain.len() as u64 && issues(&cut).len() == 1, "{length}");
            let read = read_vec(&cut, 0, plain.len()).unwrap_or_default();
            assert!(read == plain[..cut.len() as usize], "{length}");
        }
        for at in (10..stored.len()).step_by(499) {
            let mut changed = stored.clone();
            changed[at] ^= 0x10;
            let changed = open(&changed);
            assert_eq!(issues(&changed).len(), 1, "{at}");
            let _ = read_vec(&changed, 0, 200_000);
        }
        assert!(issues(&open(b"PK\x03\x04"))[0].contains("no gzip"));
    }

    #[test]
    fn a_member_of_a_zip_is_held_against_its_stated_length_and_checksum() {
        let plain = text(3_000_000);
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        let stored: Arc<dyn ByteSource> = Arc::new(encoder.finish().unwrap());
        let crc = crc32fast::hash(&plain);
        let open =
            |length, crc| Inflated::deflate("x".into(), stored.clone(), length, crc, InflatedBlocks::new());
        let read = |inflated: &Inflated| read_vec(inflated, 0, inflated.len() as usize);

        let good = open(3_000_000, crc);
        assert!(read(&good).unwrap() == plain && issues(&good).is_empty());
        let other = open(3_000_000, crc ^ 1);
        assert!(read(&other).unwrap() == plain);
        assert!(issues(&other)[0].contains("CRC-32"));
        let short = open(2_000_000, crc);
        assert!(read(&short).unwrap() == plain[..2_000_000]);
        assert!(issues(&short)[0].contains("goes on behind"));
        let long = open(4_000_000, crc);
        assert!(read(&long).unwrap() == plain);
        assert!(read_vec(&long, 3_000_000, 1).is_err());
        assert_eq!(issues(&long).len(), 1);
        let endless = open(u64::MAX, crc);
        assert!(read_vec(&endless, u64::MAX - 5, 1).is_err());
    }
}
