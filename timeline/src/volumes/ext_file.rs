//! The content of an inode, as bytes that know where they lie.

use std::sync::{Arc, OnceLock};

use crate::bytes::{ByteSource, StreamRange};
use crate::error::ReadError;

use super::ext::Disk;
use super::ext_inode::Inode;
use super::ext_map::{Map, largest_size};
use super::issues::VolumeIssue;

/// A file of an ext file system. Holes, unwritten extents and blocks outside the volume read as zeros.
///
/// Its map is read from the volume when it is first needed. `len()` is the inode's size, bounded only by what its
/// map can address: a hostile inode claims terabytes of holes, so compare with [`ExtFile::stored_bytes`].
pub struct ExtFile {
    disk: Arc<Disk>,
    inode: Inode,
    length: u64,
    map: OnceLock<Result<Map, ReadError>>,
}

impl ExtFile {
    pub(super) fn new(disk: Arc<Disk>, inode: Inode) -> ExtFile {
        let length = inode.size.min(largest_size(&disk.sb, &inode));
        ExtFile { disk, inode, length, map: OnceLock::new() }
    }

    /// The inode it is made from.
    pub fn inode(&self) -> &Inode {
        &self.inode
    }

    /// Bytes of the file that are stored: its size without holes.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when its map cannot be read.
    pub fn stored_bytes(&self) -> Result<u64, ReadError> {
        Ok(self.map()?.stored())
    }

    /// What is damaged in its map, each with its place in the volume.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when its map cannot be read.
    pub fn issues(&self) -> Result<&[VolumeIssue], ReadError> {
        Ok(&self.map()?.issues)
    }

    /// Where a range lies in the volume, in runs: first byte and length of each. Holes lie nowhere.
    fn stored_runs(&self, offset: u64, length: u64) -> impl Iterator<Item = (u64, u64)> {
        let end = offset.saturating_add(length).min(self.length);
        let runs = self.map().map_or(&[][..], |map| map.from(offset));
        runs.iter().take_while(move |run| run.at < end).map(move |run| {
            let from = run.at.max(offset);
            let to = run.at.saturating_add(run.length).min(end);
            (run.source.saturating_add(from - run.at), to.saturating_sub(from))
        })
    }

    pub(super) fn map(&self) -> Result<&Map, ReadError> {
        let made = self.map.get_or_init(|| Map::of_inode(&*self.disk.volume, &self.disk.sb, &self.inode));
        made.as_ref().map_err(Clone::clone)
    }
}

impl ByteSource for ExtFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let want = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..want).filter(|buf| !buf.is_empty()) else { return Ok(0) };
        let end = offset.saturating_add(want as u64);
        let mut done = 0;
        for run in self.map()?.from(offset) {
            if run.at >= end {
                break;
            }
            let from = run.at.max(offset);
            let to = run.at.saturating_add(run.length).min(end);
            let (first, last) = ((from - offset) as usize, (to - offset) as usize);
            if let Some(hole) = buf.get_mut(done..first) {
                hole.fill(0);
            }
            if let Some(part) = buf.get_mut(first..last) {
                let source = run.source.saturating_add(from - run.at);
                let got = self.disk.volume.read_at(source, part)?;
                part.get_mut(got..).unwrap_or(&mut []).fill(0);
            }
            done = last;
        }
        buf.get_mut(done..).unwrap_or(&mut []).fill(0);
        Ok(want)
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        self.stored_runs(offset, length)
            .flat_map(|(at, length)| self.disk.volume.stream_ranges(at, length))
            .collect()
    }

    fn container_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        self.stored_runs(offset, length)
            .flat_map(|(at, length)| self.disk.volume.container_ranges(at, length))
            .collect()
    }

    fn stored_as(&self, offset: u64, length: u64) -> Option<&'static str> {
        self.stored_runs(offset, length).find_map(|(at, length)| self.disk.volume.stored_as(at, length))
    }

    fn map_ranges(&self) -> Vec<StreamRange> {
        let volume = &self.disk.volume;
        let mut ranges = volume.map_ranges();
        let own = self.inode.span();
        ranges.extend(volume.stream_ranges(own.offset, own.length));
        if let Ok(map) = self.map() {
            ranges.extend(map.nodes.iter().flat_map(|node| volume.stream_ranges(node.offset, node.length)));
        }
        ranges
    }
}
