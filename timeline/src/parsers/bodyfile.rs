//! Bodyfiles: file times that a collector or another tool listed (UAC's `bodyfile.txt`, `fls -m`, mac-robber).
//!
//! - Found at: UAC's `bodyfile/bodyfile.txt`; anywhere.
//! - Known by: lines of eleven fields between `|`, with a size and four times where they belong.
//! - Times: UTC, to the second, or as fine as a fraction is written. 0, -1 and `-` mean that there is none.
//! - Not read: the ten-field-and-more form of TSK before 3.0; lines of it are rejects.
//! - Reference: The Sleuth Kit wiki, "Body file" (3.x): `MD5|name|inode|mode|UID|GID|size|atime|mtime|ctime|crtime`.
//!
//! A name may hold `|`, so fields are counted from both ends. What tool wrote it decides what the fields mean beyond
//! that: `a -> b` is a link to `b`, and in TSK's form of modes (`r/rrw-r--r--`) ` (deleted)` ends the name of a deleted
//! file.

use super::file_times::{FileFacts, decimal_time, message};
use crate::error::ReadError;
use crate::event::{Precision, Span, flags};
use crate::parser::{Context, Input, Parser, Probe, Sink};
use crate::text::clean;
use crate::volumes::FileType;

pub(super) struct Bodyfile;
pub(super) static PARSER: Bodyfile = Bodyfile;

impl Parser for Bodyfile {
    fn name(&self) -> &'static str {
        "bodyfile"
    }

    fn reads(&self) -> &'static str {
        "file times listed in the bodyfile form of The Sleuth Kit 3, by UAC, fls, mac-robber"
    }

    fn times(&self) -> &'static str {
        "Content Modification Time, Last Access Time, Metadata Modification Time, Creation Time"
    }

    fn claims(&self, probe: &Probe<'_>) -> bool {
        let (mut lines, mut known) = (0u32, 0u32);
        for line in probe.lines().filter(|line| !line.trim_ascii().is_empty()).take(20) {
            lines = lines.saturating_add(1);
            known = known.saturating_add(u32::from(Entry::read(line).is_some()));
        }
        known > 0 && known.saturating_mul(2) >= lines
    }

    fn parse(&self, input: &mut Input<'_>, _context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        while let Some(line) = input.next_line()? {
            match Entry::read(line.bytes).filter(|_| !line.cut) {
                Some(entry) => entry.rows(line.span, out),
                None if line.bytes.is_empty() => {}
                None if line.bytes.trim_ascii().is_empty() => out.filler(line.span),
                None => out.reject(line.span, "not the eleven fields of a bodyfile".into()),
            }
        }
        Ok(())
    }
}

/// A time as written; `None` where the field says that there is none.
type Field = Option<((i64, u32), Precision)>;

struct Entry<'l> {
    md5: &'l [u8],
    name: &'l [u8],
    inode: &'l [u8],
    mode: &'l [u8],
    uid: &'l [u8],
    gid: &'l [u8],
    size: i64,
    atime: Field,
    mtime: Field,
    ctime: Field,
    crtime: Field,
}

