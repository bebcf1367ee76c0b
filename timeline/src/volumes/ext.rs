//! ext2, ext3 and ext4: the file system as a whole.
//!
//! - Read: all block and inode sizes, 64-bit, flexible and meta block groups, sparse superblocks, big clusters,
//!   extents and indirect blocks, inline data and directories, metadata checksums (checked, never a reason to
//!   refuse), names of encrypted folders as bytes.
//! - Not read: the journal (changes that the kernel had not yet written back are not applied, and said so),
//!   attributes outside the inode.
//! - Reference: Linux `Documentation/filesystems/ext4/` and `fs/ext4/ext4.h`.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bytes::{ByteSource, read_or_zeros};
use crate::error::ReadError;
use crate::event::Span;

use super::checksums::crc32c;
use super::ext_directory;
use super::ext_file::ExtFile;
use super::ext_groups::{self, Group};
use super::ext_inode::{FileType, Inode};
use super::ext_names::Names;
use super::ext_superblock::{
    INCOMPAT_JOURNAL_DEVICE, INCOMPAT_RECOVER, LENGTH, PRIMARY, Superblock, has_magic,
};
use super::fields::le32;
use super::issues::{IssueList, VolumeIssue};

/// How much of an inode table is read at once, in bytes.
const TABLE_STEP: usize = 4 << 20;
/// Inode of the root directory.
pub(crate) const ROOT: u32 = 2;

/// Why a volume could not be opened as ext.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtError {
    /// There is no ext superblock.
    #[error("this is no ext file system: {reason}")]
    NotExt {
        /// What stands there instead.
        reason: String,
    },
    /// The superblock is damaged, and no backup was found where backups usually are.
    #[error("the ext superblock is damaged ({reason}), and none of its usual backups can be read")]
    Superblock {
        /// What is wrong with the primary.
        reason: String,
    },
    /// The volume is a journal that belongs to another file system.
    #[error("this is the external journal of an ext file system")]
    JournalDevice,
    /// The volume could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What every part of an open file system shares.
pub(super) struct Disk {
    pub(super) volume: Arc<dyn ByteSource>,
    pub(super) sb: Superblock,
    pub(super) groups: Vec<Group>,
    pub(super) issues: IssueList,
}

/// An open ext2, ext3 or ext4 file system.
pub struct Ext {
    disk: Arc<Disk>,
    names: Mutex<Option<Arc<Names>>>,
}

impl fmt::Debug for Ext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ext").field("superblock", &self.disk.sb).finish_non_exhaustive()
    }
}

/// A regular file, with the first of its paths.
pub struct FoundFile {
    /// Its path as bytes: `/etc/passwd`; `$inode/7` for a file without a name, `$deleted/7/etc/passwd` for a deleted one.
    pub path: Vec<u8>,
    /// Its content. The map is read from the volume when it is first needed.
    pub source: Arc<ExtFile>,
    /// Its modification time, in seconds since 1970.
    pub modified: Option<i64>,
    /// Where its content, or the map of its content, starts in the volume, for reading in disk order.
    pub first_byte: u64,
    /// Whether it was deleted: its blocks may hold other files' bytes by now.
    pub deleted: bool,
}

/// Where a symbolic link points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// The target, as bytes.
    pub target: Vec<u8>,
    /// Where it lies in the volume, if not in the inode.
    pub block: Option<Span>,
}

impl Ext {
    /// Opens the file system in `volume`. A damaged primary superblock is replaced by a backup, which is an issue.
    ///
    /// # Errors
    ///
    /// [`ExtError`] when there is no superblock that can be right, or the volume cannot be read.
    pub fn open(volume: Arc<dyn ByteSource>) -> Result<Ext, ExtError> {
        let issues = IssueList::default();
        let primary = read_or_zeros(&*volume, PRIMARY, LENGTH)?;
        let sb = match Superblock::parse(&primary, PRIMARY) {
            Ok(sb) => sb,
            Err(reason) => match Superblock::find_backup(&*volume)? {
                Some(backup) => {
                    issues.add(PRIMARY, format!("the superblock is damaged: {reason}"));
                    issues.add(backup.offset, "this backup of the superblock is used");
                    backup
                }
                None if !has_magic(&primary) => return Err(ExtError::NotExt { reason }),
                None => return Err(ExtError::Superblock { reason }),
            },
        };
        if sb.incompat & INCOMPAT_JOURNAL_DEVICE != 0 {
            return Err(ExtError::JournalDevice);
        }
        if !sb.checksum_holds {
            issues.add(sb.offset, "the checksum of the superblock does not hold");
        }
        if sb.unknown_features() != 0 {
            let what =
                format!("features {:#x} are not known: what uses them may read wrong", sb.unknown_features());
            issues.add(sb.offset, what);
        }
        if sb.incompat & INCOMPAT_RECOVER != 0 {
            issues.add(
                sb.offset,
                "the file system was in use: changes that stand only in its journal are not read",
            );
        }
        let claimed = sb.blocks.saturating_mul(sb.block_size.into());
        if claimed > volume.len() {
            let what = format!("the file system is {claimed} bytes long, the volume only {}", volume.len());
            issues.add(sb.offset, what);
        }
        let groups = ext_groups::read(&*volume, &sb, &issues)?;
        Ok(Ext { disk: Arc::new(Disk { volume, sb, groups, issues }), names: Mutex::new(None) })
    }

