//! The members of a tar that another tool made.
//!
//! - Read: ustar, PAX (path, linkpath, size, mtime), GNU long names.
//! - Not read: the content of sparse members (GNU's `S`), which is named.
//! - Reference: POSIX.1-2017 `pax`; GNU tar manual, "Basic Tar Format".

use crate::bytes::{ByteSource, read_vec};
use crate::error::ReadError;
use crate::event::Span;
use crate::parsers::file_times::{TarHeader, pax_records};
use crate::text::{clean, until_nul};

use super::collection::{Kind, Member, Members};

const BLOCK: u64 = 512;
/// Long names and PAX records are a few KiB; what is longer is passed over.
const LARGEST_EXTENDED: u64 = 1 << 20;
/// More members than any collection has.
const MOST_MEMBERS: usize = 4 << 20;

/// What the headers before a member's own say of it.
#[derive(Default)]
struct Extended {
    start: Option<u64>,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
}

/// Finds all members, and what is damaged between them.
///
/// # Errors
///
/// [`ReadError`] when the bytes cannot be read: what was found before is lost with them, since a tar that is damaged is
/// given here only as far as it decodes.
pub(super) fn read(source: &dyn ByteSource) -> Result<Members, ReadError> {
    let mut found = Members::default();
    let mut extended = Extended::default();
    let mut damaged: Option<u64> = None;
    let mut is_ended = false;
    let mut at = 0u64;
    while at < source.len() {
        let block = read_vec(source, at, BLOCK as usize)?;
        if block.len() < BLOCK as usize {
            found.issue(at, "the tar is cut off within a header".to_owned());
            break;
        }
        let header = TarHeader(&block);
        let after = at.saturating_add(BLOCK);
        if !header.is_sound() {
            if block.iter().all(|byte| *byte == 0) && damaged.is_none() {
                is_ended = true;
                break;
            }
            damaged.get_or_insert(at);
            at = after;
            continue;
        }
        if let Some(from) = damaged.take() {
            found.issue(from, format!("{} bytes are no tar header and no member", at.saturating_sub(from)));
            extended = Extended::default();
        }
        let size = header.number(124, 12).unwrap_or(0);
        let next = |size: u64| after.saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX));
        if let kind @ (b'x' | b'g' | b'L' | b'K') = header.kind() {
            extended.start.get_or_insert(at);
            if size <= LARGEST_EXTENDED && next(size) <= source.len() {
                let content = read_vec(source, after, size as usize)?;
                match kind {
                    b'L' => extended.name = Some(until_nul(&content).to_vec()),
                    b'K' => extended.target = Some(until_nul(&content).to_vec()),
                    b'x' => extended.read(&content),
                    _ => {}
                }
            } else {
                found.issue(at, format!("an extended tar header of {size} bytes is not read"));
            }
            at = next(size);
            continue;
        }
        let mut member = std::mem::take(&mut extended).member(&header, at);
        let content = if member.kind == Kind::File { member.content.length } else { 0 };
        let there = source.len().saturating_sub(after);
        if content > there {
            found.issue(at, format!("{} is cut off after {there} of {content} bytes", clean(&member.name)));
        }
        member.content.length = content.min(there);
        if header.kind() == b'S' {
            found.issue(at, format!("{} is stored sparse, which is not read", clean(&member.name)));
            member.kind = Kind::Other;
        }
        if found.list.len() >= MOST_MEMBERS {
            found.issue(
                at,
                format!("the rest of the tar is not read: it has more than {MOST_MEMBERS} members"),
            );
            break;
        }
        found.list.push(member);
        at = next(content);
    }
    if let Some(from) = damaged {
        found.issue(from, format!("the last {} bytes are no tar", source.len().saturating_sub(from)));
    } else if !is_ended && at >= source.len() {
        found.issue(source.len(), "the tar has no end mark: it is cut off".to_owned());
    }
    Ok(found)
}

impl Extended {
    fn read(&mut self, records: &[u8]) {
        pax_records(records, &mut |key, value| {
            let text = || std::str::from_utf8(value).ok();
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = text().and_then(|text| text.parse().ok()),
                b"mtime" => {
                    let whole = text().and_then(|text| text.split('.').next()?.parse().ok());
                    self.modified = whole.or(self.modified);
                }
                _ => {}
            }
        });
    }

    /// The member whose own header lies at `at`; its content's length is what the headers say.
    fn member(self, header: &TarHeader<'_>, at: u64) -> Member {
        let start = self.start.unwrap_or(at);
        let target = || self.target.clone().unwrap_or_else(|| until_nul(header.field(157, 100)).to_vec());
        let kind = match header.kind() {
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'2' => Kind::Link(target()),
            b'1' | b'3'..=b'6' => Kind::Other,
            // A type that nobody knows has its size of content.
            _ => Kind::File,
        };
        let size = self.size.or_else(|| header.number(124, 12)).unwrap_or(0);
        Member {
            name: self.name.clone().unwrap_or_else(|| header.name()),
            kind,
            facts: Span::new(start, at.saturating_add(BLOCK).saturating_sub(start)),
            content: Span::new(at.saturating_add(BLOCK), size),
            modified: self
                .modified
                .or_else(|| header.number(136, 12).and_then(|seconds| i64::try_from(seconds).ok())),
            deflated: None,
        }
    }
}
