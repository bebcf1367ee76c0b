//! A command that the service runs ends when the service does.

use std::fs::File;

use rustix::fs::FlockOperation;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::args::Global;
use crate::failure::Failure;

/// Ties this process to its parent, where it was asked to. What is given is held until the end.
///
/// The lock is shared by all children of one service and waited for by the next one, so that never two of them work on one case.
/// In this order: whoever finds the parent alive holds the lock already.
pub(crate) fn follow(global: &Global) -> Result<Option<File>, Failure> {
    let gone = || Failure::new("the service that started this command has ended");
    let held = match &global.while_holding {
        None => None,
        Some(path) => {
            let file = File::open(path)
                .map_err(|error| Failure::new(format!("failed to open the lock {path:?}: {error}")))?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).map_err(|_| gone())?;
            Some(file)
        }
    };
    if let Some(parent) = global.die_with_parent {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
        if getppid().map(rustix::process::Pid::as_raw_pid) != Some(parent) {
            return Err(gone());
        }
    }
    Ok(held)
}
