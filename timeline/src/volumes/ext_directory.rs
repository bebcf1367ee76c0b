//! The entries of one directory, and those that deletion left in its slack.
//!
//! Indexes (htree) are passed over: their leaves are ordinary blocks, and all blocks are read one after the other.

use std::collections::HashSet;

use crate::bytes::read_or_zeros;
use crate::error::ReadError;

use super::checksums::crc32c;
use super::ext::Disk;
use super::ext_inode::{FLAG_ENCRYPTED, FLAG_INDEXED, FLAG_INLINE, Inode};
use super::ext_map::{Map, inode_seed};
use super::ext_superblock::INCOMPAT_FILETYPE;
use super::fields::{byte, le16, le32, part};

/// How much of a directory is read at once, in bytes.
const STEP: u64 = 1 << 20;

/// One name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dirent<'a> {
    /// The inode it names.
    pub(super) inode: u32,
    pub(super) name: &'a [u8],
    /// Where it lies in the volume; it is 8 bytes and its name long.
    pub(super) at: u64,
    /// Whether it was found where a deleted entry lay.
    pub(super) is_deleted: bool,
}

/// Gives every entry of a directory, `.` and `..` included. Blocks in `claimed` belong to another directory and are
/// passed over; this directory's are added.
pub(super) fn read(
    disk: &Disk,
    inode: &Inode,
    claimed: &mut HashSet<u64>,
    each: &mut dyn FnMut(Dirent<'_>),
) -> Result<(), ReadError> {
    let block = u64::from(disk.sb.block_size);
    let map = Map::of_inode(&*disk.volume, &disk.sb, inode)?;
    for issue in map.issues {
        disk.issues.add(issue.offset, issue.what);
    }
    let mut reader = DirectoryReader { disk, inode, each };
    if inode.flags & FLAG_INLINE != 0 {
        for (index, run) in map.runs.iter().enumerate() {
            let bytes = read_or_zeros(&*disk.volume, run.source, usize::try_from(run.length).unwrap_or(0))?;
            // The map's first four bytes are the number of the parent, which has no entry of its own.
            let skip = if index == 0 { 4 } else { 0 };
            if index == 0 {
                reader.give(le32(&bytes, 0), b"..", run.source, false);
            }
            reader.block(bytes.get(skip..).unwrap_or(&[]), run.source.saturating_add(skip as u64), false);
        }
        return Ok(());
    }
    for run in &map.runs {
        let mut done = 0;
        while done < run.length {
            let at = run.source.saturating_add(done);
            let bytes = read_or_zeros(&*disk.volume, at, STEP.min(run.length - done) as usize)?;
            for (index, bytes) in bytes.chunks_exact(block as usize).enumerate() {
                let at = at.saturating_add(index as u64 * block);
                if claimed.insert(at) {
                    let is_first = run.at == 0 && done == 0 && index == 0;
                    let is_index_root = is_first && inode.flags & FLAG_INDEXED != 0;
                    // An index block may still end with the tail of the entries that it replaced.
                    if !is_index_root && !reader.is_index_node(bytes) {
                        reader.verify(bytes, at);
                    }
                    reader.block(bytes, at, is_index_root);
                } else if !inode.deleted {
                    disk.issues.add(at, format!("directory {} shares this block with another", inode.number));
                }
            }
            done = done.saturating_add(STEP);
        }
    }
    Ok(())
}

struct DirectoryReader<'a> {
    disk: &'a Disk,
    inode: &'a Inode,
    each: &'a mut dyn FnMut(Dirent<'_>),
}

