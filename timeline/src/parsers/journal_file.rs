//! The systemd journal's file format: header, objects, entries and the arrays that lead to them.
//!
//! Reference: systemd, "Journal File Format" and `journal-def.h`. Every offset, size and count in a file is
//! checked against the file before it is followed; nothing is allocated by a length that was only read.

mod blocks;
mod field;
mod hash;
mod offsets;

use std::sync::Arc;

use crate::bytes::ByteSource;
use crate::error::ReadError;
use crate::event::Span;

use blocks::Blocks;
pub(super) use field::{Field, Fields};
pub(super) use offsets::OffsetSet;

/// The first bytes of every journal.
pub(super) const SIGNATURE: &[u8] = b"LPKSHHRH";

/// The header of the first releases; later ones only added to its end.
pub(super) const SMALLEST_HEADER: u64 = 208;
/// How much of the header an entry needs that an array leads to: up to the offset of the first array.
pub(super) const HEADER_OF_REACHED: u64 = 184;
/// How much of it an entry needs that no array leads to: up to `seqnum_id`.
pub(super) const HEADER_OF_RECOVERED: u64 = 88;

const XZ: u32 = 1;
const LZ4: u32 = 2;
const KEYED_HASH: u32 = 4;
const ZSTD: u32 = 8;
const COMPACT: u32 = 16;

/// Journald takes 1,024 fields of a sender at most, and adds its own.
const MOST_FIELDS: u64 = 1280;
/// An array of entries whose next 64 Ki places are empty ends here: it is filled from its start.
const EMPTY_PLACES: u64 = 64 << 10;
/// Zeros beyond this are a hole of a sparse file: journald grows its files by 8 MiB.
const LONGEST_GAP: u64 = 256 << 20;
/// Beyond this time (the year 3111) journald itself takes an entry for damaged.
const LATEST_TIME: u64 = 1 << 55;

pub(super) const DATA: u8 = 1;
pub(super) const ENTRY: u8 = 3;
const ENTRY_ARRAY: u8 = 6;

/// What a journal's header says.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    /// Features that a reader must know.
    pub(super) incompatible: u32,
    /// The file's own id: the key of its hashes.
    pub(super) file_id: [u8; 16],
    /// What the sequence numbers belong to.
    pub(super) seqnum_id: [u8; 16],
    /// Where the objects begin.
    pub(super) size: u64,
    /// How many entries the writer counted.
    pub(super) entries: u64,
    /// The first array of entries; `None` where the bytes at hand do not say.
    pub(super) entry_array: Option<u64>,
}

impl Header {
    /// Reads as much of a header as is there; `None` where it is no journal's.
    fn read(bytes: &[u8]) -> Option<Header> {
        if !bytes.starts_with(SIGNATURE) {
            return None;
        }
        Some(Header {
            incompatible: u32_at(bytes, 12)?,
            file_id: id_at(bytes, 24)?,
            seqnum_id: id_at(bytes, 72)?,
            size: u64_at(bytes, 88).unwrap_or(0),
            entries: u64_at(bytes, 152).unwrap_or(0),
            entry_array: u64_at(bytes, 176),
        })
    }

    /// Whether offsets have 32 bits.
    pub(super) fn is_compact(&self) -> bool {
        self.incompatible & COMPACT != 0
    }

    /// Whether hashes are SipHash keyed by the file's id, not Jenkins'.
    fn is_keyed(&self) -> bool {
        self.incompatible & KEYED_HASH != 0
    }

    /// Features that this reader does not know.
    pub(super) fn unknown_features(&self) -> u32 {
        self.incompatible & !(XZ | LZ4 | KEYED_HASH | ZSTD | COMPACT)
    }

    fn place_size(&self) -> u64 {
        if self.is_compact() { 4 } else { 8 }
    }
}

/// The start of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    /// Its type: [`DATA`], [`ENTRY`] …
    pub(super) kind: u8,
    /// How its payload is compressed.
    flags: u8,
    /// Its size with its header, without padding.
    pub(super) size: u64,
}

impl Object {
    /// Offset of the object behind it.
    pub(super) fn next(self, at: u64) -> u64 {
        at.saturating_add(self.size).saturating_add(7) & !7
    }
}

/// Why there is no object at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoObject {
    /// 16 zero bytes.
    Zeros,
    /// Something else.
    Bad(&'static str),
}

impl NoObject {
    pub(super) fn reason(self) -> &'static str {
        match self {
            NoObject::Zeros => "nothing but zeros: allocated, and never written",
            NoObject::Bad(reason) => reason,
        }
    }
}

