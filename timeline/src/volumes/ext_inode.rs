//! One inode: its fields, times, attributes, and what it holds inline. Needs nothing but the inode's own bytes.
//!
//! Reference: Linux `fs/ext4/ext4.h` (`struct ext4_inode`), `fs/ext4/xattr.h`, `fs/ext4/inline.c`.

use crate::event::Span;

use super::fields::{byte, le16, le32, part};

pub(super) const FLAG_INDEXED: u32 = 0x1000;
pub(super) const FLAG_ENCRYPTED: u32 = 0x800;
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
pub(super) const FLAG_INLINE: u32 = 0x1000_0000;

/// Where the 60 bytes of the block map lie in an inode.
pub(super) const MAP_AT: usize = 0x28;
pub(super) const MAP_LENGTH: usize = 60;
const XATTR_MAGIC: u32 = 0xEA02_0000;

/// The 34-bit seconds and the raw nanoseconds of a time; nanoseconds of a second or more are damage.
pub type InodeTime = (i64, u32);

/// What kind of file an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// Nothing that Linux knows.
    Unknown,
}

impl FileType {
    /// The type in a mode.
    pub fn of_mode(mode: u32) -> FileType {
        match mode >> 12 & 0xF {
            0x1 => FileType::Pipe,
            0x2 => FileType::CharacterDevice,
            0x4 => FileType::Directory,
            0x6 => FileType::BlockDevice,
            0x8 => FileType::File,
            0xA => FileType::Link,
            0xC => FileType::Socket,
            _ => FileType::Unknown,
        }
    }

    /// The word for it, plaso's where it has one.
    pub fn as_str(self) -> &'static str {
        match self {
            FileType::File => "file",
            FileType::Directory => "directory",
            FileType::Link => "link",
            FileType::Pipe => "pipe",
            FileType::Socket => "socket",
            FileType::CharacterDevice => "character device",
            FileType::BlockDevice => "block device",
            FileType::Unknown => "unknown type",
        }
    }
}

/// An extended attribute that lies in the inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Its full name: `security.selinux`.
    pub name: Vec<u8>,
    /// Its value; empty where it lies in an inode of its own.
    pub value: Vec<u8>,
    /// The inode that holds a large value, or 0.
    pub value_inode: u32,
    /// Where the value starts in the inode.
    pub(super) value_at: usize,
}

/// An inode, used or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Its number, from 1.
    pub number: u32,
    /// Where it lies in the volume.
    pub offset: u64,
    /// How many bytes it has there: 128 to 65,536.
    pub size_on_disk: u32,
    /// Type and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Hard links.
    pub links: u16,
    /// Space taken, in the units that `flags` say: 512 bytes, or blocks (huge files).
    pub blocks: u64,
    /// The inode flags: extents, inline data, immutable …
    pub flags: u32,
    /// Generation, which NFS and checksums use.
    pub generation: u32,
    /// Project, 0 where the inode has no such field.
    pub project: u32,
    /// Last access.
    pub atime: InodeTime,
    /// Last change of the content.
    pub mtime: InodeTime,
    /// Last change of the inode.
    pub ctime: InodeTime,
    /// Creation, where the inode has such a field and it was set.
    pub crtime: Option<InodeTime>,
    /// Deletion, in seconds, where it was set. Of a file that was open when it was deleted, this field is for a
    /// while a link of the list of orphans: see [`Inode::next_orphan`].
    pub dtime: Option<i64>,
    /// Whether times have nanoseconds.
    pub has_nanos: bool,
    /// Number of the next inode on the list of deleted files that are still open.
    pub next_orphan: Option<u32>,
    /// Whether the inode bitmap says that it is in use.
    pub allocated: bool,
    /// Whether the inode's own fields say that it was deleted: no links, or a deletion time.
    pub deleted: bool,
    /// Attributes in the inode itself.
    pub xattrs: Vec<Xattr>,
    /// The block that holds further attributes, or 0.
    pub xattr_block: u64,
    /// Whether fields contradict each other.
    pub is_damaged: bool,
    pub(super) map: [u8; MAP_LENGTH],
}

