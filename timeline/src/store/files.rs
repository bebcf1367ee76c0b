//! Files of the timeline: written whole under another name, flushed to disk, then renamed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::Error;

/// Makes an [`Error::File`] of what the system said about `path`.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

/// Makes `folder` and those above it.
pub(super) fn make_folder(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(failed("create", folder))
}

/// Removes a folder with all that is in it; one that is not there is fine.
pub(super) fn remove_folder(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Puts a finished file in its place: on disk before it has its name, its name on disk before this returns.
pub(super) fn put_in_place(file: &File, temporary: &Path, path: &Path) -> Result<(), Error> {
    file.sync_all().map_err(failed("flush", temporary))?;
    std::fs::rename(temporary, path).map_err(failed("rename", temporary))?;
    path.parent().map_or(Ok(()), flush_folder)
}

/// Writes a small file atomically: whoever opens `path` sees the old bytes or the new ones.
pub(super) fn replace(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), Error> {
    for folder in [path.parent(), temporary.parent()].into_iter().flatten() {
        make_folder(folder)?;
    }
    let mut file = File::create(temporary).map_err(failed("create", temporary))?;
    file.write_all(bytes).map_err(failed("write", temporary))?;
    put_in_place(&file, temporary, path)
}

#[cfg(unix)]
fn flush_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("flush", folder))
}

/// Only Unix lets a program flush a folder.
#[cfg(not(unix))]
fn flush_folder(_folder: &Path) -> Result<(), Error> {
    Ok(())
}
