//! The superblock of an ext file system, its backups, and what its numbers may be.
//!
//! Reference: Linux `fs/ext4/ext4.h` (`struct ext4_super_block`) and `Documentation/filesystems/ext4/`.

use crate::bytes::{ByteSource, read_or_zeros};
use crate::error::ReadError;

use super::checksums::crc32c;
use super::fields::{byte, le16, le32, part};

/// Where the primary superblock lies.
pub(super) const PRIMARY: u64 = 1024;
/// How long a superblock is.
pub(crate) const LENGTH: usize = 1024;
const MAGIC: u16 = 0xEF53;

pub(super) const COMPAT_JOURNAL: u32 = 0x4;
pub(super) const COMPAT_SPARSE_SUPER2: u32 = 0x200;
pub(super) const INCOMPAT_RECOVER: u32 = 0x4;
pub(super) const INCOMPAT_JOURNAL_DEVICE: u32 = 0x8;
pub(super) const INCOMPAT_META_BG: u32 = 0x10;
pub(super) const INCOMPAT_64BIT: u32 = 0x80;
pub(super) const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const INCOMPAT_EXT3: u32 = 0x2 | 0x4 | 0x10;
const INCOMPAT_KNOWN: u32 = 0x3_F7D6;
pub(super) const RO_SPARSE_SUPER: u32 = 0x1;
pub(super) const RO_GDT_CSUM: u32 = 0x10;
pub(super) const RO_METADATA_CSUM: u32 = 0x400;
const RO_EXT3: u32 = 0x1 | 0x2 | 0x4;

/// What the superblock says, checked to be possible.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    /// Where this copy lies in the volume.
    pub(super) offset: u64,
    /// The block group that this copy says it is in.
    pub(super) group: u16,
    pub(super) block_size: u32,
    pub(super) blocks: u64,
    pub(super) inodes: u32,
    pub(super) first_data_block: u32,
    pub(super) blocks_per_group: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_size: u16,
    pub(super) descriptor_size: u16,
    pub(super) first_meta_bg: u32,
    pub(super) backup_groups: [u32; 2],
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) uuid: [u8; 16],
    /// Where every metadata checksum starts from.
    pub(super) seed: u32,
    /// Whether the superblock's own checksum holds; true where it has none.
    pub(super) checksum_holds: bool,
}

impl Superblock {
    /// Reads a superblock, or says why these bytes cannot be one.
    pub(super) fn parse(bytes: &[u8], offset: u64) -> Result<Superblock, String> {
        if bytes.len() < LENGTH {
            return Err("the volume ends before the end of the superblock".into());
        }
        if !has_magic(bytes) {
            return Err(format!("the magic is {:#06x}, not 0xef53", le16(bytes, 0x38)));
        }
        let (compat, incompat, ro_compat) = (le32(bytes, 0x5C), le32(bytes, 0x60), le32(bytes, 0x64));
        let shift = le32(bytes, 0x18);
        if shift > 6 {
            return Err(format!("the block size is 1024 times 2 to the power of {shift}"));
        }
        let block_size = 1024u32 << shift;
        let wide = incompat & INCOMPAT_64BIT != 0;
        let old = le32(bytes, 0x4C) == 0;
        let inode_size = if old { 128 } else { le16(bytes, 0x58) };
        if !inode_size.is_power_of_two() || inode_size < 128 || u32::from(inode_size) > block_size {
            return Err(format!("the inode size is {inode_size}"));
        }
        let descriptor_size = if wide { le16(bytes, 0xFE) } else { 32 };
        if !descriptor_size.is_power_of_two() || !(32..=1024).contains(&descriptor_size) {
            return Err(format!("the group descriptor size is {descriptor_size}"));
        }
        let high = if wide { u64::from(le32(bytes, 0x150)) } else { 0 };
        let blocks = high << 32 | u64::from(le32(bytes, 0x4));
        let first_data_block = le32(bytes, 0x14);
        if blocks <= u64::from(first_data_block) || first_data_block > 1 {
            return Err(format!("there are {blocks} blocks, the first of them {first_data_block}"));
        }
        let blocks_per_group = le32(bytes, 0x20);
        if blocks_per_group < 256 {
            return Err(format!("there are {blocks_per_group} blocks in a group"));
        }
        let inodes_per_group = le32(bytes, 0x28);
        let table = u64::from(inodes_per_group) * u64::from(inode_size);
        // So all inode tables together are never longer than the volume.
        if inodes_per_group == 0
            || u64::from(inodes_per_group) > u64::from(block_size) * 8
            || table > u64::from(blocks_per_group) * u64::from(block_size)
        {
            return Err(format!("there are {inodes_per_group} inodes in a group"));
        }
        let uuid = part(bytes, 0x68, 16).try_into().unwrap_or([0; 16]);
        let seed = if incompat & INCOMPAT_CSUM_SEED != 0 { le32(bytes, 0x270) } else { crc32c(!0, &uuid) };
        let summed = ro_compat & RO_METADATA_CSUM != 0;
        Ok(Superblock {
            offset,
            group: le16(bytes, 0x5A),
            block_size,
            blocks,
            inodes: le32(bytes, 0x0),
            first_data_block,
            blocks_per_group,
            inodes_per_group,
            inode_size,
            descriptor_size,
            first_meta_bg: le32(bytes, 0x104),
            backup_groups: [le32(bytes, 0x24C), le32(bytes, 0x250)],
            compat,
            incompat,
            ro_compat,
            uuid,
            seed,
            checksum_holds: !summed || crc32c(!0, part(bytes, 0, 0x3FC)) == le32(bytes, 0x3FC),
        })
    }