impl Inode {
    /// Reads an inode of `bytes.len()` bytes; every sequence of bytes gives one.
    pub(crate) fn parse(bytes: &[u8], number: u32, offset: u64, allocated: bool) -> Inode {
        let mode = le16(bytes, 0x0);
        let file_type = FileType::of_mode(mode.into());
        let room = bytes.len().saturating_sub(128);
        let extra = if room > 0 { usize::from(le16(bytes, 0x80)) } else { 0 };
        let bad_extra = extra > room || !extra.is_multiple_of(4);
        let extra = if bad_extra { 0 } else { extra };
        let has = |end: usize| 128usize.saturating_add(extra) >= end;
        let time = |at: usize, extra_at: usize| {
            let extra = if has(extra_at.saturating_add(4)) { le32(bytes, extra_at) } else { 0 };
            (i64::from(le32(bytes, at) as i32).saturating_add(i64::from(extra & 3) << 32), extra >> 2)
        };
        let crtime = (has(0x94) && part(bytes, 0x90, 8) != [0; 8]).then(|| time(0x90, 0x94));
        let size_high = if file_type == FileType::File { u64::from(le32(bytes, 0x6C)) } else { 0 };
        let wide = |low: usize, high: usize| u32::from(le16(bytes, high)) << 16 | u32::from(le16(bytes, low));
        let (links, raw_dtime) = (le16(bytes, 0x1A), le32(bytes, 0x14));
        let ctime = time(0xC, 0x84);
        let orphan = is_orphan_link(raw_dtime, links, ctime.0);
        let mut inode = Inode {
            number,
            offset,
            size_on_disk: bytes.len() as u32,
            mode,
            uid: wide(0x2, 0x78),
            gid: wide(0x18, 0x7A),
            size: size_high << 32 | u64::from(le32(bytes, 0x4)),
            links,
            blocks: u64::from(le16(bytes, 0x74)) << 32 | u64::from(le32(bytes, 0x1C)),
            flags: le32(bytes, 0x20),
            generation: le32(bytes, 0x64),
            project: if has(0xA0) { le32(bytes, 0x9C) } else { 0 },
            atime: time(0x8, 0x8C),
            mtime: time(0x10, 0x88),
            ctime,
            crtime,
            dtime: (raw_dtime != 0 && !orphan).then_some(i64::from(raw_dtime)),
            has_nanos: has(0x90),
            next_orphan: orphan.then_some(raw_dtime),
            allocated,
            deleted: !is_reserved(number) && (links == 0 || raw_dtime != 0),
            xattrs: Vec::new(),
            xattr_block: u64::from(le16(bytes, 0x76)) << 32 | u64::from(le32(bytes, 0x68)),
            is_damaged: false,
            map: part(bytes, MAP_AT, MAP_LENGTH).try_into().unwrap_or([0; MAP_LENGTH]),
        };
        let bad_xattrs = !inode.read_xattrs(bytes, 128usize.saturating_add(extra));
        let bad_nanos = [Some(inode.atime), Some(inode.mtime), Some(inode.ctime), inode.crtime]
            .iter()
            .flatten()
            .any(|(_, nanos)| *nanos >= 1_000_000_000);
        inode.is_damaged =
            bad_extra || bad_xattrs || bad_nanos || file_type == FileType::Unknown && mode != 0;
        inode
    }

    /// What kind of file it is.
    pub fn file_type(&self) -> FileType {
        FileType::of_mode(self.mode.into())
    }

    /// Whether the file system keeps it for itself: bad blocks, quota, journal and the like, but not the root.
    pub fn is_reserved(&self) -> bool {
        is_reserved(self.number)
    }

