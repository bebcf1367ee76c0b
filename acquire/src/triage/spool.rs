//! Where the output of a command waits until its size is known: the first part in memory, the rest in a file without a
//! name beside the bundle.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::Result;
use crate::tar_packer::TarPacker;

/// What is held in memory of one output.
const IN_MEMORY: usize = 256 << 10;

/// Output on its way into a tar.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    first: Vec<u8>,
    file: Option<File>,
    size: u64,
    most: u64,
    /// Bytes that were not kept, and why.
    pub(crate) lost: Option<String>,
}

impl Spool {
    /// One that keeps `most` bytes, and puts what memory shall not hold into `folder`.
    pub(crate) fn new(folder: &Path, most: u64) -> Self {
        Self { folder: folder.to_owned(), first: Vec::new(), file: None, size: 0, most, lost: None }
    }

    /// Adds bytes. Gives whether there is room for more.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> bool {
        let room = usize::try_from(self.most.saturating_sub(self.size)).unwrap_or(usize::MAX);
        let kept = bytes.get(..bytes.len().min(room)).unwrap_or(bytes);
        if let Err(error) = self.keep(kept) {
            self.lost.get_or_insert(format!(
                "cut after {} bytes: the spool cannot be written: {error}",
                self.size
            ));
            self.most = self.size;
            return false;
        }
        if kept.len() < bytes.len() {
            self.lost.get_or_insert(format!("cut after {} bytes", self.most));
        }
        kept.len() == bytes.len()
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() && self.first.len().saturating_add(bytes.len()) <= IN_MEMORY {
            self.first.extend_from_slice(bytes);
        } else {
            if self.file.is_none() {
                let mut file = nameless(&self.folder)?;
                file.write_all(&self.first)?;
                self.first = Vec::new();
                self.file = Some(file);
            }
            if let Some(file) = self.file.as_mut() {
                file.write_all(bytes)?;
            }
        }
        self.size = self.size.saturating_add(bytes.len() as u64);
        Ok(())
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// What is held, if all of it is in memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.first
    }

    /// Packs it as a file of that name.
    pub(crate) fn store(&self, name: &str, out: &mut TarPacker<'_>) -> Result<()> {
        match &self.file {
            Some(file) => out.made_from(name, file, self.size),
            None => out.made(name, &self.first),
        }
    }
}

/// A file that nobody else sees and that goes when it is closed, also where the file system has no way to make one.
fn nameless(folder: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match openat(CWD, folder, flags | OFlags::TMPFILE, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        Err(_) => {
            let path = folder.join(format!(".spool-{}", std::process::id()));
            let made = openat(CWD, &path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
            std::fs::remove_file(&path)?;
            Ok(File::from(made))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_memory_shall_not_hold_goes_to_a_file_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(folder.path(), 1 << 20);
        assert!(spool.add(b"abc"));
        assert!(spool.file.is_none());
        assert!(spool.add(&vec![b'x'; IN_MEMORY]));
        let mut start = [0; 4];
        spool.file.as_ref().unwrap().read_exact_at(&mut start, 0).unwrap();
        assert_eq!(&start, b"abcx");
        assert_eq!(spool.size(), 3 + IN_MEMORY as u64);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_goes_beyond_the_limit_is_cut_and_that_is_said() {
        let mut spool = Spool::new(Path::new("/nowhere"), 5);
        assert!(spool.add(b"1234"));
        assert!(!spool.add(b"567"));
        assert_eq!(spool.bytes(), b"12345");
        assert_eq!(spool.lost.as_deref(), Some("cut after 5 bytes"));
    }

    #[test]
    fn a_spool_that_cannot_be_written_keeps_what_it_has_and_says_so() {
        let mut spool = Spool::new(Path::new("/nowhere"), 1 << 20);
        assert!(!spool.add(&vec![0; IN_MEMORY + 1]));
        assert!(spool.lost.as_deref().unwrap().contains("cannot be written"));
        assert_eq!(spool.size(), 0);
    }
}
