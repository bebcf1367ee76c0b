//! What can stop the service or one of its commands. What goes wrong within a job is in the job.

use std::io;
use std::path::PathBuf;

/// Why something could not be begun or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("failed to read {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of settings, rules or assets is not what it should be.
    #[error("{path:?}: {what}")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        what: String,
    },
    /// The state could not be read or written.
    #[error("the state in {path:?} could not be used")]
    State {
        /// The data base.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Another process holds the state.
    #[error("{path:?} is in use by another `exhibit serve`")]
    InUse {
        /// The lock.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("a thread could not be started")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// Something was asked of a job that cannot be.
    #[error("{what}")]
    Refused {
        /// Why, in a sentence.
        what: String,
    },
    /// A network address could not be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A case could not be made, read or written.
    #[error(transparent)]
    Custody(#[from] custody::Error),
    /// A cloud account refused or failed.
    #[error(transparent)]
    Acquire(#[from] acquire::Error),
}

/// What most of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
