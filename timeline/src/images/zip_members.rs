//! The members of a zip archive, by its central directory.
//!
//! - Read: stored and deflated members, zip64, archives behind other bytes, times of the extra fields (UTC).
//! - Checked: each member's local header against its entry; members that share bytes are read once.
//! - Not read: encrypted members, other methods, archives on several disks, archives without their end. All are named.
//! - Reference: PKWARE, APPNOTE.TXT 6.3.10; Info-ZIP, `extrafld.txt`.

use crate::bytes::{ByteSource, read_vec};
use crate::error::ReadError;
use crate::event::Span;
use crate::text::clean;
use crate::volumes::fields::{le16, le32, le64, part};

use super::collection::{Deflated, Kind, Member, Members};

/// Of the end record, without its comment.
const END: usize = 22;
const LONGEST_COMMENT: usize = 0xFFFF;
/// Of the locator of the zip64 end record.
const LOCATOR: u64 = 20;
/// Of a directory entry, without name, extra fields and comment.
const ENTRY: u64 = 46;
/// Of a local header, without name and extra fields.
const LOCAL: u64 = 30;
/// More members than any collection has.
const MOST_MEMBERS: u64 = 4 << 20;
/// No member unpacks to more.
const LARGEST_MEMBER: u64 = 1 << 48;
/// Days from 1601, where NTFS counts from, to 1970, in seconds.
const NTFS_EPOCH: i64 = 11_644_473_600;

/// A UTC time of an extra field: seconds since 1970 and the nanoseconds below.
pub(crate) type UtcTime = (i64, u32);

/// The times that a directory entry says, and nothing else of the archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) modified: Option<UtcTime>,
    pub(crate) accessed: Option<UtcTime>,
    pub(crate) created: Option<UtcTime>,
    /// The local time of the machine that packed, as written: `2026-11-04 10:22:16`.
    pub(crate) dos: Option<[u16; 6]>,
    /// Whether the UTC times are of 100 ns (NTFS), not of seconds.
    pub(crate) is_fine: bool,
}

/// One entry of the central directory, read from its own bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) times: Times,
    /// Unix mode, where a Unix tool packed it.
    pub(crate) mode: Option<u32>,
    stored: u64,
    crc: u32,
    flags: u16,
    method: u16,
    local: u64,
    disk: u32,
    /// Bytes of the entry.
    length: u64,
}

impl Entry {
    /// Reads the entry that `bytes` begin with; `None` where it is none or cut off.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Entry> {
        if !bytes.starts_with(b"PK\x01\x02") || bytes.len() < ENTRY as usize {
            return None;
        }
        let (name, extra, comment) = (le16(bytes, 28), le16(bytes, 30), le16(bytes, 32));
        let length = ENTRY + u64::from(name) + u64::from(extra) + u64::from(comment);
        if (bytes.len() as u64) < length {
            return None;
        }
        let made_by = le16(bytes, 4) >> 8;
        let mode = le32(bytes, 38) >> 16;
        let mut entry = Entry {
            name: part(bytes, 46, name.into()).to_vec(),
            size: le32(bytes, 24).into(),
            times: Times { dos: dos_time(le16(bytes, 14), le16(bytes, 12)), ..Times::default() },
            // 3 is Unix, 19 is macOS.
            mode: (matches!(made_by, 3 | 19) && mode != 0).then_some(mode),
            stored: le32(bytes, 20).into(),
            crc: le32(bytes, 16),
            flags: le16(bytes, 8),
            method: le16(bytes, 10),
            local: le32(bytes, 42).into(),
            disk: le16(bytes, 34).into(),
            length,
        };
        let mut extras = part(bytes, 46 + usize::from(name), extra.into());
        while extras.len() >= 4 {
            let length = usize::from(le16(extras, 2));
            let Some(field) = extras.get(4..4 + length) else { break };
            entry.extra(le16(extras, 0), field);
            extras = extras.get(4 + length..).unwrap_or(&[]);
        }
        Some(entry)
    }

    fn extra(&mut self, id: u16, field: &[u8]) {
        match id {
            // Zip64: only what did not fit its own field is there, in this order.
            0x0001 => {
                let mut at = 0;
                for number in [&mut self.size, &mut self.stored, &mut self.local] {
                    if *number == u64::from(u32::MAX) && field.len() >= at + 8 {
                        *number = le64(field, at);
                        at += 8;
                    }
                }
                if self.disk == 0xFFFF && field.len() >= at + 4 {
                    self.disk = le32(field, at);
                }
            }
            // Unix time; the directory holds the modification time alone.
            0x5455
                if self.times.modified.is_none()
                    && field.len() >= 5
                    && field.first().is_some_and(|has| has & 1 != 0) =>
            {
                // The field is signed.
                self.times.modified = Some((i64::from(le32(field, 1).cast_signed()), 0));
            }
            // NTFS: reserved, then attributes, of which number 1 holds the three times.
            0x000A if le16(field, 4) == 1 && field.len() >= 32 => {
                let time = |at| ntfs_time(le64(field, at));
                self.times.modified = time(8);
                self.times.accessed = time(16);
                self.times.created = time(24);
                self.times.is_fine = true;
            }
            _ => {}
        }
    }

    fn is_folder(&self) -> bool {
        self.name.ends_with(b"/") || self.mode.is_some_and(|mode| mode & 0o170_000 == 0o040_000)
    }
}

