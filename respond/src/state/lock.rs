//! One writer: the state of a service belongs to one process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Result};

/// Held for as long as the service runs; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of a folder of state, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when another process has it, [`Error::Read`] when the folder cannot be used.
    pub fn take(folder: &Path) -> Result<Self> {
        super::make_folder(folder)?;
        let path = folder.join("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.map_err(|source| Error::Read { path: path.clone(), source })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path }),
            Err(source) => Err(Error::Read { path, source: source.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_service_is_refused_until_the_first_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path()).unwrap();
        assert!(matches!(StateLock::take(folder.path()), Err(Error::InUse { .. })));
        drop(first);
        StateLock::take(folder.path()).unwrap();
    }
}
