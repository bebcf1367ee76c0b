//! Appends to a file past the page cache, where the file system can.
//!
//! Evidence is written once and not read soon. Through the page cache every byte of it would be copied once more, and would
//! push out of memory what the host needs, or what its memory still holds of interest. Whole blocks go straight to the
//! disk; the tail, which `O_DIRECT` does not take, goes through the cache, and is written again with the block it becomes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// What any disk takes as a boundary of memory and of a file.
const ALIGNMENT: usize = 4096;

/// Bytes gathered before they are written: enough for a disk to be busy with, and little beside the other buffers.
const BLOCK: usize = 2 << 20;

/// A file that is appended to.
pub(super) struct DirectWrite {
    file: File,
    /// The same file past the page cache; `None` where that cannot be.
    direct: Option<File>,
    /// Where the gathered bytes belong: a multiple of [`ALIGNMENT`].
    at: u64,
    room: Vec<u8>,
    /// First byte of the room that is aligned.
    skip: usize,
    gathered: usize,
    /// Gathered bytes that are in the file too, by way of the page cache.
    in_cache: usize,
}

impl DirectWrite {
    /// Goes on behind the first `length` bytes of a file that is open for writing.
    pub(super) fn behind(file: File, path: &Path, length: u64) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECT;
        let direct = openat(CWD, path, flags, Mode::empty()).ok().map(File::from);
        let mut writer =
            Self { file, direct, at: length, room: Vec::new(), skip: 0, gathered: 0, in_cache: 0 };
        let over = length % ALIGNMENT as u64;
        if over > 0 && writer.direct.is_some() {
            // The block that is not full will be written as a whole.
            let mut tail = vec![0; usize::try_from(over).unwrap_or(0)];
            let mut reader = File::open(path)?;
            reader.seek(SeekFrom::Start(length - over))?;
            reader.read_exact(&mut tail)?;
            writer.at = length - over;
            writer.gather(&tail);
            writer.in_cache = writer.gathered;
        }
        Ok(writer)
    }

    /// Appends bytes; some may stay gathered until [`DirectWrite::flush`].
    pub(super) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.direct.is_none() {
                self.flush()?;
                self.file.write_all_at(bytes, self.at)?;
                self.at = self.at.saturating_add(bytes.len() as u64);
                return Ok(());
            }
            let taken = self.gather(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.gathered == BLOCK {
                self.write_block()?;
            }
        }
        Ok(())
    }

    /// Takes as many bytes as there is room for.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        if self.room.is_empty() {
            self.room = vec![0; BLOCK + ALIGNMENT];
            self.skip = self.room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        }
        let taken = bytes.len().min(BLOCK - self.gathered);
        let start = self.skip + self.gathered;
        if let (Some(to), Some(from)) = (self.room.get_mut(start..start + taken), bytes.get(..taken)) {
            to.copy_from_slice(from);
        }
        self.gathered += taken;
        taken
    }

    fn gathered(&self) -> &[u8] {
        self.room.get(self.skip..self.skip + self.gathered).unwrap_or_default()
    }

    fn write_block(&mut self) -> io::Result<()> {
        let written = match &self.direct {
            Some(direct) => direct.write_at(self.gathered(), self.at).unwrap_or(0),
            None => 0,
        };
        if written < self.gathered {
            // The usual way does better, or says what is wrong.
            self.direct = None;
            self.in_cache = self.in_cache.min(written);
            return self.flush();
        }
        self.at = self.at.saturating_add(self.gathered as u64);
        (self.gathered, self.in_cache) = (0, 0);
        Ok(())
    }

    /// Brings all that was appended into the file, if not yet to the disk.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let rest = self.gathered().get(self.in_cache..).unwrap_or_default();
        if !rest.is_empty() {
            self.file.write_all_at(rest, self.at.saturating_add(self.in_cache as u64))?;
        }
        self.in_cache = self.gathered;
        if self.direct.is_none() {
            self.at = self.at.saturating_add(self.gathered as u64);
            (self.gathered, self.in_cache) = (0, 0);
        }
        Ok(())
    }

    /// The file, all of it flushed.
    pub(super) fn flushed(&mut self) -> io::Result<&File> {
        self.flush()?;
        Ok(&self.file)
    }

    /// The file, whatever is gathered.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for DirectWrite {
    fn drop(&mut self) {
        // What can be kept of a file that is given up is kept.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 251 % 253) as u8).collect()
    }

    #[test]
    fn bytes_appended_in_any_steps_and_flushed_at_any_time_are_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let data = bytes(3 * BLOCK + 12_345);
        for (number, step) in [1 << 20, 511, 4096, 700_001, 3 * BLOCK].into_iter().enumerate() {
            let path = folder.path().join(number.to_string());
            let mut writer = DirectWrite::behind(File::create_new(&path).unwrap(), &path, 0).unwrap();
            for (count, part) in data.chunks(step).enumerate() {
                writer.append(part).unwrap();
                if count % 7 == 3 {
                    let length = writer.flushed().unwrap().metadata().unwrap().len();
                    assert_eq!(length, ((count + 1) * step).min(data.len()) as u64);
                }
            }
            drop(writer);
            assert!(std::fs::read(&path).unwrap() == data, "steps of {step}");
        }
    }

    #[test]
    fn a_file_is_taken_up_at_any_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let data = bytes(2 * BLOCK + 999);
        for cut in [0, 1, 4095, 4096, 4097, BLOCK - 1, BLOCK, BLOCK + 513] {
            std::fs::write(&path, &data[..cut]).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            let mut writer = DirectWrite::behind(file, &path, cut as u64).unwrap();
            writer.append(&data[cut..]).unwrap();
            drop(writer);
            assert!(std::fs::read(&path).unwrap() == data, "cut at {cut}");
        }
    }
}