fn ntfs_time(ticks: u64) -> Option<UtcTime> {
    let seconds = i64::try_from(ticks / 10_000_000).ok()?.checked_sub(NTFS_EPOCH)?;
    (ticks != 0).then_some((seconds, (ticks % 10_000_000) as u32 * 100))
}

/// Year, month, day, hour, minute, second; `None` where there is none.
fn dos_time(date: u16, time: u16) -> Option<[u16; 6]> {
    let (month, day) = (date >> 5 & 15, date & 31);
    let is_date = (1..=12).contains(&month) && day > 0;
    is_date.then_some([1980 + (date >> 9), month, day, time >> 11, time >> 5 & 63, (time & 31) * 2])
}

impl Times {
    /// The modification time for what needs only its day: of a local time, as if it were UTC.
    fn about(&self) -> Option<i64> {
        let of_dos = || {
            let [year, month, day, hour, minute, second] = self.dos?.map(u32::from);
            let date = chrono::NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
            Some(date.and_hms_opt(hour, minute, second)?.and_utc().timestamp())
        };
        self.modified.map(|(seconds, _)| seconds).or_else(of_dos)
    }
}

/// Where the central directory lies, and how many entries it is said to have.
struct Directory {
    start: u64,
    end: u64,
    count: u64,
    /// What offsets in the archive are added to: bytes before the archive.
    base: u64,
}

/// Finds all members.
///
/// # Errors
///
/// [`ReadError`] when the archive cannot be read.
pub(super) fn read(source: &dyn ByteSource) -> Result<Members, ReadError> {
    let mut found = Members::default();
    let directory = match directory(source)? {
        Ok(directory) => directory,
        Err(what) => {
            found.issue(source.len(), what);
            return Ok(found);
        }
    };
    let mut at = directory.start;
    let mut encrypted = (0u64, String::new());
    let mut entries = Vec::new();
    while at < directory.end && (entries.len() as u64) < MOST_MEMBERS {
        let longest = ENTRY as usize + 3 * 0xFFFF;
        let room = usize::try_from(directory.end - at).unwrap_or(usize::MAX);
        let fixed = read_vec(source, at, room.min(ENTRY as usize))?;
        let length =
            usize::from(le16(&fixed, 28)) + usize::from(le16(&fixed, 30)) + usize::from(le16(&fixed, 32));
        let bytes = read_vec(source, at, room.min(longest).min(ENTRY as usize + length))?;
        let Some(entry) = Entry::parse(&bytes) else {
            found.issue(at, "the central directory is damaged: the members behind are not read".to_owned());
            break;
        };
        let length = entry.length;
        entries.push((at, entry));
        at = at.saturating_add(length);
    }
    if entries.len() as u64 != directory.count && at >= directory.end {
        let what = format!("the directory has {} members; its end says {}", entries.len(), directory.count);
        found.issue(directory.start, what);
    }
    // In the order of their bytes, so that members which share some are seen.
    entries.sort_by_key(|(at, entry)| (entry.local, *at));
    let mut free_from = 0u64;
    for (at, entry) in entries {
        let name = clean(&entry.name);
        if entry.flags & 1 != 0 {
            encrypted.0 += 1;
            if encrypted.0 == 1 {
                encrypted.1 = name;
            }
            continue;
        }
        if entry.disk != 0 || entry.size > LARGEST_MEMBER || !matches!(entry.method, 0 | 8) {
            let what = match (entry.disk, entry.method) {
                (0, 0 | 8) => format!("{name} says it has {} bytes: it is not read", entry.size),
                (0, method) => format!("{name} is packed by method {method}, which is not read"),
                _ => format!("{name} lies on another disk of the archive, which is not there"),
            };
            found.issue(at, what);
            continue;
        }
        match content(source, &entry, &directory)? {
            Err(what) => found.issue(at, format!("{name} is not read: {what}")),
            Ok((local, content)) if local < free_from => {
                let what =
                    format!("{name} is not read: its {} bytes are also another member's", content.length);
                found.issue(at, what);
            }
            Ok((_, content)) => {
                free_from = content.end();
                found.list.push(entry.member(at, content));
            }
        }
    }
    if encrypted.0 > 0 {
        let what =
            format!("{} members are encrypted and not read, the first of them {}", encrypted.0, encrypted.1);
        found.issue(directory.start, what);
    }
    Ok(found)
}