/// An entry, without its fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) span: Span,
    pub(super) seqnum: u64,
    /// Microseconds since 1970.
    pub(super) realtime: u64,
    /// Microseconds since boot.
    pub(super) monotonic: u64,
    pub(super) boot_id: [u8; 16],
    pub(super) xor_hash: u64,
    /// Where its data objects lie.
    pub(super) items: Vec<u64>,
}

/// What the entry arrays name.
#[derive(Default)]
pub(super) struct Reached {
    /// Where entries should be.
    pub(super) entries: OffsetSet,
    /// Places of the arrays that cannot be followed, and why.
    pub(super) bad: Vec<(Span, String)>,
}

/// A journal, read object by object.
pub(super) struct JournalFile {
    bytes: Blocks,
    pub(super) header: Header,
}

impl JournalFile {
    /// Opens a whole journal; `None` where there is no journal's header.
    pub(super) fn open(source: Arc<dyn ByteSource>) -> Result<Option<JournalFile>, ReadError> {
        let mut bytes = Blocks::new(source, false);
        let Some(header) = Header::read(bytes.get(0, SMALLEST_HEADER as usize)?) else {
            return Ok(None);
        };
        Ok(Some(JournalFile { bytes, header }))
    }

    /// Opens the bytes of one entry: parts of the header, the entry and its data objects.
    pub(super) fn open_record(source: Arc<dyn ByteSource>) -> Result<Option<JournalFile>, ReadError> {
        let mut bytes = Blocks::new(source, true);
        let header = match bytes.get(0, HEADER_OF_REACHED as usize) {
            Ok(head) => Header::read(head),
            Err(_) => Header::read(bytes.get(0, HEADER_OF_RECOVERED as usize)?),
        };
        Ok(header.map(|header| JournalFile { bytes, header }))
    }