    /// Looks for a backup where `mke2fs` puts them by default, for every block size.
    pub(super) fn find_backup(volume: &dyn ByteSource) -> Result<Option<Superblock>, ReadError> {
        for shift in 0..=6u32 {
            let block_size = 1024u64 << shift;
            let first = u64::from(shift == 0);
            for group in [1u64, 3, 5, 7, 9, 25, 27, 49] {
                let offset = (first + group * block_size * 8) * block_size;
                if offset.saturating_add(LENGTH as u64) > volume.len() {
                    break;
                }
                let bytes = read_or_zeros(volume, offset, LENGTH)?;
                if let Ok(found) = Superblock::parse(&bytes, offset)
                    && u64::from(found.block_size) == block_size
                    && u64::from(found.group) == group
                    && found.checksum_holds
                {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// `ext2`, `ext3` or `ext4`, by the features in use.
    pub(super) fn kind(&self) -> &'static str {
        kind_of(self.compat, self.incompat, self.ro_compat)
    }

    /// Features that change the layout and that we do not know.
    pub(super) fn unknown_features(&self) -> u32 {
        self.incompat & !INCOMPAT_KNOWN
    }

    pub(super) fn has_checksums(&self) -> bool {
        self.ro_compat & RO_METADATA_CSUM != 0
    }

    /// How many block groups the superblock claims.
    pub(super) fn groups(&self) -> u64 {
        (self.blocks - u64::from(self.first_data_block)).div_ceil(u64::from(self.blocks_per_group))
    }

    /// First block of a group.
    pub(super) fn group_start(&self, group: u64) -> u64 {
        u64::from(self.first_data_block).saturating_add(group.saturating_mul(self.blocks_per_group.into()))
    }

    /// Whether a group starts with a copy of the superblock.
    pub(super) fn has_copy(&self, group: u64) -> bool {
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            return group == 0 || self.backup_groups.iter().any(|b| *b != 0 && u64::from(*b) == group);
        }
        let is_power = |base: u64| {
            let mut n = base;
            while n < group {
                n = n.saturating_mul(base);
            }
            n == group
        };
        group <= 1 || self.ro_compat & RO_SPARSE_SUPER == 0 || is_power(3) || is_power(5) || is_power(7)
    }

    /// Where the block of descriptors lies that holds those of groups `block * per_block ..`, in bytes.
    ///
    /// `copy` is the group whose copy is wanted, 0 for the primary; descriptors in meta groups have their own places.
    pub(super) fn descriptor_block(&self, block: u64, copy: u64) -> u64 {
        let size = u64::from(self.block_size);
        let per_block = size / u64::from(self.descriptor_size);
        let at = if self.incompat & INCOMPAT_META_BG != 0 && block >= u64::from(self.first_meta_bg) {
            let group = block.saturating_mul(per_block).saturating_add(u64::from(copy != 0));
            let own = u64::from(self.has_copy(group));
            self.group_start(group).saturating_add(own).saturating_add(self.small_cluster_gap(group))
        } else {
            self.group_start(copy)
                .saturating_add(1)
                .saturating_add(self.small_cluster_gap(copy))
                .saturating_add(block)
        };
        at.saturating_mul(size)
    }

    /// The group whose descriptor lies at `offset`, in the descriptors that this superblock leads to or in their first copy.
    pub(super) fn group_of_descriptor(&self, offset: u64) -> Option<u64> {
        let width = u64::from(self.descriptor_size);
        let per_block = u64::from(self.block_size) / width;
        let count = self.groups().min(u64::from(self.inodes).div_ceil(self.inodes_per_group.into()));
        let copy = (1..count).find(|group| self.has_copy(*group));
        let meta = if self.incompat & INCOMPAT_META_BG == 0 { u64::MAX } else { self.first_meta_bg.into() };
        for copy in std::iter::once(u64::from(self.group)).chain(copy) {
            let within = offset
                .checked_sub(self.descriptor_block(0, copy))
                .filter(|within| within.is_multiple_of(width));
            if let Some(group) = within.map(|within| within / width)
                && meta > 0
                && group < count
                && group / per_block < meta
            {
                return Some(group);
            }
            // No more blocks than there are for a petabyte of the smallest groups' descriptors.
            for block in meta.min(count.div_ceil(per_block))..count.div_ceil(per_block).min(1 << 20) {
                let within = offset.checked_sub(self.descriptor_block(block, copy));
                if let Some(within) =
                    within.filter(|n| *n < u64::from(self.block_size) && n.is_multiple_of(width))
                {
                    return Some(block.saturating_mul(per_block).saturating_add(within / width));
                }
            }
        }
        None
    }

    /// With clusters of 1 KiB blocks the first block is 0 and yet the superblock is in block 1.
    fn small_cluster_gap(&self, group: u64) -> u64 {
        u64::from(group == 0 && self.block_size == 1024 && self.first_data_block == 0)
    }
}

/// Whether these bytes have the magic of a superblock, sound or not.
pub(super) fn has_magic(superblock: &[u8]) -> bool {
    le16(superblock, 0x38) == MAGIC
}

/// The kind of a superblock that need not be sound.
pub(super) fn kind_of_bytes(superblock: &[u8]) -> Option<&'static str> {
    if superblock.len() < LENGTH || !has_magic(superblock) || byte(superblock, 0x18) > 6 {
        return None;
    }
    if le32(superblock, 0x60) & INCOMPAT_JOURNAL_DEVICE != 0 {
        return Some("an external ext journal");
    }
    Some(kind_of(le32(superblock, 0x5C), le32(superblock, 0x60), le32(superblock, 0x64)))
}

fn kind_of(compat: u32, incompat: u32, ro_compat: u32) -> &'static str {
    if incompat & !INCOMPAT_EXT3 != 0 || ro_compat & !RO_EXT3 != 0 {
        "ext4"
    } else if compat & COMPAT_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_no_superblock_is_refused_with_its_reason() {
        assert!(Superblock::parse(&[0; 100], 0).unwrap_err().contains("ends before"));
        assert!(Superblock::parse(&[0; 1024], 0).unwrap_err().contains("magic"));
        let mut bytes = vec![0; 1024];
        bytes[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[0x18] = 40;
        assert!(Superblock::parse(&bytes, 0).unwrap_err().contains("block size"));
    }
}