    /// Major and minor number of a device.
    pub fn device(&self) -> Option<(u32, u32)> {
        if !matches!(self.file_type(), FileType::CharacterDevice | FileType::BlockDevice) {
            return None;
        }
        let (old, new) = (le32(&self.map, 0), le32(&self.map, 4));
        Some(match old {
            0 => (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xF_FF00),
            _ => (old >> 8 & 0xFF, old & 0xFF),
        })
    }

    /// The flags that a person may have set, and those that change how the content is stored.
    pub fn flag_words(&self) -> impl Iterator<Item = &'static str> {
        FLAG_WORDS.iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, word)| *word)
    }

    /// Where its bytes lie in the volume.
    pub fn span(&self) -> Span {
        Span::new(self.offset, self.size_on_disk.into())
    }

    /// The target of a symbolic link that is short enough to lie in the inode.
    pub fn link_in_inode(&self) -> Option<Vec<u8>> {
        if self.file_type() != FileType::Link || self.has_link_block() {
            return None;
        }
        if self.flags & FLAG_INLINE != 0 {
            let size = usize::try_from(self.size).unwrap_or(usize::MAX);
            let mut target = self.map.to_vec();
            target.extend(self.inline_rest().map_or(&[][..], |xattr| &xattr.value));
            target.truncate(size);
            return Some(target);
        }
        let size = usize::try_from(self.size).unwrap_or(usize::MAX).min(MAP_LENGTH);
        self.map.get(..size).map(<[u8]>::to_vec)
    }

    /// Whether it is a symbolic link whose target has a block of its own.
    pub fn has_link_block(&self) -> bool {
        let inline = self.flags & FLAG_INLINE != 0;
        self.file_type() == FileType::Link
            && !inline
            && (self.size >= MAP_LENGTH as u64 || self.flags & FLAG_EXTENTS != 0)
    }

    /// Block of the volume at which its content, or the map of its content, starts: for reading in disk order.
    pub fn first_block(&self) -> Option<u64> {
        if self.flags & FLAG_INLINE != 0 || self.link_in_inode().is_some() {
            return None;
        }
        let block = if self.flags & FLAG_EXTENTS == 0 {
            (0..15).map(|n| u64::from(le32(&self.map, n * 4))).find(|block| *block != 0)?
        } else if le16(&self.map, 2) == 0 {
            0
        } else if le16(&self.map, 6) == 0 {
            u64::from(le16(&self.map, 18)) << 32 | u64::from(le32(&self.map, 20))
        } else {
            u64::from(le16(&self.map, 20)) << 32 | u64::from(le32(&self.map, 16))
        };
        (block != 0).then_some(block)
    }

    /// The attribute that holds inline content beyond the 60 bytes of the map.
    pub(super) fn inline_rest(&self) -> Option<&Xattr> {
        self.xattrs.iter().find(|xattr| xattr.name == b"system.data")
    }

    /// Reads the attributes that start at `at`; false where they are damaged.
    fn read_xattrs(&mut self, bytes: &[u8], at: usize) -> bool {
        // Of a 128-byte inode, and behind a field that fills the inode, nothing is left.
        if bytes.len() <= 128 || le32(bytes, at) != XATTR_MAGIC {
            return true;
        }
        let first = at.saturating_add(4);
        let mut entry = first;
        // Values never overlap, so together they are shorter than the inode.
        let mut room = bytes.len();
        while part(bytes, entry, 4).iter().any(|b| *b != 0) {
            let name_length = usize::from(byte(bytes, entry));
            let name = part(bytes, entry.saturating_add(16), name_length);
            let value_inode = le32(bytes, entry.saturating_add(4));
            let length = le32(bytes, entry.saturating_add(8)) as usize;
            let value_at = first.saturating_add(usize::from(le16(bytes, entry.saturating_add(2))));
            let value = if value_inode == 0 { part(bytes, value_at, length) } else { &[] };
            let cut = name.len() != name_length || value_inode == 0 && value.len() != length;
            if cut || value.len() > room {
                return false;
            }
            room = room.saturating_sub(value.len());
            let prefix = xattr_prefix(byte(bytes, entry.saturating_add(1)));
            let name = [prefix.as_bytes(), name].concat();
            self.xattrs.push(Xattr { name, value: value.to_vec(), value_inode, value_at });
            entry = entry.saturating_add(16).saturating_add(name_length.next_multiple_of(4));
        }
        true
    }
}

