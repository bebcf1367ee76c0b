//! Where the bytes of an inode lie: extents, indirect blocks, or the inode itself.
//!
//! Reference: Linux `fs/ext4/ext4_extents.h`, `fs/ext4/indirect.c`, `fs/ext4/inline.c`.

use std::collections::HashSet;

use crate::bytes::{ByteSource, read_or_zeros};
use crate::error::ReadError;
use crate::event::Span;

use super::checksums::crc32c;
use super::ext_inode::{FLAG_EXTENTS, FLAG_INLINE, Inode, MAP_AT, MAP_LENGTH};
use super::ext_superblock::Superblock;
use super::fields::{le16, le32, part};
use super::issues::VolumeIssue;

const EXTENT_MAGIC: u16 = 0xF30A;
const DEEPEST_TREE: u16 = 5;
/// More pieces than any real file has; a map that goes on is cut, and that is an issue.
const MOST_RUNS: usize = 1 << 22;

/// A stretch of a file that lies in one piece in the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Offset in the file.
    pub(super) at: u64,
    pub(super) length: u64,
    /// Offset in the volume.
    pub(super) source: u64,
}

/// All stretches of a file in their order; what lies between them is holes.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) runs: Vec<Run>,
    /// Blocks of the volume that hold the map itself, beyond the inode.
    pub(super) nodes: Vec<Span>,
    pub(super) issues: Vec<VolumeIssue>,
}

impl Map {
    pub(super) fn of_inode(
        volume: &dyn ByteSource,
        sb: &Superblock,
        inode: &Inode,
    ) -> Result<Map, ReadError> {
        let block = u64::from(sb.block_size);
        let mut walk = Walk {
            volume,
            block,
            blocks_there: (volume.len() / block).min(sb.blocks),
            wanted: inode.size.div_ceil(block),
            seed: sb.has_checksums().then(|| inode_seed(sb, inode)),
            inode,
            visited: HashSet::new(),
            next: 0,
            mapped: 0,
            is_full: false,
            map: Map::default(),
        };
        if inode.flags & FLAG_INLINE != 0 {
            walk.inline();
        } else if inode.flags & FLAG_EXTENTS != 0 {
            let at = inode.offset.saturating_add(MAP_AT as u64);
            walk.extents(&inode.map.clone(), at, None, 0..u64::MAX)?;
        } else {
            for index in 0..12 {
                walk.block_at(le32(&inode.map, index * 4));
            }
            for level in 1..=3u32 {
                walk.indirect(le32(&inode.map, (11 + level as usize) * 4), level)?;
            }
        }
        Ok(walk.map)
    }

    /// Bytes of the file that lie somewhere.
    pub(super) fn stored(&self) -> u64 {
        self.runs.iter().fold(0, |sum, run| sum.saturating_add(run.length))
    }

    /// The run that holds `offset`, or the next one behind it.
    pub(super) fn from(&self, offset: u64) -> &[Run] {
        let first = self.runs.partition_point(|run| run.at.saturating_add(run.length) <= offset);
        self.runs.get(first..).unwrap_or(&[])
    }
}

/// Where the checksums of an inode's own metadata start from.
pub(super) fn inode_seed(sb: &Superblock, inode: &Inode) -> u32 {
    crc32c(crc32c(sb.seed, &inode.number.to_le_bytes()), &inode.generation.to_le_bytes())
}

/// The largest size that a map of this kind can reach, in bytes.
pub(super) fn largest_size(sb: &Superblock, inode: &Inode) -> u64 {
    let block = u64::from(sb.block_size);
    if inode.flags & FLAG_INLINE != 0 {
        let rest = inode.inline_rest().map_or(0, |xattr| xattr.value.len());
        return MAP_LENGTH.saturating_add(rest) as u64;
    }
    let blocks = if inode.flags & FLAG_EXTENTS != 0 {
        1 << 32
    } else {
        let per = block / 4;
        [1, per, per.saturating_mul(per)]
            .iter()
            .fold(12, |sum: u64, n| sum.saturating_add(n.saturating_mul(per)))
    };
    blocks.saturating_mul(block)
}

struct Walk<'a> {
    volume: &'a dyn ByteSource,
    inode: &'a Inode,
    block: u64,
    blocks_there: u64,
    /// Blocks of the file up to its size.
    wanted: u64,
    seed: Option<u32>,
    visited: HashSet<u64>,
    /// The next block of the file.
    next: u64,
    mapped: u64,
    is_full: bool,
    map: Map,
}

