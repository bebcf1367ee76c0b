//! File times: of every inode of an ext file system, and of every member of a tar or zip.
//!
//! - Found at: file systems and tar streams themselves. It claims no file; the engine calls [`scan`],
//!   [`rows_of_tar_header`] and [`rows_of_zip_entry`].
//! - Known by: the volume's own marks.
//! - Times: UTC, to the nanosecond; to the second in inodes of 128 bytes and for deletion.
//! - Not read: times in attributes outside the inode, and in the journal.
//! - Reference: Linux `fs/ext4/ext4.h`; POSIX.1-2017 `pax`; PKWARE, APPNOTE.TXT.
//!
//! A row's range is the inode. Its pieces prove its path, top down, each as `offset+length` in the volume:
//! - the directory entries from the root to the file, or
//! - superblock, group descriptor, the inode of the folder where the path starts, and the entries from there, or
//! - superblock and group descriptor, where there is no name: they give the inode its number;
//! - last, for a symbolic link whose target has a block: the target (`0+0` where that block is missing).

mod facts;
mod tar_header;
mod zip_entry;

use crate::error::ReadError;
use crate::event::{Precision, Span, flags};
use crate::parser::{Context, Input, Parser, Probe, Sink};
use crate::text::clean;
use crate::volumes::{self, Ext, FileType, FoundPath, Inode, InodeTime, ROOT, SUPERBLOCK_LENGTH};

use facts::xattr_text;
pub(crate) use facts::{FileFacts, message};
pub use tar_header::rows_of_tar_header;
pub(crate) use tar_header::{Header as TarHeader, decimal_time, pax_records};
pub use zip_entry::rows_of_zip_entry;

/// Records larger than this are not read again alone: no inode or tar header is.
const LARGEST_RECORD: usize = 64 << 20;

/// The parser of inodes and tar headers.
pub struct FileTimes;
/// The one instance of it.
pub static PARSER: FileTimes = FileTimes;

impl Parser for FileTimes {
    fn name(&self) -> &'static str {
        "file_times"
    }

    fn reads(&self) -> &'static str {
        "inodes of ext2, ext3 and ext4, deleted ones too; headers of tar and zip members"
    }

    fn times(&self) -> &'static str {
        "Content Modification Time, Last Access Time, Metadata Modification Time, Creation Time, Content Deletion Time"
    }

    fn claims(&self, _probe: &Probe<'_>) -> bool {
        false
    }

    /// Reads one inode or tar header without its pieces: an inode then has neither number nor path.
    fn parse(&self, input: &mut Input<'_>, _context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let Some((bytes, span)) = input.next_block(LARGEST_RECORD)? else { return Ok(()) };
        if tar_header::is_tar(bytes) {
            rows_of_tar_header(bytes, span, out);
        } else if bytes.starts_with(b"PK\x01\x02") {
            rows_of_zip_entry(bytes, span, out);
        } else {
            rows_of_record(bytes, span, &[], out);
        }
        Ok(())
    }
}

