//! Disks, their partitions, and the file systems in them.

mod checksums;
mod ext;
mod ext_directory;
mod ext_file;
mod ext_groups;
mod ext_inode;
mod ext_map;
mod ext_names;
mod ext_superblock;
pub(crate) mod fields;
mod identify;
pub(crate) mod issues;
mod partition_table;

use std::sync::Arc;

use crate::bytes::{ByteSource, Window};
use crate::error::ReadError;

pub(crate) use ext::ROOT;
pub use ext::{Ext, ExtError, FoundFile, LinkTarget};
pub use ext_file::ExtFile;
pub(crate) use ext_groups::inode_number;
pub use ext_inode::{FileType, Inode, InodeTime, Xattr};
pub(crate) use ext_names::join;
pub use ext_names::{FoundPath, Name, Names};
pub(crate) use ext_superblock::LENGTH as SUPERBLOCK_LENGTH;
pub use identify::identify;
pub use issues::VolumeIssue;

/// A part of a disk that may hold a file system.
pub struct Volume {
    /// Its name in a locator: `p1`, or nothing where the whole disk is one volume.
    pub label: String,
    /// Its first byte on the disk.
    pub start: u64,
    /// Its length in bytes, as far as the disk goes.
    pub length: u64,
    /// What is in it, by its content: `ext4`, `swap`, `LUKS`, `unknown (starts with …)`.
    pub what: String,
    /// What the partition table says of it: type and name.
    pub table_entry: String,
    /// Its bytes.
    pub source: Arc<dyn ByteSource>,
}

/// Finds the volumes of a disk, by GPT or MBR; a disk without a partition table is one volume without a label.
///
/// A partition that overlaps another or reaches beyond the disk is given as far as it goes, and is an issue.
///
/// # Errors
///
/// [`ReadError`] when the disk cannot be read. A damaged table is an issue.
pub fn find(disk: Arc<dyn ByteSource>) -> Result<(Vec<Volume>, Vec<VolumeIssue>), ReadError> {
    let mut issues = Vec::new();
    let partitions = partition_table::read(&*disk, &mut issues)?;
    let mut volumes = Vec::new();
    for partition in partitions.unwrap_or_else(|| vec![partition_table::Partition::whole(disk.len())]) {
        let source: Arc<dyn ByteSource> =
            Arc::new(Window::new(disk.clone(), partition.start, partition.length));
        volumes.push(Volume {
            start: partition.start,
            length: source.len(),
            what: identify(&*source)?,
            label: partition.label,
            table_entry: partition.entry,
            source,
        });
    }
    issues.sort();
    Ok((volumes, issues))
}

#[cfg(test)]
mod ext_tests;
#[cfg(test)]
pub(crate) mod made_images;
#[cfg(test)]
mod partition_tests;