    /// `ext2`, `ext3` or `ext4`, by the features in use.
    pub fn kind(&self) -> &'static str {
        self.disk.sb.kind()
    }

    /// Bytes in a block.
    pub fn block_size(&self) -> u32 {
        self.disk.sb.block_size
    }

    /// Bytes in an inode.
    pub fn inode_size(&self) -> u16 {
        self.disk.sb.inode_size
    }

    /// Everything damaged that was met so far, by place in the volume: the list grows while the file system is read.
    pub fn issues(&self) -> Vec<VolumeIssue> {
        self.disk.issues.to_vec()
    }

    /// Gives every inode that is or was in use, in the order of their numbers.
    ///
    /// Those are the ones that the bitmap says are in use, and free ones that still have a type and a time. Tables
    /// that were never in use are not read; behind the last inode that was, only inodes whose checksum holds count
    /// (or, without checksums, those of a table known to have been zeroed).
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the volume cannot be read.
    pub fn for_each_inode(&self, each: &mut dyn FnMut(Inode)) -> Result<(), ReadError> {
        let sb = &self.disk.sb;
        let size = usize::from(sb.inode_size);
        let step = (TABLE_STEP / size).max(1);
        for (index, group) in self.disk.groups.iter().enumerate() {
            if !group.readable || group.used == 0 {
                continue;
            }
            let first = (index as u32).saturating_mul(sb.inodes_per_group);
            let bitmap = self.bitmap(index, group)?;
            let mut done = 0usize;
            let count = if group.rest_is_clean { sb.inodes_per_group } else { group.used } as usize;
            while done < count {
                let at = group.table.saturating_add((done * size) as u64);
                let bytes = read_or_zeros(&*self.disk.volume, at, step.min(count - done) * size)?;
                for (slot, bytes) in bytes.chunks_exact(size).enumerate() {
                    let within = done + slot;
                    let number = first.saturating_add(within as u32).saturating_add(1);
                    if is_zero(bytes) || number > sb.inodes {
                        continue;
                    }
                    let used = bitmap.get(within / 8).map(|byte| byte >> (within % 8) & 1 == 1);
                    let was_used = within < group.used as usize;
                    let place = at.saturating_add((slot * size) as u64);
                    if let Some(inode) = self.inode_in_table(bytes, number, place, used, was_used) {
                        each(inode);
                    }
                }
                done = done.saturating_add(step);
            }
        }
        Ok(())
    }

    /// The inode of that number, whether in use or not; `None` where its table is not in the volume.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the volume cannot be read.
    pub fn inode(&self, number: u32) -> Result<Option<Inode>, ReadError> {
        let sb = &self.disk.sb;
        let Some(index) = number.checked_sub(1) else { return Ok(None) };
        let group = self.disk.groups.get((index / sb.inodes_per_group) as usize);
        let Some(group) = group.filter(|group| group.readable && number <= sb.inodes) else {
            return Ok(None);
        };
        let within = index % sb.inodes_per_group;
        let at = group.table.saturating_add(u64::from(within) * u64::from(sb.inode_size));
        let bytes = read_or_zeros(&*self.disk.volume, at, sb.inode_size.into())?;
        if bytes.len() < usize::from(sb.inode_size) {
            return Ok(None);
        }
        let bit = read_or_zeros(&*self.disk.volume, group.bitmap.saturating_add(u64::from(within / 8)), 1)?;
        let used = bit.first().is_some_and(|byte| byte >> (within % 8) & 1 == 1);
        Ok(Some(Inode::parse(&bytes, number, at, used)))
    }

    /// Every name in every directory. They are read at the first call and then kept.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the volume cannot be read.
    pub fn names(&self) -> Result<Arc<Names>, ReadError> {
        let mut kept = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = &*kept {
            return Ok(names.clone());
        }
        let mut directories = Vec::new();
        self.for_each_inode(&mut |mut inode| {
            if inode.file_type() == FileType::Directory {
                // Of the attributes only inline entries are needed.
                inode.xattrs.retain(|xattr| xattr.name == b"system.data");
                directories.push(inode);
            }
        })?;
        let names = Arc::new(Names::read(&self.disk, directories)?);
        *kept = Some(names.clone());
        Ok(names)
    }

    /// Every regular file that has content: one entry for an inode, whatever its number of links.
    ///
    /// Files without a name (deleted but still open, lost, or deleted with their map kept) are `$inode/NUMBER`. Quota
    /// files, the journal and other inodes of the file system itself are left out.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the volume cannot be read.
    pub fn files(&self) -> Result<Vec<FoundFile>, ReadError> {
        let names = self.names()?;
        let mut files = Vec::new();
        self.for_each_inode(&mut |mut inode| {
            let named = names.first_path(&inode);
            let is_hidden = named.is_none() && (inode.is_reserved() || inode.first_block().is_none());
            if inode.file_type() != FileType::File || inode.size == 0 || is_hidden {
                return;
            }
            inode.xattrs.retain(|xattr| xattr.name == b"system.data");
            let block = inode.first_block().unwrap_or(0);
            let inline = inode.offset;
            files.push(FoundFile {
                path: match named {
                    // A live file may have the same name by now.
                    Some(path) if inode.deleted => {
                        [format!("$deleted/{}", inode.number).as_bytes(), &path].concat()
                    }
                    Some(path) => path,
                    None => format!("$inode/{}", inode.number).into_bytes(),
                },
                modified: Some(inode.mtime.0),
                first_byte: if block == 0 {
                    inline
                } else {
                    block.saturating_mul(self.disk.sb.block_size.into())
                },
                deleted: inode.deleted || !inode.allocated,
                source: Arc::new(ExtFile::new(self.disk.clone(), inode)),
            });
        })?;
        Ok(files)
    }

    /// The content of an inode: of a file, or the raw blocks of a directory or long symbolic link.
    pub fn file(&self, inode: &Inode) -> ExtFile {
        ExtFile::new(self.disk.clone(), inode.clone())
    }

    /// The target of a symbolic link, and where it lies if not in the inode itself; `None` for anything else.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the volume cannot be read.
    pub fn link_target(&self, inode: &Inode) -> Result<Option<LinkTarget>, ReadError> {
        if let Some(target) = inode.link_in_inode() {
            return Ok(Some(LinkTarget { target, block: None }));
        }
        if !inode.has_link_block() {
            return Ok(None);
        }
        // The kernel keeps a target within one block.
        let file = self.file(inode);
        let length = inode.size.min(self.disk.sb.block_size.into());
        match file.map()?.runs.first().filter(|run| run.at == 0) {
            Some(run) => {
                let span = Span::new(run.source, length);
                let target = read_or_zeros(&*self.disk.volume, span.offset, length as usize)?;
                Ok(Some(LinkTarget { target, block: Some(span) }))
            }
            None => Ok(Some(LinkTarget { target: Vec::new(), block: None })),
        }
    }

    /// The inode at a path; symbolic links on the way are not followed. `$inode/7` names an inode by its number.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the volume cannot be read.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<Inode>, ReadError> {
        let mut parts = path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".");
        let start = match path.strip_prefix(b"$inode/") {
            Some(_) => {
                let number = parts.nth(1).and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
                let Some(number) = number else { return Ok(None) };
                number
            }
            None => ROOT,
        };
        let mut at = self.inode(start)?;
        for part in parts {
            let Some(inode) = at.filter(|inode| inode.file_type() == FileType::Directory) else {
                return Ok(None);
            };
            let mut found = None;
            ext_directory::read(&self.disk, &inode, &mut HashSet::new(), &mut |dirent| {
                if !dirent.is_deleted && dirent.name == part && found.is_none() {
                    found = Some(dirent.inode);
                }
            })?;
            let Some(number) = found else { return Ok(None) };
            at = self.inode(number)?;
        }
        Ok(at)
    }

    /// The first `most` bytes of the regular file at a path; `None` where there is none that can be read.
    pub fn read_path(&self, path: &[u8], most: usize) -> Option<Vec<u8>> {
        let inode = self.lookup(path).ok()??;
        let is_file = inode.file_type() == FileType::File;
        if is_file { read_or_zeros(&self.file(&inode), 0, most).ok() } else { None }
    }

    /// The target of the symbolic link at a path; `None` where there is none that can be read.
    pub fn read_link(&self, path: &[u8]) -> Option<Vec<u8>> {
        let inode = self.lookup(path).ok()??;
        Some(self.link_target(&inode).ok()??.target)
    }

    /// The superblock and the group descriptor that give an inode at its place its number.
    pub fn numbering(&self, number: u32) -> Option<[Span; 2]> {
        let sb = &self.disk.sb;
        let group = number.checked_sub(1)? / sb.inodes_per_group;
        let group = self.disk.groups.get(group as usize)?;
        let descriptor = Span::new(group.descriptor, sb.descriptor_size.into());
        Some([Span::new(sb.offset, LENGTH as u64), descriptor])
    }

    /// Where the inode of that number lies in the volume.
    pub fn inode_span(&self, number: u32) -> Option<Span> {
        let sb = &self.disk.sb;
        let index = number.checked_sub(1)?;
        let group = self.disk.groups.get((index / sb.inodes_per_group) as usize)?;
        let within = u64::from(index % sb.inodes_per_group) * u64::from(sb.inode_size);
        Some(Span::new(group.table.checked_add(within)?, sb.inode_size.into()))
    }

    fn bitmap(&self, index: usize, group: &Group) -> Result<Vec<u8>, ReadError> {
        let sb = &self.disk.sb;
        let length = sb.inodes_per_group.div_ceil(8) as usize;
        let bytes = read_or_zeros(&*self.disk.volume, group.bitmap, length)?;
        if sb.has_checksums() {
            let crc = crc32c(sb.seed, bytes.get(..sb.inodes_per_group as usize / 8).unwrap_or(&[]));
            let mask = if sb.descriptor_size >= 64 { u32::MAX } else { 0xFFFF };
            if crc & mask != group.bitmap_checksum & mask {
                let what = format!("the checksum of the inode bitmap of group {index} does not hold");
                self.disk.issues.add(group.bitmap, what);
            }
        }
        Ok(bytes)
    }

    fn inode_in_table(
        &self,
        bytes: &[u8],
        number: u32,
        at: u64,
        used: Option<bool>,
        was_used: bool,
    ) -> Option<Inode> {
        let sb = &self.disk.sb;
        let mut inode = Inode::parse(bytes, number, at, used.unwrap_or(false));
        // Where the bitmap is not in the volume, the inode itself must say.
        inode.allocated = used.unwrap_or(!inode.deleted && inode.mode != 0);
        let holds = !sb.has_checksums() || checksum_holds(sb, bytes, &inode);
        if inode.allocated {
            if !holds {
                self.disk.issues.add(at, format!("the checksum of inode {number} does not hold"));
            }
            return Some(inode);
        }
        let is_timed = [inode.atime, inode.mtime, inode.ctime].iter().any(|time| time.0 != 0);
        let may_be = inode.file_type() != FileType::Unknown && (is_timed || inode.dtime.is_some());
        if !may_be || (!was_used && !holds) {
            return None;
        }
        if !holds {
            self.disk.issues.add(at, format!("the checksum of the freed inode {number} does not hold"));
        }
        if !inode.deleted {
            self.disk.issues.add(at, format!("inode {number} is free by the bitmap, and yet it has links"));
        }
        Some(inode)
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<16>();
    chunks.iter().all(|chunk| u128::from_ne_bytes(*chunk) == 0) && rest.iter().all(|byte| *byte == 0)
}

fn checksum_holds(sb: &Superblock, bytes: &[u8], inode: &Inode) -> bool {
    let seed = super::ext_map::inode_seed(sb, inode);
    let extra = if bytes.len() > 128 { le32(bytes, 0x80) & 0xFFFF } else { 0 };
    let has_high = extra >= 4;
    let part = |from: usize, to: usize| bytes.get(from..to).unwrap_or(&[]);
    let after = if has_high {
        let crc = crc32c(crc32c(seed, part(0, 0x7C)), &[0, 0]);
        let crc = crc32c(crc32c(crc, part(0x7E, 0x82)), &[0, 0]);
        crc32c(crc, part(0x84, bytes.len()))
    } else {
        let crc = crc32c(crc32c(seed, part(0, 0x7C)), &[0, 0]);
        crc32c(crc, part(0x7E, bytes.len()))
    };
    let low = super::fields::le16(bytes, 0x7C);
    let high = super::fields::le16(bytes, 0x82);
    after as u16 == low && (!has_high || (after >> 16) as u16 == high)
}