impl Entry {
    fn member(self, at: u64, content: Span) -> Member {
        let is_link = self.mode.is_some_and(|mode| mode & 0o170_000 == 0o120_000);
        let kind = match (self.is_folder(), is_link) {
            (true, _) => Kind::Other,
            (false, true) => Kind::Link(Vec::new()),
            (false, false) => Kind::File,
        };
        Member {
            kind,
            facts: Span::new(at, self.length),
            content,
            deflated: (self.method == 8).then_some(Deflated { length: self.size, crc: self.crc }),
            modified: self.times.about(),
            name: self.name,
        }
    }
}

/// Where a member's local header and stored content lie; the inner error says what is wrong with them.
fn content(
    source: &dyn ByteSource,
    entry: &Entry,
    directory: &Directory,
) -> Result<Result<(u64, Span), String>, ReadError> {
    let local = directory.base.saturating_add(entry.local);
    let header = read_vec(source, local, LOCAL as usize + entry.name.len())?;
    if !header.starts_with(b"PK\x03\x04") || header.len() < LOCAL as usize {
        return Ok(Err("its local header is not there".to_owned()));
    }
    if part(&header, LOCAL as usize, entry.name.len()) != entry.name
        || usize::from(le16(&header, 26)) != entry.name.len()
    {
        return Ok(Err("its local header is of another name".to_owned()));
    }
    let start = local
        .saturating_add(LOCAL)
        .saturating_add(le16(&header, 26).into())
        .saturating_add(le16(&header, 28).into());
    let end = start.saturating_add(entry.stored);
    if end > source.len() {
        return Ok(Err(format!("its {} bytes reach beyond the archive", entry.stored)));
    }
    if entry.method == 0 && entry.stored != entry.size {
        return Ok(Err(format!("it is stored as it is, but in {} bytes, not {}", entry.stored, entry.size)));
    }
    Ok(Ok((local, Span::new(start, entry.stored))))
}

/// Finds the central directory by the end record; the inner error says why there is none.
fn directory(source: &dyn ByteSource) -> Result<Result<Directory, String>, ReadError> {
    let length = source.len();
    let tail_length = (END + LONGEST_COMMENT) as u64;
    let tail_start = length.saturating_sub(tail_length);
    let tail = read_vec(source, tail_start, tail_length as usize)?;
    let is_end = |at: &usize| {
        let record = tail.get(*at..).unwrap_or(&[]);
        record.starts_with(b"PK\x05\x06")
            && record.len() >= END
            && record.len() >= END + usize::from(le16(record, 20))
    };
    let Some(at) = (0..tail.len().saturating_sub(END - 1)).rev().find(is_end) else {
        return Ok(Err("the zip has no end record: it is cut off, and its members are not read".to_owned()));
    };
    let record = tail.get(at..).unwrap_or(&[]);
    let end_at = tail_start.saturating_add(at as u64);
    let mut size = u64::from(le32(record, 12));
    let mut offset = u64::from(le32(record, 16));
    let mut count = u64::from(le16(record, 10));
    let mut directory_end = end_at;
    if let Some(locator_at) = end_at.checked_sub(LOCATOR) {
        let locator = read_vec(source, locator_at, LOCATOR as usize)?;
        if locator.starts_with(b"PK\x06\x07") {
            let place = le64(&locator, 8);
            let there = read_vec(source, place, 56)?;
            // Bytes before the archive move it: then it lies right before its locator.
            let (place, there) = match there.starts_with(b"PK\x06\x06") {
                true => (place, there),
                false => {
                    let place = locator_at.saturating_sub(56);
                    (place, read_vec(source, place, 56)?)
                }
            };
            if !there.starts_with(b"PK\x06\x06") || there.len() < 56 {
                return Ok(Err("the zip64 end record is not there: the members are not read".to_owned()));
            }
            (count, size, offset) = (le64(&there, 32), le64(&there, 40), le64(&there, 48));
            directory_end = place;
        }
    }
    let Some(start) = directory_end.checked_sub(size).filter(|start| *start >= offset) else {
        return Ok(Err(format!("the central directory of {size} bytes is not before its end record")));
    };
    Ok(Ok(Directory { start, end: directory_end, count, base: start - offset }))
}
