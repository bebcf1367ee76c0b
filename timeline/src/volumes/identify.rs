//! What a volume holds, by the marks in its first blocks.
//!
//! Reference: util-linux `libblkid/src/superblocks/`.

use crate::bytes::{ByteSource, read_or_zeros};
use crate::error::ReadError;

use super::ext_superblock::{PRIMARY, kind_of_bytes};
use super::fields::part;

/// A file system or container, known by bytes at a fixed place.
const MARKS: &[(usize, &[u8], &str)] = &[
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"XFSB", "XFS"),
    (3, b"NTFS    ", "NTFS"),
    (3, b"EXFAT   ", "exFAT"),
    (3, b"-FVE-FS-", "BitLocker"),
    (0x36, b"FAT1", "FAT"),
    (0x52, b"FAT32", "FAT"),
    (0x218, b"LVM2 001", "LVM2 physical volume"),
    (0x18, b"LVM2 001", "LVM2 physical volume"),
    (0x20, b"NXSB", "APFS"),
    (0x400, b"H+", "HFS+"),
    (0x400, b"HX", "HFS+"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "Linux RAID member"),
    (0, b"\xfc\x4e\x2b\xa9", "Linux RAID member"),
    (0, b"hsqs", "squashfs"),
    (0x400, b"\x10\x20\xf5\xf2", "F2FS"),
    (0x400, b"\xe2\xe1\xf5\xe0", "EROFS"),
    (0x8001, b"CD001", "ISO 9660"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (0xFF6, b"SWAPSPACE2", "swap"),
    (0xFF6, b"SWAP-SPACE", "swap"),
    (0xFFF6, b"SWAPSPACE2", "swap"),
    (0xFF6, b"S1SUSPEND", "swap (hibernated)"),
];

/// What a volume holds: a file system's name, `empty (zeros)`, or `unknown (starts with …)`.
///
/// # Errors
///
/// [`ReadError`] when the volume cannot be read.
pub fn identify(volume: &dyn ByteSource) -> Result<String, ReadError> {
    let head = read_or_zeros(volume, 0, 0x1_1000)?;
    if let Some((_, _, name)) = MARKS.iter().find(|(at, mark, _)| part(&head, *at, mark.len()) == *mark) {
        return Ok((*name).to_owned());
    }
    if let Some(kind) = kind_of_bytes(part(&head, PRIMARY as usize, 1024)) {
        return Ok(kind.to_owned());
    }
    if head.iter().all(|b| *b == 0) {
        return Ok("empty (zeros)".to_owned());
    }
    let start = head.get(..8).unwrap_or(&head);
    Ok(format!("unknown (starts with {})", hex::encode(start)))
}

/// Whether the first sector is that of a FAT, NTFS or exFAT volume, which ends like a partition table's.
pub(super) fn is_boot_sector_of_a_volume(sector: &[u8]) -> bool {
    let jumps = matches!(part(sector, 0, 3), [0xEB, _, 0x90] | [0xE9, _, _]);
    jumps
        && MARKS.iter().any(|(at, mark, _)| (3..0x100).contains(at) && part(sector, *at, mark.len()) == *mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_by_its_marks_and_never_read_beyond_its_end() {
        assert_eq!(identify(&Vec::new()).unwrap(), "empty (zeros)");
        assert_eq!(identify(&b"abc".to_vec()).unwrap(), "unknown (starts with 616263)");
        let mut swap = vec![0; 8192];
        swap[0xFF6..0x1000].copy_from_slice(b"SWAPSPACE2");
        assert_eq!(identify(&swap).unwrap(), "swap");
    }
}
