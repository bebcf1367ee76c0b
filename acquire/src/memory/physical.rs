//! Physical memory as the system gives it: `/proc/kcore`, `/dev/crash`, `/dev/mem`, or a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::iomem::PhysicalRange;
use super::kcore::Segment;

/// Bytes of the page that is the least to be read. Systems with larger pages have whole numbers of it in each.
pub(crate) const PAGE: usize = 4096;

/// Something that gives physical memory by its address, and is never written to.
pub trait PhysicalMemory: Send {
    /// Where it is read from: `/proc/kcore`.
    fn path(&self) -> &str;

    /// What it can give, sorted and apart; `None` if only trying tells.
    fn reach(&self) -> Option<Vec<PhysicalRange>>;

    /// Bytes that one read gives at most.
    fn largest_read(&self) -> usize {
        1 << 20
    }

    /// Reads from an address on; 0 bytes only where nothing lies.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read_at(&mut self, address: u64, buf: &mut [u8]) -> io::Result<usize>;
}

/// `/proc/kcore`, through the offsets that its segments give.
#[derive(Debug)]
pub(crate) struct KcoreMemory {
    pub(crate) path: String,
    pub(crate) file: File,
    pub(crate) segments: Vec<Segment>,
}

impl PhysicalMemory for KcoreMemory {
    fn path(&self) -> &str {
        &self.path
    }

    fn reach(&self) -> Option<Vec<PhysicalRange>> {
        Some(super::iomem::joined(self.segments.iter().map(|segment| segment.range).collect()))
    }

    fn read_at(&mut self, address: u64, buf: &mut [u8]) -> io::Result<usize> {
        let behind = self.segments.partition_point(|segment| segment.range.start() <= address);
        let segment = behind.checked_sub(1).and_then(|index| self.segments.get(index));
        let Some(segment) = segment.filter(|segment| segment.range.last() >= address) else { return Ok(0) };
        let left = (segment.range.last() - address).saturating_add(1);
        let want = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let offset = segment.offset.saturating_add(address - segment.range.start());
        self.file.read_at(buf.get_mut(..want).unwrap_or_default(), offset)
    }
}

/// A file or device whose offsets are the physical addresses: `/dev/mem`, a raw image.
#[derive(Debug)]
pub(crate) struct FlatMemory {
    pub(crate) path: String,
    pub(crate) file: File,
    /// Of a file: its size.
    pub(crate) size: Option<u64>,
}

impl PhysicalMemory for FlatMemory {
    fn path(&self) -> &str {
        &self.path
    }

    fn reach(&self) -> Option<Vec<PhysicalRange>> {
        self.size.map(|size| PhysicalRange::with_length(0, size).into_iter().collect())
    }

    fn read_at(&mut self, address: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, address)
    }
}

/// `/dev/crash`, which gives one whole page at a time and nothing else.
#[derive(Debug)]
pub(crate) struct CrashMemory {
    pub(crate) path: String,
    pub(crate) file: File,
}

impl PhysicalMemory for CrashMemory {
    fn path(&self) -> &str {
        &self.path
    }

    fn reach(&self) -> Option<Vec<PhysicalRange>> {
        None
    }

    fn largest_read(&self) -> usize {
        PAGE
    }

    fn read_at(&mut self, address: u64, buf: &mut [u8]) -> io::Result<usize> {
        let within = address % PAGE as u64;
        let mut page = [0u8; PAGE];
        let read = self.file.read_at(&mut page, address - within)?;
        let got =
            page.get(..read).and_then(|page| page.get(usize::try_from(within).ok()?..)).unwrap_or_default();
        let take = got.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..take), got.get(..take)) {
            to.copy_from_slice(from);
        }
        Ok(take)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_machine::{MadeSegment, filled, made_kcore};
    use super::*;
    use std::io::Write;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn an_address_is_found_in_its_segment_and_a_read_ends_where_the_segment_does() {
        let segments = [(0x1000u64, 0x3000usize), (0x10_0000, 0x2000)]
            .map(|(at, length)| MadeSegment::at(at, at, &filled(at, length)));
        let bytes = made_kcore(&segments, b"");
        let segments = super::super::kcore::Kcore::read(bytes.as_slice()).unwrap().segments;
        let mut memory = KcoreMemory { path: "kcore".to_owned(), file: file_of(&bytes), segments };
        let mut buf = vec![0; 0x4000];
        assert_eq!(memory.read_at(0x2000, &mut buf).unwrap(), 0x2000);
        assert_eq!(&buf[..0x2000], filled(0x2000, 0x2000));
        assert_eq!(memory.read_at(0x10_1fff, &mut buf).unwrap(), 1);
        for nothing in [0, 0xfff, 0x4000, 0x10_2000, u64::MAX] {
            assert_eq!(memory.read_at(nothing, &mut buf).unwrap(), 0, "{nothing:#x}");
        }
    }

    #[test]
    fn a_crash_device_is_asked_for_whole_pages_only() {
        let bytes = filled(0, 0x3000);
        let mut memory = CrashMemory { path: "crash".to_owned(), file: file_of(&bytes) };
        let mut buf = [0; 0x100];
        assert_eq!(memory.read_at(0x1f80, &mut buf).unwrap(), 0x80);
        assert_eq!(buf[..0x80], bytes[0x1f80..0x2000]);
        assert_eq!(memory.read_at(0x3000, &mut buf).unwrap(), 0);
    }
}
