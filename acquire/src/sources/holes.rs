//! The holes of a sparse image file, read past the page cache.
//!
//! A hole is read like any other range: where the file system says that one lies is a hint and never an answer, since
//! file systems have been known to be wrong about it. Read with `O_DIRECT` it costs the kernel a `memset`; through the
//! page cache it would fill the memory of the machine with zeros, at a third of the speed that SHA-256 has.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{SeekFrom, seek};

use super::disk::ALIGNMENT;

/// No shorter hole is worth a second way of reading.
const SHORTEST: u64 = 1 << 20;

/// Which way a range of a file is read best.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// Bytes of this range are known: from, to, and whether it is a hole.
    known: Option<(u64, u64, bool)>,
    /// The file takes no such questions, or has no holes.
    is_off: bool,
    bounce: Vec<u8>,
}

impl Holes {
    /// Of a file that may have some.
    pub(super) fn of(file: &File) -> Self {
        let is_sparse = file
            .metadata()
            .is_ok_and(|found| found.is_file() && found.blocks().saturating_mul(512) < found.len());
        Self { is_off: !is_sparse, ..Self::default() }
    }

    /// How many bytes from here on lie in a hole; 0 if none do, or if it is not worth while.
    pub(super) fn length_at(&mut self, file: &File, offset: u64) -> u64 {
        if self.is_off {
            return 0;
        }
        let known = self.known.filter(|&(from, to, _)| (from..to).contains(&offset));
        match known.or_else(|| self.ask(file, offset)) {
            Some((_, to, true)) if to - offset >= SHORTEST => to - offset,
            Some(_) => 0,
            None => {
                self.is_off = true;
                0
            }
        }
    }

    fn ask(&mut self, file: &File, offset: u64) -> Option<(u64, u64, bool)> {
        let found = match seek(file, SeekFrom::Data(offset)) {
            Ok(data) if data > offset => (offset, data, true),
            Ok(_) => (offset, seek(file, SeekFrom::Hole(offset)).ok().filter(|&hole| hole > offset)?, false),
            // No data behind: a hole to the end.
            Err(rustix::io::Errno::NXIO) => (offset, file.metadata().ok()?.len(), true),
            Err(_) => return None,
        };
        self.known = Some(found);
        Some(found)
    }

    /// Reads a part of a hole with a descriptor that goes past the page cache. `None` if that cannot be done here.
    pub(super) fn read(&mut self, direct: &File, offset: u64, buf: &mut [u8]) -> Option<io::Result<usize>> {
        let length = buf.len() / ALIGNMENT * ALIGNMENT;
        if length == 0 || !offset.is_multiple_of(ALIGNMENT as u64) {
            return None;
        }
        self.bounce.resize(length.saturating_add(ALIGNMENT), 0);
        let skip = self.bounce.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let aligned = self.bounce.get_mut(skip..skip.saturating_add(length))?;
        match direct.read_at(aligned, offset) {
            Ok(read) => {
                buf.get_mut(..read)?.copy_from_slice(aligned.get(..read)?);
                Some(Ok(read))
            }
            Err(_) => {
                // Whatever is wrong with this way, the usual one says it again or does better.
                self.is_off = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::source::Source;
    use crate::sources::disk::DiskSource;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_sparse_file_reads_as_a_full_one_wherever_its_islands_lie() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse.raw");
        let file = std::fs::File::create(&path).unwrap();
        let size = (40 << 20) + 777;
        file.set_len(size).unwrap();
        for (offset, length) in
            [(0u64, 5usize), (3 << 20, 4096), ((9 << 20) + 513, 100_000), ((30 << 20) - 1, 3), (size - 9, 9)]
        {
            file.write_at(&vec![0xA5; length], offset).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        for step in [512 << 10, 65_536, 1_000_003, 4096, 48 << 20] {
            let mut source = DiskSource::open(&path).unwrap();
            let (mut offset, mut buf) = (0usize, vec![1; step]);
            while let Ok(read @ 1..) = source.read_at(offset as u64, &mut buf) {
                assert!(buf[..read] == whole[offset..offset + read], "at {offset} in steps of {step}");
                offset += read;
                buf.fill(1);
                if step < 65_536 && offset > 4 << 20 {
                    break;
                }
            }
            assert!(offset == whole.len() || step < 65_536, "{offset} in steps of {step}");
        }
    }
}
