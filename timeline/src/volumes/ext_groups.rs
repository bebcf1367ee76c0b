//! Block group descriptors: where each group's inode table and inode bitmap lie.

use crate::bytes::{ByteSource, read_or_zeros};
use crate::error::ReadError;

use super::checksums::{crc16, crc32c};
use super::ext_superblock::{RO_GDT_CSUM, Superblock};
use super::fields::{le16, le32, part};
use super::issues::IssueList;

/// Groups beyond the volume's end whose inode tables may still lie in it (flexible block groups).
const BEYOND_THE_END: u64 = 1024;
const INODES_NEVER_USED: u16 = 0x1;
const TABLE_ZEROED: u16 = 0x4;

/// One block group, as far as its inodes go.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Where its descriptor lies in the volume.
    pub(super) descriptor: u64,
    /// First byte of its inode table.
    pub(super) table: u64,
    /// First byte of its inode bitmap.
    pub(super) bitmap: u64,
    /// Checksum of the bitmap.
    pub(super) bitmap_checksum: u32,
    /// Inodes that are or were in use: the table's start.
    pub(super) used: u32,
    /// Whether what lies behind those is known to be zeros or ours, and not left from before.
    pub(super) rest_is_clean: bool,
    /// Whether its inode table lies in the volume.
    pub(super) readable: bool,
}

impl Group {
    fn parse(bytes: &[u8], descriptor: u64, sb: &Superblock, volume: u64) -> Group {
        let wide = bytes.len() >= 64;
        let block = |low: usize, high: usize| {
            let high = if wide { u64::from(le32(bytes, high)) << 32 } else { 0 };
            (high | u64::from(le32(bytes, low))).checked_mul(sb.block_size.into())
        };
        let half = |low: usize, high: usize| {
            let high = if wide { u32::from(le16(bytes, high)) << 16 } else { 0 };
            high | u32::from(le16(bytes, low))
        };
        let (table, bitmap) = (block(0x8, 0x28), block(0x4, 0x24));
        let flags = le16(bytes, 0x12);
        // Without group checksums these two fields mean nothing.
        let tracked = sb.has_checksums() || sb.ro_compat & RO_GDT_CSUM != 0;
        let used = match tracked {
            true if flags & INODES_NEVER_USED != 0 => 0,
            true => sb.inodes_per_group.saturating_sub(half(0x1C, 0x32)),
            false => sb.inodes_per_group,
        };
        Group {
            descriptor,
            readable: table.is_some_and(|t| t >= u64::from(sb.block_size) && t < volume),
            table: table.unwrap_or(u64::MAX),
            bitmap: bitmap.unwrap_or(u64::MAX),
            bitmap_checksum: half(0x1A, 0x3A),
            used,
            rest_is_clean: sb.has_checksums() || flags & TABLE_ZEROED != 0,
        }
    }
}

/// Reads all descriptors. Where one cannot be right, the copy in another group is taken; both are issues.
pub(super) fn read(
    volume: &dyn ByteSource,
    sb: &Superblock,
    issues: &IssueList,
) -> Result<Vec<Group>, ReadError> {
    let size = u64::from(sb.block_size);
    let width = u64::from(sb.descriptor_size);
    let there = volume.len().div_ceil(size.saturating_mul(sb.blocks_per_group.into()));
    let by_inodes = u64::from(sb.inodes).div_ceil(sb.inodes_per_group.into());
    let count = sb.groups().min(there.saturating_add(BEYOND_THE_END)).min(by_inodes);
    let per_block = size / width;
    let copy = (1..count).find(|group| sb.has_copy(*group));
    let mut groups = Vec::new();
    for block in 0..count.div_ceil(per_block) {
        let at = sb.descriptor_block(block, u64::from(sb.group));
        let bytes = read_or_zeros(volume, at, sb.block_size as usize)?;
        let first = block.saturating_mul(per_block);
        for (index, number) in (first..count.min(first.saturating_add(per_block))).enumerate() {
            let within = index.saturating_mul(usize::from(sb.descriptor_size));
            let own = part(&bytes, within, sb.descriptor_size.into());
            let place = at.saturating_add(within as u64);
            let mut group = Group::parse(own, place, sb, volume.len());
            if !checksum_holds(own, number, sb) {
                issues.add(place, format!("the checksum of group descriptor {number} does not hold"));
            }
            if !group.readable
                && let Some(copy) = copy
            {
                let place = sb.descriptor_block(block, copy).saturating_add(within as u64);
                let bytes = read_or_zeros(volume, place, sb.descriptor_size.into())?;
                let other = Group::parse(&bytes, place, sb, volume.len());
                if other.readable && checksum_holds(&bytes, number, sb) {
                    issues.add(
                        group.descriptor,
                        format!("group descriptor {number} is damaged; its copy is used"),
                    );
                    group = other;
                }
            }
            if !group.readable && group.used > 0 {
                issues
                    .add(group.descriptor, format!("the inode table of group {number} is not in the volume"));
            }
            groups.push(group);
        }
    }
    Ok(groups)
}

fn checksum_holds(bytes: &[u8], number: u64, sb: &Superblock) -> bool {
    let stored = le16(bytes, 0x1E);
    let number = (number as u32).to_le_bytes();
    let (before, after) = (part(bytes, 0, 0x1E), bytes.get(0x20..).unwrap_or(&[]));
    if sb.has_checksums() {
        let crc = [&number[..], before, &[0, 0], after].iter().fold(sb.seed, |crc, b| crc32c(crc, b));
        crc as u16 == stored
    } else if sb.ro_compat & RO_GDT_CSUM != 0 {
        [&sb.uuid[..], &number, before, after].iter().fold(!0, |crc, b| crc16(crc, b)) == stored
    } else {
        true
    }
}

/// The number of the inode that lies at `inode`, by a superblock and the descriptor of its group, each with its
/// offset in the volume; `None` where they do not fit together.
pub(crate) fn inode_number(superblock: (u64, &[u8]), descriptor: (u64, &[u8]), inode: u64) -> Option<u32> {
    let sb = Superblock::parse(superblock.1, superblock.0).ok()?;
    let group = sb.group_of_descriptor(descriptor.0)?;
    let table = Group::parse(descriptor.1, descriptor.0, &sb, u64::MAX).table;
    let index = inode.checked_sub(table)? / u64::from(sb.inode_size);
    if index >= u64::from(sb.inodes_per_group) {
        return None;
    }
    u32::try_from(group.checked_mul(sb.inodes_per_group.into())?.checked_add(index)?.checked_add(1)?).ok()
}