    /// Length of the file.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len()
    }

    /// The start of the object at `at`.
    pub(super) fn object(&mut self, at: u64) -> Result<Result<Object, NoObject>, ReadError> {
        if !at.is_multiple_of(8) {
            return Ok(Err(NoObject::Bad("no object: the offset is not a multiple of 8")));
        }
        if at < SMALLEST_HEADER {
            return Ok(Err(NoObject::Bad("the file's header")));
        }
        let left = self.bytes.len().saturating_sub(at);
        let head = self.bytes.get(at, 16)?;
        let (Some([kind, flags, ..]), Some(size)) = (head.get(..8), u64_at(head, 8)) else {
            return Ok(Err(NoObject::Bad("the end of the file")));
        };
        let (kind, flags) = (*kind, *flags);
        if head.iter().all(|b| *b == 0) {
            return Ok(Err(NoObject::Zeros));
        }
        let compact = self.header.is_compact();
        let (least, step) = match kind {
            DATA => (if compact { 73 } else { 65 }, 1),
            2 => (41, 1),
            ENTRY if compact => (64, 4),
            ENTRY => (64, 16),
            4 | 5 => (16, 16),
            ENTRY_ARRAY => (24, self.header.place_size()),
            7 => (64, 64),
            _ => return Ok(Err(NoObject::Bad("no object of a known type"))),
        };
        if size < least || !(size - least).is_multiple_of(step) || (kind != DATA && flags != 0) {
            return Ok(Err(NoObject::Bad("an object of a size or flag that its type cannot have")));
        }
        if size > left {
            return Ok(Err(NoObject::Bad("an object larger than the rest of the file")));
        }
        Ok(Ok(Object { kind, flags, size }))
    }

    /// The next place from `at` on that could be an object's start; the file's end where there is none.
    ///
    /// The object's reserved bytes must be zero here: these bytes are searched, not followed.
    pub(super) fn next_object(&mut self, mut at: u64) -> Result<u64, ReadError> {
        while at < self.bytes.len() {
            let start = self.bytes.get(at, 16)?;
            let plausible = matches!(start, [1..=7, 0..=4, 0, 0, 0, 0, 0, 0, ..]);
            if plausible && self.object(at)?.is_ok() {
                return Ok(at);
            }
            at = at.saturating_add(8);
        }
        Ok(self.bytes.len())
    }

    /// Where the zeros that begin at `at` end, to the multiple of 8 below; the file's end where all is zero. The
    /// second value is false where it gave up in a hole.
    pub(super) fn skip_zeros(&mut self, at: u64) -> Result<(u64, bool), ReadError> {
        const STEP: usize = 64 << 10;
        static ZEROS: [u8; 4096] = [0; 4096];
        let end = self.bytes.len();
        let mut from = at;
        while from < end {
            let part = self.bytes.get(from, STEP - (from % STEP as u64) as usize)?;
            if part.is_empty() {
                break;
            }
            let is_used = |chunk: &[u8]| ZEROS.get(..chunk.len()) != Some(chunk);
            let zeros = match part.chunks(ZEROS.len()).position(is_used) {
                None => part.len(),
                Some(chunk) => {
                    let start = chunk * ZEROS.len();
                    start + part.get(start..).and_then(|p| p.iter().position(|b| *b != 0)).unwrap_or(0)
                }
            };
            if zeros < part.len() {
                return Ok((from.saturating_add(zeros as u64) & !7, true));
            }
            from = from.saturating_add(zeros as u64);
            if from - at > LONGEST_GAP {
                return Ok((from, false));
            }
        }
        Ok((end, true))
    }

    /// Reads the entry at `at` into `entry`.
    pub(super) fn entry(&mut self, at: u64, entry: &mut Entry) -> Result<Result<(), NoObject>, ReadError> {
        let object = match self.object(at)? {
            Ok(object) if object.kind == ENTRY => object,
            Ok(_) => return Ok(Err(NoObject::Bad("an object that is no entry"))),
            Err(none) => return Ok(Err(none)),
        };
        let compact = self.header.is_compact();
        let step = if compact { 4 } else { 16 };
        if (object.size - 64) / step > MOST_FIELDS {
            return Ok(Err(NoObject::Bad("an entry of more fields than journald writes")));
        }
        let bytes = self.bytes.get(at, object.size as usize)?;
        let fixed = |at| u64_at(bytes, at).unwrap_or(0);
        entry.span = Span::new(at, object.size);
        entry.seqnum = fixed(16);
        entry.realtime = fixed(24);
        entry.monotonic = fixed(32);
        entry.boot_id = id_at(bytes, 40).unwrap_or_default();
        entry.xor_hash = fixed(56);
        entry.items.clear();
        let items = bytes.get(64..).unwrap_or(&[]).chunks_exact(step as usize);
        entry.items.extend(items.map(|item| {
            let item = item.get(..8).unwrap_or(item);
            item.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
        }));
        if entry.realtime == 0 || entry.realtime >= LATEST_TIME {
            return Ok(Err(NoObject::Bad("an entry without a possible time")));
        }
        if entry.items.is_empty() {
            return Ok(Err(NoObject::Bad("an entry without fields")));
        }
        Ok(Ok(()))
    }

    /// Follows the chain of entry arrays from the header on.
    pub(super) fn walk_arrays(&mut self) -> Result<Reached, ReadError> {
        const STEP: u64 = 32 << 10;
        let mut reached = Reached::default();
        let mut met = OffsetSet::default();
        let place = self.header.place_size();
        let mut left = self.bytes.len();
        let mut from = Span::new(176, 8);
        let mut next = self.header.entry_array.unwrap_or(0);
        while next != 0 {
            let at = next;
            let object = match self.object(at)? {
                Ok(object) if object.kind == ENTRY_ARRAY => object,
                other => {
                    let reason = other.map_or_else(NoObject::reason, |_| "another object");
                    reached
                        .bad
                        .push((from, format!("names an array of entries at {at}, where there is {reason}")));
                    return Ok(reached);
                }
            };
            if !met.insert(at) {
                reached.bad.push((from, format!("leads back to the array of entries at {at}")));
                return Ok(reached);
            }
            // Arrays that overlap each other could be read for ever: all of them together fit into the file.
            let Some(rest) = left.checked_sub(object.size) else {
                reached.bad.push((Span::new(at, object.size), "arrays of entries overlap each other".into()));
                return Ok(reached);
            };
            left = rest;
            from = Span::new(at.saturating_add(16), 8);
            next = u64_at(self.bytes.get(from.offset, 8)?, 0).unwrap_or(0);
            let (mut item, end) = (at.saturating_add(24), at.saturating_add(object.size));
            let mut empty = 0;
            while item < end && empty < EMPTY_PLACES {
                let length = self.bytes.len();
                let part = self.bytes.get(item, (end - item).min(STEP) as usize)?;
                for value in part.chunks_exact(place as usize) {
                    let entry = value.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
                    if entry == 0 {
                        empty += 1;
                    } else if !entry.is_multiple_of(8)
                        || entry < SMALLEST_HEADER
                        || entry.saturating_add(64) > length
                    {
                        empty = 0;
                        let reason = if entry < length { "which cannot be" } else { "beyond the file's end" };
                        reached
                            .bad
                            .push((Span::new(item, place), format!("names an entry at {entry}, {reason}")));
                    } else {
                        empty = 0;
                        reached.entries.insert(entry);
                    }
                    item = item.saturating_add(place);
                }
            }
        }
        Ok(reached)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn id_at(bytes: &[u8], at: usize) -> Option<[u8; 16]> {
    Some(*bytes.get(at..)?.first_chunk()?)
}