impl Walk<'_> {
    fn issue(&mut self, offset: u64, what: &str) {
        if self.map.issues.len() < 16 {
            let what = format!("inode {}: {what}", self.inode.number);
            self.map.issues.push(VolumeIssue { offset, what });
        }
    }

    fn inline(&mut self) {
        let held = self.inode.size.min(MAP_LENGTH as u64);
        let at = self.inode.offset.saturating_add(MAP_AT as u64);
        self.map.runs.push(Run { at: 0, length: held, source: at });
        if let Some(rest) = self.inode.inline_rest() {
            let length = (rest.value.len() as u64).min(self.inode.size.saturating_sub(held));
            let source = self.inode.offset.saturating_add(rest.value_at as u64);
            self.map.runs.push(Run { at: held, length, source });
        }
        self.map.runs.retain(|run| run.length > 0);
    }

    /// Adds `count` blocks of the file from block `logical` on; `place` is where the map says so.
    fn add(&mut self, logical: u64, count: u64, physical: u64, place: u64) {
        let count = count.min(self.wanted.saturating_sub(logical));
        let there = count.min(self.blocks_there.saturating_sub(physical));
        if there < count {
            self.issue(place, &format!("{} blocks of its content are not in the volume", count - there));
        }
        if there == 0 || self.is_full {
            return;
        }
        self.mapped = self.mapped.saturating_add(there);
        if self.mapped > self.blocks_there || self.map.runs.len() >= MOST_RUNS {
            self.is_full = true;
            self.issue(place, "its map names more blocks than there can be; the rest reads as zeros");
            return;
        }
        let at = logical.saturating_mul(self.block);
        let source = physical.saturating_mul(self.block);
        let length = there.saturating_mul(self.block);
        match self.map.runs.last_mut() {
            Some(last) if last.at + last.length == at && last.source + last.length == source => {
                last.length += length;
            }
            _ => self.map.runs.push(Run { at, length, source }),
        }
    }

    /// Reads a block of the map; `None` where it is outside the volume or was read before.
    fn node(&mut self, block: u64) -> Result<Option<(Vec<u8>, u64)>, ReadError> {
        let at = block.saturating_mul(self.block);
        if block == 0 || block >= self.blocks_there {
            self.issue(self.inode.offset, &format!("block {block} of its map is not in the volume"));
            return Ok(None);
        }
        if !self.visited.insert(block) {
            self.issue(at, &format!("block {block} of its map is named twice"));
            return Ok(None);
        }
        self.map.nodes.push(Span::new(at, self.block));
        Ok(Some((read_or_zeros(self.volume, at, self.block as usize)?, at)))
    }

    fn extents(
        &mut self,
        node: &[u8],
        at: u64,
        depth: Option<u16>,
        range: std::ops::Range<u64>,
    ) -> Result<(), ReadError> {
        let (count, most, own_depth) = (le16(node, 2), le16(node, 4), le16(node, 6));
        let room = (node.len() / 12).saturating_sub(1);
        if le16(node, 0) != EXTENT_MAGIC || own_depth > DEEPEST_TREE || depth.is_some_and(|d| d != own_depth)
        {
            // Deletion and `e2fsck` leave inodes with the flag and an empty map.
            if node.iter().any(|b| *b != 0) {
                self.issue(at, "its extent tree is damaged here");
            }
            return Ok(());
        }
        if let (Some(seed), Some(_)) = (self.seed, depth) {
            let tail = usize::from(most).saturating_add(1).saturating_mul(12);
            if crc32c(seed, part(node, 0, tail)) != le32(node, tail) {
                self.issue(at, "the checksum of this block of its extent tree does not hold");
            }
        }
        if usize::from(count) > room {
            self.issue(at, "its extent tree has more entries than room");
        }
        let entries = node.get(12..).unwrap_or(&[]).chunks_exact(12).take(count.into());
        let starts: Vec<u64> = entries.clone().map(|entry| le32(entry, 0).into()).collect();
        for (index, entry) in entries.enumerate() {
            let place = at.saturating_add(12 + index as u64 * 12);
            let logical = u64::from(le32(entry, 0));
            if logical < self.next || !range.contains(&logical) {
                self.issue(place, "its extents are out of order; this one is passed over");
                continue;
            }
            if own_depth > 0 {
                let block = u64::from(le16(entry, 8)) << 32 | u64::from(le32(entry, 4));
                let end = starts.get(index + 1).copied().unwrap_or(u64::MAX).min(range.end);
                if let Some((child, at)) = self.node(block)? {
                    self.extents(&child, at, Some(own_depth - 1), logical..end)?;
                }
                continue;
            }
            let raw = le16(entry, 4);
            let (length, is_written) = if raw > 32768 { (raw - 32768, false) } else { (raw, true) };
            let physical = u64::from(le16(entry, 6)) << 32 | u64::from(le32(entry, 8));
            self.next = logical.saturating_add(length.into());
            if is_written && physical != 0 {
                self.add(logical, length.into(), physical, place);
            }
        }
        Ok(())
    }

    /// The next block of the file lies at `physical`; 0 is a hole.
    fn block_at(&mut self, physical: u32) {
        if physical != 0 && self.next < self.wanted {
            self.add(self.next, 1, physical.into(), self.inode.offset);
        }
        self.next = self.next.saturating_add(1);
    }

    fn indirect(&mut self, block: u32, level: u32) -> Result<(), ReadError> {
        let per = self.block / 4;
        let covers = per.saturating_pow(level);
        let end = self.next.saturating_add(covers);
        if block != 0
            && self.next < self.wanted
            && !self.is_full
            && let Some((node, _)) = self.node(block.into())?
        {
            for pointer in node.chunks_exact(4) {
                if self.next >= self.wanted || self.is_full {
                    break;
                }
                if level == 1 {
                    self.block_at(le32(pointer, 0));
                } else {
                    self.indirect(le32(pointer, 0), level - 1)?;
                }
            }
        }
        self.next = end;
        Ok(())
    }
}
