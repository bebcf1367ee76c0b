//! Files that are on the disk when we say so: written beside, synced, renamed, and their folder synced.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes a new file and syncs it; the folder is not synced.
///
/// # Errors
///
/// [`Error::WouldOverwrite`] when it is there already, else [`Error::Write`].
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let fault = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Error::WouldOverwrite { path: path.to_owned() },
        _ => Error::Write { path: path.to_owned(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)
}

/// Puts a file in place whole: a reader sees the old bytes or the new ones. The folder is not synced.
///
/// What lies at `temporary` is removed first, so that a link put there leads nowhere.
///
/// # Errors
///
/// [`Error::Write`].
pub(crate) fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<()> {
    let fault = |source| Error::Write { path: path.to_owned(), source };
    match std::fs::remove_file(temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
    std::fs::rename(temporary, path).map_err(fault)
}

/// Makes a folder unless it is there; a link in its place is refused.
///
/// # Errors
///
/// [`Error::Write`].
pub(crate) fn plain_folder(path: &Path) -> Result<()> {
    let fault = |source| Error::Write { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(fault(std::io::ErrorKind::NotADirectory.into())),
        Err(_) => std::fs::create_dir_all(path).map_err(fault),
    }
}

/// Whether there is a plain file: no folder, no link, and no pipe that would hold a reader for ever.
///
/// # Errors
///
/// [`Error::Read`] when something else is there.
pub(crate) fn is_plain_file(path: &Path) -> Result<bool> {
    let fault = |source| Error::Read { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(fault(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a plain file"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(fault(error)),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
///
/// [`Error::Write`].
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|file| file.sync_all())
        .map_err(|source| Error::Write { path: folder.to_owned(), source })
}

/// Reads a whole plain file that must not be larger than `most` bytes; `None` when it is not there.
///
/// # Errors
///
/// [`Error::Read`], also when it is larger or no plain file.
pub(crate) fn read_small(path: &Path, most: u64) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let fault = |source| Error::Read { path: path.to_owned(), source };
    if !is_plain_file(path)? {
        return Ok(None);
    }
    let file = File::open(path).map_err(fault)?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > most {
        let why = format!("larger than {most} bytes");
        return Err(fault(std::io::Error::new(std::io::ErrorKind::InvalidData, why)));
    }
    Ok(Some(bytes))
}