const FLAG_WORDS: &[(u32, &str)] = &[
    (0x1, "secure_deletion"),
    (0x2, "undeletable"),
    (0x4, "compressed"),
    (0x8, "synchronous"),
    (0x10, "immutable"),
    (0x20, "append_only"),
    (0x40, "no_dump"),
    (0x80, "no_atime"),
    (FLAG_ENCRYPTED, "encrypted"),
    (0x4000, "journaled_data"),
    (0x1_0000, "synchronous_directory"),
    (0x2_0000, "top_of_hierarchy"),
    (0x10_0000, "verity"),
    (0x20_0000, "attribute_value"),
    (FLAG_INLINE, "inline_data"),
    (0x2000_0000, "project_hierarchy"),
    (0x4000_0000, "casefold"),
];

/// 1 to 10 but the root: bad blocks, quota, boot loader, resizing, journal and the like.
fn is_reserved(number: u32) -> bool {
    (1..=10).contains(&number) && number != 2
}

/// Whether a deletion time is a link of the list of orphans: the kernel keeps the next orphan's number there while a
/// deleted file is open. Such a number read as a time is far before the inode's own change.
fn is_orphan_link(dtime: u32, links: u16, ctime: i64) -> bool {
    const YEAR_1980: u32 = 315_532_800;
    dtime != 0 && links == 0 && dtime < YEAR_1980 && ctime > i64::from(YEAR_1980)
}

fn xattr_prefix(index: u8) -> String {
    match index {
        0 => String::new(),
        1 => "user.".into(),
        2 => "system.posix_acl_access".into(),
        3 => "system.posix_acl_default".into(),
        4 => "trusted.".into(),
        5 => "lustre.".into(),
        6 => "security.".into(),
        7 => "system.".into(),
        8 => "system.richacl".into(),
        9 => "encryption.".into(),
        10 => "hurd.".into(),
        other => format!("index{other}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_after_2038_and_before_1970_keep_their_nanoseconds() {
        let mut bytes = vec![0; 256];
        bytes[0x80] = 32;
        let put = |bytes: &mut Vec<u8>, at: usize, value: u32| {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        put(&mut bytes, 0x10, 0x8000_0000);
        put(&mut bytes, 0x88, 999_999_999 << 2 | 1);
        put(&mut bytes, 0x8, (-1i32) as u32);
        let inode = Inode::parse(&bytes, 12, 0, true);
        assert_eq!(inode.mtime, (0x8000_0000, 999_999_999));
        assert_eq!(inode.atime, (-1, 0));
        assert_eq!(inode.crtime, None);
        assert!(inode.has_nanos && !inode.is_damaged);
    }

    #[test]
    fn a_link_of_the_orphan_list_is_not_a_deletion_time() {
        let mut bytes = vec![0; 128];
        bytes[0xC..0x10].copy_from_slice(&1_700_000_000u32.to_le_bytes());
        bytes[0x14..0x18].copy_from_slice(&4711u32.to_le_bytes());
        let inode = Inode::parse(&bytes, 12, 0, true);
        assert_eq!((inode.dtime, inode.next_orphan, inode.deleted), (None, Some(4711), true));
    }

    #[test]
    fn impossible_sizes_are_damage_and_not_a_panic() {
        let mut bytes = vec![0xFF; 256];
        assert!(Inode::parse(&bytes, 1, 0, true).is_damaged);
        bytes[0x80..0x82].copy_from_slice(&32u16.to_le_bytes());
        bytes[160..164].copy_from_slice(&XATTR_MAGIC.to_le_bytes());
        assert!(Inode::parse(&bytes, 1, 0, true).is_damaged);
        assert!(Inode::parse(&[], 1, 0, true).size_on_disk == 0);
    }
}
