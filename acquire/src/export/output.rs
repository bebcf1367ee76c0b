//! Where an export is written: files that get their names only once they are whole, or a stream of bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use custody::{Digest, Hasher};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::ExportedFile;
use crate::error::{Error, Result};

/// A file that is being written beside its name.
pub(super) struct NewFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
    size: u64,
    hasher: Option<Hasher>,
}

/// A file that is whole and synced, and still called `NAME.part`.
#[derive(Debug)]
pub(super) struct Whole {
    path: PathBuf,
    part: PathBuf,
    size: u64,
    sha256: Option<Digest>,
}

impl NewFile {
    /// Begins a file, which must not be there yet under either name. `hashed` files know their own SHA-256 at the end.
    pub(super) fn begin(path: &Path, hashed: bool) -> Result<Self> {
        refuse_existing(path)?;
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(&part).map_err(|source| {
                match source.kind() {
                    io::ErrorKind::AlreadyExists => Error::WouldOverwrite { path: part.clone() },
                    _ => Error::Write { path: part.clone(), source },
                }
            })?;
        let hasher = hashed.then(Hasher::new);
        Ok(Self { path: path.to_owned(), part, file, size: 0, hasher })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The file itself, for who does not write from its start to its end.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Says how long it is now, and hashes it as it lies there.
    pub(super) fn hash_whole(&mut self, size: u64) -> Result<()> {
        let mut hasher = Hasher::new();
        let mut room = vec![0; 1 << 20];
        let mut at = 0u64;
        while at < size {
            match self.file.read_at(&mut room, at) {
                Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    hasher.update(room.get(..read).unwrap_or_default());
                    at = at.saturating_add(read as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        (self.size, self.hasher) = (at, Some(hasher));
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.size).map_err(|source| self.failed(source))?;
        self.passed(bytes);
        Ok(())
    }

    /// Leaves a hole where zeros would be written.
    pub(super) fn skip(&mut self, zeros: &[u8]) {
        self.passed(zeros);
    }

    fn passed(&mut self, bytes: &[u8]) {
        if let Some(hasher) = self.hasher.as_mut() {
            hasher.update(bytes);
        }
        self.size = self.size.saturating_add(bytes.len() as u64);
    }

    /// Syncs the file. Its name comes with [`name_all`].
    pub(super) fn end(self) -> Result<Whole> {
        // A hole at the end is not there until the length says so.
        self.file
            .set_len(self.size)
            .and_then(|()| self.file.sync_all())
            .map_err(|source| self.failed(source))?;
        let Self { path, part, size, hasher, .. } = self;
        Ok(Whole { path, part, size, sha256: hasher.map(Hasher::finish) })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write { path: self.part.clone(), source }
    }
}

/// Gives all files their names. `otherwise` is the hash of those that were not hashed.
pub(super) fn name_all(files: Vec<Whole>, otherwise: Digest) -> Result<Vec<ExportedFile>> {
    let mut named = Vec::new();
    for file in files {
        rename_new(&file.part, &file.path)?;
        let sha256 = file.sha256.unwrap_or(otherwise);
        named.push(ExportedFile { path: file.path, size: file.size, sha256 });
    }
    if let Some(last) = named.last() {
        let folder = last.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| Error::Write { path: folder.to_owned(), source })?;
    }
    Ok(named)
}

/// Fails if anything is called so.
pub(super) fn refuse_existing(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(Error::WouldOverwrite { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Write { path: path.to_owned(), source }),
    }
}

fn rename_new(from: &Path, to: &Path) -> Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Error::WouldOverwrite { path: to.to_owned() }),
        // A file system or kernel that cannot refuse by itself.
        Err(Errno::INVAL | Errno::NOSYS) => {
            refuse_existing(to)?;
            std::fs::rename(from, to).map_err(|source| Error::Write { path: to.to_owned(), source })
        }
        Err(error) => Err(Error::Write { path: to.to_owned(), source: error.into() }),
    }
}

/// Where the bytes of a stream go as they are: files of given lengths, one after the other, or a stream.
pub(super) enum Output<'a> {
    Files(Box<Files>),
    Stream(&'a mut dyn io::Write),
}

/// The files of an output: the one that is being written, those that come, and those that are whole.
pub(super) struct Files {
    current: Option<(NewFile, u64)>,
    coming: std::vec::IntoIter<(PathBuf, u64)>,
    whole: Vec<Whole>,
}

impl<'a> Output<'a> {
    /// Files with their lengths. All names must be free.
    pub(super) fn files(parts: Vec<(PathBuf, u64)>) -> Result<Self> {
        for (path, _) in &parts {
            refuse_existing(path)?;
        }
        // The hash of an only file is that of the stream.
        let hashed = parts.len() > 1;
        let mut files = Files { current: None, coming: parts.into_iter(), whole: Vec::new() };
        files.next(hashed)?;
        Ok(Self::Files(Box::new(files)))
    }

    pub(super) fn stream(out: &'a mut dyn io::Write) -> Self {
        Self::Stream(out)
    }

    /// Writes bytes, or leaves a hole where they are `zeros`.
    pub(super) fn write(&mut self, bytes: &[u8], zeros: bool) -> Result<()> {
        match self {
            Self::Files(files) => files.write(bytes, zeros),
            Self::Stream(out) => out.write_all(bytes).map_err(to_stream),
        }
    }

    /// Syncs everything and gives the files their names. `sha256` is that of all bytes.
    pub(super) fn end(self, sha256: Digest) -> Result<Vec<ExportedFile>> {
        match self {
            Self::Files(mut files) => {
                files.next(true)?;
                name_all(files.whole, sha256)
            }
            Self::Stream(out) => {
                out.flush().map_err(to_stream)?;
                Ok(Vec::new())
            }
        }
    }
}

fn to_stream(source: io::Error) -> Error {
    Error::Write { path: PathBuf::from("-"), source }
}

impl Files {
    /// Ends the file that is being written, and begins the next one.
    fn next(&mut self, hashed: bool) -> Result<()> {
        let next = match self.coming.next() {
            Some((path, length)) => Some((NewFile::begin(&path, hashed)?, length)),
            None => None,
        };
        if let Some((full, _)) = std::mem::replace(&mut self.current, next) {
            self.whole.push(full.end()?);
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], zeros: bool) -> Result<()> {
        while !bytes.is_empty() {
            if self.current.as_ref().is_some_and(|(file, length)| file.size() >= *length) {
                self.next(true)?;
            }
            let (file, length) = self.current.as_mut().ok_or(Error::Stopped)?;
            let room = usize::try_from(length.saturating_sub(file.size())).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            if zeros {
                file.skip(now);
            } else {
                file.write(now)?;
            }
            bytes = rest;
        }
        Ok(())
    }
}
