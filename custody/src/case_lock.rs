//! The lock under which a case's timeline is built.

use std::fs::File;

use rustix::fs::FlockOperation;

use crate::case::Case;
use crate::error::{Error, Result};

/// Holds a case's timeline for one builder; released when dropped, or when the process ends in whatever way.
#[derive(Debug)]
pub struct TimelineLock(#[expect(dead_code, reason = "the open file holds the lock")] File);

impl Case {
    /// Takes the case's timeline for this process.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] while another process builds it, [`Error::Write`] when the folder cannot be made.
    pub fn lock_timeline(&self) -> Result<TimelineLock> {
        let path = crate::case_layout::timeline(self.folder());
        std::fs::create_dir_all(&path).map_err(|source| Error::Write { path: path.clone(), source })?;
        let folder = File::open(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        match rustix::io::retry_on_intr(|| {
            rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)
        }) {
            Ok(()) => Ok(TimelineLock(folder)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path }),
            Err(error) => Err(Error::Write { path, source: error.into() }),
        }
    }
}