impl<'l> Entry<'l> {
    fn read(line: &'l [u8]) -> Option<Entry<'l>> {
        let mut fields = line.rsplitn(10, |b| *b == b'|');
        let mut next = || fields.next();
        let (crtime, ctime, mtime, atime) = (next()?, next()?, next()?, next()?);
        let (size, gid, uid, mode, inode) = (next()?, next()?, next()?, next()?, next()?);
        let rest = next()?;
        let bar = rest.iter().position(|b| *b == b'|')?;
        let (md5, name) = (rest.get(..bar)?, rest.get(bar + 1..)?);
        if name.is_empty() {
            return None;
        }
        Some(Entry {
            md5,
            name,
            inode,
            mode,
            uid,
            gid,
            size: std::str::from_utf8(size).ok()?.parse().ok()?,
            atime: time(atime)?,
            mtime: time(mtime)?,
            ctime: time(ctime)?,
            crtime: time(crtime)?,
        })
    }

    fn rows(&self, span: Span, out: &mut dyn Sink) {
        let is_of_tsk = self.mode.get(1) == Some(&b'/');
        // TSK says first what the name calls it, then what the inode is.
        let letter = self.mode.get(if is_of_tsk { 2 } else { 0 });
        let kind = match letter {
            Some(b'd') => FileType::Directory.as_str(),
            Some(b'l') => FileType::Link.as_str(),
            Some(b'c') => FileType::CharacterDevice.as_str(),
            Some(b'b') => FileType::BlockDevice.as_str(),
            Some(b'p') => FileType::Pipe.as_str(),
            Some(b's') => FileType::Socket.as_str(),
            Some(b'-' | b'r') => FileType::File.as_str(),
            _ => "unknown",
        };
        let (mut name, mut target) = (self.name, None);
        if letter == Some(&b'l')
            && let Some(arrow) = memchr::memmem::find(name, b" -> ")
        {
            target = name.get(arrow + 4..);
            name = name.get(..arrow).unwrap_or(name);
        }
        let live = name.strip_suffix(b" (deleted)").or_else(|| name.strip_suffix(b" (deleted-realloc)"));
        let is_deleted = is_of_tsk && live.is_some();
        if let Some(live) = live.filter(|_| is_of_tsk) {
            name = live;
        }
        let path = clean(name);
        let mut facts = FileFacts::new(span);
        facts.message = message(&path, kind, target, is_deleted);
        facts.path = Some(path);
        facts.size = Some(self.size);
        facts.flags = if is_deleted { flags::DELETED } else { 0 };
        let inode = std::str::from_utf8(self.inode).ok().and_then(|inode| inode.parse().ok());
        facts.inode = inode;
        let attrs = &mut facts.attrs;
        let text = |field: &[u8]| (!field.is_empty()).then(|| clean(field));
        attrs.put_some("md5", text(self.md5).filter(|md5| md5 != "0"));
        attrs.put_some("mode", text(self.mode));
        attrs.put_some("uid", text(self.uid));
        attrs.put_some("gid", text(self.gid));
        attrs.put("type", kind);
        attrs.put_some("target", target.map(clean));
        // Then the times are those of the file that has the inode now.
        let is_taken = is_of_tsk && self.name.ends_with(b" (deleted-realloc)");
        attrs.put_some("reallocated", is_taken.then_some(true));
        // NTFS addresses have three parts.
        attrs.put_some("inode", text(self.inode).filter(|_| inode.is_none()));
        let times = [
            ("Content Modification Time", self.mtime),
            ("Last Access Time", self.atime),
            ("Metadata Modification Time", self.ctime),
            ("Creation Time", self.crtime),
        ];
        let mut give = |word, time: Field| {
            let (value, precision) = time.unwrap_or(((0, 0), Precision::S));
            let mut event = facts.row(word, value, precision);
            event.source = "fs:bodyfile".into();
            if time.is_none() {
                event.time = None;
            }
            out.event(event);
        };
        if times.iter().all(|(_, time)| time.is_none()) {
            give("Content Modification Time", None);
        }
        times.iter().filter(|(_, time)| time.is_some()).for_each(|(word, time)| give(word, *time));
    }
}

/// Reads a time field; the outer `None` is for what is no time at all.
fn time(field: &[u8]) -> Option<Field> {
    match field.trim_ascii() {
        b"" | b"-" | b"0" | b"-1" => Some(None),
        text => decimal_time(text).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_checks::{claims, every_byte_is_accounted_for, every_record_reads_alone, read};
    use super::*;

    const LINES: &[u8] =
        b"0|/etc/passwd|131|-rw-r--r--|0|0|1822|1761000003|1761000001|1761000002|1700000000\n\
        0|/bin -> usr/bin|12|lrwxrwxrwx|0|0|7|1761000003.5|1700000000|1700000000|0\n\
        0|/tmp/a|b|77|-rw-------|1000|1000|0|0|0|0|0\n\
        d41d8cd98f00b204e9800998ecf8427e|C:/x.txt (deleted)|42-128-1|r/rrwxrwxrwx|0|0|5|1|2|3|4\n";

    #[test]
    fn names_may_hold_anything_and_every_time_that_is_there_is_a_row() {
        let found = read(&PARSER, LINES, &Context::default());
        assert!(found.rejects.is_empty());
        let row = |n: usize| {
            let row = &found.events[n];
            (row.path.as_deref().unwrap(), row.ts_desc.as_ref(), row.time.map(|time| time.to_rfc3339()))
        };
        assert_eq!(row(0), ("/etc/passwd", "Content Modification Time", Some("2025-10-20T22:40:01Z".into())));
        assert_eq!(row(3), ("/etc/passwd", "Creation Time", Some("2023-11-14T22:13:20Z".into())));
        assert_eq!(row(5), ("/bin", "Last Access Time", Some("2025-10-20T22:40:03.500Z".into())));
        assert_eq!(found.events[5].message, "/bin Type: link -> usr/bin");
        assert_eq!(row(7), ("/tmp/a|b", "Content Modification Time", None));
        let deleted = &found.events[8];
        assert_eq!((deleted.path.as_deref(), deleted.flags), (Some("C:/x.txt"), flags::DELETED));
        assert_eq!(deleted.attrs.get("inode").unwrap(), "42-128-1");
        assert_eq!(found.events.len(), 12);
        every_record_reads_alone(&PARSER, LINES, &Context::default());
        every_byte_is_accounted_for(&found, LINES);
    }

    #[test]
    fn tables_with_bars_are_not_taken_for_bodyfiles() {
        assert!(claims(&PARSER, "/x", LINES));
        assert!(!claims(&PARSER, "/x", b"a|b|c|d|e|f|g|h|i|j|k\n"));
        assert!(!claims(&PARSER, "/x", b"| 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |\n"));
        assert!(!claims(&PARSER, "/x", b""));
    }
}