impl DirectoryReader<'_> {
    fn give(&mut self, inode: u32, name: &[u8], at: u64, is_deleted: bool) {
        (self.each)(Dirent { inode, name, at, is_deleted });
    }

    /// Reads the entries of one block. `is_index_root`: an index lies behind `..`, which is no slack.
    fn block(&mut self, bytes: &[u8], origin: u64, is_index_root: bool) {
        let searches_slack = self.inode.flags & FLAG_ENCRYPTED == 0;
        let mut at = 0usize;
        while at.saturating_add(8) <= bytes.len() {
            let place = origin.saturating_add(at as u64);
            let inode = le32(bytes, at);
            let length = record_length(le16(bytes, at + 4), bytes.len());
            let name_length = usize::from(byte(bytes, at + 6));
            let end = at.saturating_add(length);
            if length < 8 || !length.is_multiple_of(4) || end > bytes.len() {
                // An inline directory ends with room too small for an entry.
                if bytes.get(at..).is_some_and(|rest| rest.iter().any(|b| *b != 0)) {
                    let what = format!(
                        "directory {} is damaged from here to the end of the block",
                        self.inode.number
                    );
                    self.disk.issues.add(place, what);
                    self.slack(bytes, at..bytes.len(), origin);
                }
                return;
            }
            let name = part(bytes, at + 8, name_length);
            let fits = name_length.saturating_add(8) <= length;
            if inode != 0 && name_length > 0 && fits && inode <= self.disk.sb.inodes {
                self.give(inode, name, place, false);
            } else if inode != 0 {
                let what = format!("directory {}: this entry cannot be right", self.inode.number);
                self.disk.issues.add(place, what);
            }
            let is_index = (is_index_root && name == b"..") || self.is_index_node(bytes);
            if searches_slack && !is_index && fits {
                self.slack(bytes, at + 8 + name_length.next_multiple_of(4)..end, origin);
            }
            at = end;
        }
    }

    /// Whether a block holds a part of an index behind one unused entry.
    fn is_index_node(&self, bytes: &[u8]) -> bool {
        self.inode.flags & FLAG_INDEXED != 0
            && le32(bytes, 0) == 0
            && record_length(le16(bytes, 4), bytes.len()) == bytes.len()
    }

    /// Looks for whole entries that deletion left behind: each has an inode, a name and a type that may be.
    fn slack(&mut self, bytes: &[u8], range: std::ops::Range<usize>, origin: u64) {
        let typed = self.disk.sb.incompat & INCOMPAT_FILETYPE != 0;
        let mut at = range.start;
        while at.saturating_add(12) <= range.end {
            let inode = le32(bytes, at);
            let length = record_length(le16(bytes, at + 4), bytes.len());
            let name_length = usize::from(byte(bytes, at + 6));
            let kind = byte(bytes, at + 7);
            let name = part(bytes, at + 8, name_length);
            let end = (at + 8).saturating_add(name_length);
            let may_be = inode != 0
                && inode <= self.disk.sb.inodes
                && name_length > 0
                && end <= range.end
                && length.is_multiple_of(4)
                && length >= name_length.saturating_add(8)
                && at.saturating_add(length) <= bytes.len()
                && (if typed { (1..=7).contains(&kind) } else { kind == 0 })
                && !name.iter().any(|b| matches!(b, 0 | b'/'));
            if may_be {
                self.give(inode, name, origin.saturating_add(at as u64), true);
                at = end.next_multiple_of(4);
            } else {
                at += 4;
            }
        }
    }

    /// Checks the checksum in a block's last 12 bytes, where it has one.
    fn verify(&self, bytes: &[u8], at: u64) {
        let Some((body, tail)) = bytes.split_last_chunk::<12>() else { return };
        let has_tail = tail.starts_with(&[0, 0, 0, 0, 12, 0, 0, 0xDE]);
        let sb = &self.disk.sb;
        if sb.has_checksums() && has_tail && crc32c(inode_seed(sb, self.inode), body) != le32(tail, 8) {
            let what = format!("the checksum of this block of directory {} does not hold", self.inode.number);
            self.disk.issues.add(at, what);
        }
    }
}

/// The length of an entry as stored: blocks of 64 KiB do not fit into 16 bits.
fn record_length(stored: u16, block: usize) -> usize {
    match stored {
        0 | 0xFFFF if block >= 65536 => block,
        other => other.into(),
    }
}
