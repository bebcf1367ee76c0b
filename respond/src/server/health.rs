//! Whether alerts would be kept if they came now: the state is written to, and the disk has room.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::state::State;

/// An answer is good for so long, so that asking does not become work.
const FRESH: Duration = Duration::from_secs(1);

/// What is looked at.
#[derive(Debug)]
pub(super) struct Health {
    folders: Vec<PathBuf>,
    least_free: u64,
    last: Mutex<Option<(Instant, Vec<String>)>>,
}

impl Health {
    pub(super) fn new(folders: Vec<PathBuf>, least_free: u64) -> Self {
        Self { folders, least_free, last: Mutex::new(None) }
    }

    /// What is wrong; nothing if all is well. The state is written to and committed.
    pub(super) fn faults(&self, state: &State) -> Vec<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, faults)) = last.as_ref()
            && when.elapsed() < FRESH
        {
            return faults.clone();
        }
        let mut faults = Vec::new();
        if state.probe().is_err() {
            faults.push("the state cannot be written".to_owned());
        }
        for folder in &self.folders {
            match free(folder) {
                Ok(free) if free >= self.least_free => {}
                Ok(_) => faults.push("a disk is nearly full".to_owned()),
                Err(_) => faults.push("a folder cannot be looked at".to_owned()),
            }
        }
        *last = Some((Instant::now(), faults.clone()));
        faults
    }

    /// Bytes free in each folder.
    pub(super) fn free(&self) -> Vec<(&Path, u64)> {
        self.folders.iter().filter_map(|folder| Some((folder.as_path(), free(folder).ok()?))).collect()
    }
}

/// Bytes that we may still write in a folder.
fn free(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_state_that_cannot_be_written_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert!(Health::new(vec![folder.path().to_owned()], 1).faults(&state).is_empty());
        let full = Health::new(vec![folder.path().to_owned()], u64::MAX).faults(&state);
        assert_eq!(full, ["a disk is nearly full"]);
        let gone = Health::new(vec![folder.path().join("absent")], 1).faults(&state);
        assert_eq!(gone, ["a folder cannot be looked at"]);
        state.connection().execute_batch("PRAGMA query_only=ON").unwrap();
        assert_eq!(Health::new(vec![], 1).faults(&state), ["the state cannot be written"]);
    }
}