/// Gives the times of all inodes of a file system: for each of its paths those of every inode in use, and those of
/// deleted inodes that still have any.
///
/// # Errors
///
/// [`ReadError`] when the volume cannot be read. What is damaged is in [`Ext::issues`].
pub fn scan(ext: &Ext, out: &mut dyn Sink) -> Result<(), ReadError> {
    let names = ext.names()?;
    let mut failed = None;
    ext.for_each_inode(&mut |inode| {
        let target = match ext.link_target(&inode) {
            Ok(target) => target,
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        };
        let mut rows = InodeRows { inode: &inode, target: target.as_ref().map(|t| t.target.as_slice()), out };
        let block = inode.has_link_block().then(|| target.as_ref().and_then(|t| t.block).unwrap_or_default());
        let paths = names.paths_of(&inode);
        if paths.is_empty() || inode.number == ROOT {
            let pieces = ext.numbering(inode.number).into_iter().flatten().chain(block);
            rows.give(paths.first().map(|path| path.path.as_slice()), pieces);
        }
        for FoundPath { path, dirents, start } in paths.iter().filter(|_| inode.number != ROOT) {
            let start = start.and_then(|start| {
                let [superblock, descriptor] = ext.numbering(start)?;
                Some([superblock, descriptor, ext.inode_span(start)?])
            });
            rows.give(Some(path), start.into_iter().flatten().chain(dirents.iter().copied()).chain(block));
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// Gives the rows of one inode on one path; `pieces` as the row names them, each with its offset in the volume.
pub fn rows_of_record(bytes: &[u8], span: Span, pieces: &[(u64, Vec<u8>)], out: &mut dyn Sink) {
    let spans = pieces.iter().map(|(offset, bytes)| Span::new(*offset, bytes.len() as u64));
    let has_block = Inode::parse(bytes, 0, span.offset, true).has_link_block();
    let (way, target) = match pieces.split_last() {
        Some(((_, target), way)) if has_block => (way, Some(target.as_slice())),
        _ => (pieces, None),
    };
    let (number, path) = match way {
        [superblock, descriptor, way @ ..] if superblock.1.len() == SUPERBLOCK_LENGTH => {
            let number =
                |at| volumes::inode_number((superblock.0, &superblock.1), (descriptor.0, &descriptor.1), at);
            match way {
                [] => {
                    let number = number(span.offset);
                    (number, (number == Some(ROOT)).then(|| b"/".to_vec()))
                }
                [start, way @ ..] => (number_in(way), Some(path_of(number(start.0), way))),
            }
        }
        [] => (None, None),
        way => (number_in(way), Some(path_of(None, way))),
    };
    let inode = Inode::parse(bytes, number.unwrap_or(0), span.offset, true);
    let in_inode = inode.link_in_inode();
    let mut rows = InodeRows { inode: &inode, target: target.or(in_inode.as_deref()), out };
    rows.give(path.as_deref(), spans);
}

/// The inode that the last directory entry names.
fn number_in(dirents: &[(u64, Vec<u8>)]) -> Option<u32> {
    Some(u32::from_le_bytes(*dirents.last()?.1.first_chunk()?))
}

fn path_of(start: Option<u32>, dirents: &[(u64, Vec<u8>)]) -> Vec<u8> {
    volumes::join(start, dirents.iter().map(|(_, dirent)| dirent.get(8..).unwrap_or(&[])))
}

struct InodeRows<'a> {
    inode: &'a Inode,
    target: Option<&'a [u8]>,
    out: &'a mut dyn Sink,
}

impl InodeRows<'_> {
    /// Gives one row for each time. What is said here must follow from the record's bytes and pieces alone.
    fn give(&mut self, path: Option<&[u8]>, pieces: impl Iterator<Item = Span>) {
        let inode = self.inode;
        let facts = self.facts(path, pieces);
        let has_nanos = if inode.has_nanos { Precision::Ns } else { Precision::S };
        // A deleted inode, and one of the file system's own, may never have had a time.
        let may_be_unset = inode.deleted || inode.is_reserved();
        let set = |time: InodeTime| (!may_be_unset || time != (0, 0)).then_some(time);
        let times = [
            ("Content Modification Time", set(inode.mtime), has_nanos),
            ("Last Access Time", set(inode.atime), has_nanos),
            ("Metadata Modification Time", set(inode.ctime), has_nanos),
            ("Creation Time", inode.crtime, Precision::Ns),
            ("Content Deletion Time", inode.dtime.map(|seconds| (seconds, 0)), Precision::S),
        ];
        for (word, time, precision) in times {
            if let Some(time) = time {
                self.out.event(facts.row(word, time, precision));
            }
        }
    }

    fn facts(&self, path: Option<&[u8]>, pieces: impl Iterator<Item = Span>) -> FileFacts {
        let inode = self.inode;
        let mut facts = FileFacts::new(inode.span());
        let kind = inode.file_type();
        let attrs = &mut facts.attrs;
        attrs.put("mode", format!("{:07o}", inode.mode));
        attrs.put("uid", inode.uid);
        attrs.put("gid", inode.gid);
        attrs.put("links", inode.links);
        attrs.put("type", kind.as_str());
        attrs.put_some("target", self.target.map(clean));
        attrs.put_some("device", inode.device().map(|(major, minor)| format!("{major}:{minor}")));
        let words: Vec<_> = inode.flag_words().collect();
        attrs.put_some("inode_flags", (!words.is_empty()).then_some(words));
        attrs.put_some("project", (inode.project != 0).then_some(inode.project));
        attrs.put_some("next_orphan", inode.next_orphan);
        let mut xattrs = serde_json::Map::new();
        for xattr in inode.xattrs.iter().filter(|xattr| xattr.name != b"system.data") {
            let value = match xattr.value_inode {
                0 => xattr_text(&xattr.value),
                held => format!("in inode {held}"),
            };
            xattrs.insert(clean(&xattr.name), value.into());
        }
        attrs.put_some("xattrs", (!xattrs.is_empty()).then_some(xattrs));
        attrs.put_some("xattr_block", (inode.xattr_block != 0).then_some(inode.xattr_block));
        let mut listed = String::new();
        for piece in pieces {
            if !listed.is_empty() {
                listed.push(' ');
            }
            listed.push_str(&format!("{}+{}", piece.offset, piece.length));
        }
        facts.pieces = (!listed.is_empty()).then_some(listed);
        facts.flags = [
            (inode.deleted, flags::DELETED),
            (inode.deleted && path.is_some(), flags::RECOVERED),
            (inode.is_damaged, flags::CORRUPT),
        ]
        .iter()
        .fold(0, |all, (is_set, flag)| if *is_set { all | flag } else { all });
        facts.path = path.map(clean);
        facts.inode = (inode.number != 0).then_some(inode.number.into());
        facts.size = i64::try_from(inode.size).ok();
        facts.message = match &facts.path {
            Some(path) => message(path, kind.as_str(), self.target, inode.deleted),
            None => self.message_without_name(kind),
        };
        facts
    }

    fn message_without_name(&self, kind: FileType) -> String {
        let number = self.inode.number;
        let kind = if kind == FileType::File { "regular file" } else { kind.as_str() };
        match number {
            1 => "reserved inode 1 (bad blocks)".into(),
            3 => "reserved inode 3 (user quota)".into(),
            4 => "reserved inode 4 (group quota)".into(),
            5 => "reserved inode 5 (boot loader)".into(),
            7 => "reserved inode 7 (resizing)".into(),
            8 => "reserved inode 8 (journal)".into(),
            _ if self.inode.is_reserved() => format!("reserved inode {number}"),
            _ if self.inode.deleted => format!("deleted inode {number} ({kind})"),
            _ => format!("inode {number} without a name ({kind})"),
        }
    }
}

#[cfg(test)]
mod tests;
