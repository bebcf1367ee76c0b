//! What can go wrong with a bundle's files.

use std::io;
use std::path::PathBuf;

/// Why a bundle could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the bundle could not be read.
    #[error("failed to read {path:?} of the bundle")]
    Read {
        /// Path inside the bundle.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the bundle could not be written; what was written before it stays.
    #[error("failed to write {path:?} of the bundle")]
    Write {
        /// Path inside the bundle.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds neither a manifest nor a custody log.
    #[error("no evidence bundle at {path:?}: it has neither manifest.json nor custody.jsonl")]
    NotABundle {
        /// The folder.
        path: PathBuf,
    },
    /// The bundle has not been sealed: its acquisition goes on, or was cut short.
    #[error("bundle {path:?} is OPEN: it was never sealed, so its acquisition is not complete")]
    NotSealed {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest is of a format that this build does not know.
    #[error("bundle format {format:?} is not known to this build, which reads \"exhibit-bundle/1\"")]
    UnknownFormat {
        /// The format that the manifest names.
        format: String,
    },
    /// The manifest says something that cannot be.
    #[error("manifest.json is corrupt: {reason}")]
    Manifest {
        /// What is wrong.
        reason: String,
    },
    /// The manifest in the folder is not the one that the custody log sealed.
    #[error("manifest.json has SHA-256 {found}, but the custody log sealed {sealed}")]
    NotAsSealed {
        /// Hash of the file there now.
        found: String,
        /// Hash that `bundle.sealed` names.
        sealed: String,
    },
    /// A line of a table or catalogue is corrupt.
    #[error("{path:?} is corrupt at line {line}: {reason}")]
    Table {
        /// Path inside the bundle.
        path: String,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A stored file is not the one that the manifest names.
    #[error("{path:?} is not the file that the manifest names: expected {expected}, found {found}")]
    Altered {
        /// Path inside the bundle.
        path: String,
        /// Size or hash in the manifest.
        expected: String,
        /// Size or hash of the file.
        found: String,
    },
    /// The bundle has no stream of that name.
    #[error("the bundle has no stream {name:?}")]
    NoStream {
        /// The name that was asked for.
        name: String,
    },
    /// A chunk's stored bytes do not give the chunk.
    #[error("chunk {index} of stream {stream:?} (bytes {start} to {end}) is damaged: {reason}")]
    Chunk {
        /// Name of the stream.
        stream: String,
        /// Number of the chunk.
        index: u64,
        /// First byte of the chunk in the stream.
        start: u64,
        /// The byte behind its last.
        end: u64,
        /// What is wrong.
        reason: String,
    },
    /// What was asked for is encrypted, and no identity was given.
    #[error("{path:?} is encrypted: an age identity of one of its recipients is needed to read it")]
    Encrypted {
        /// Path inside the bundle.
        path: String,
    },
    /// A recipient or an identity is not one.
    #[error("{reason}")]
    Protection {
        /// What is wrong, without anything secret.
        reason: String,
    },
    /// A file of recipients or identities could not be read.
    #[error("failed to read the age keys in {path:?}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The writer was asked for something that the format does not allow.
    #[error("cannot write the bundle: {reason}")]
    Refused {
        /// What the format does not allow.
        reason: String,
    },
}

/// The result of reading or writing a bundle.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn read(path: &str, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &str, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    pub(crate) fn table(path: &str, line: u64, reason: impl Into<String>) -> Self {
        Self::Table { path: path.to_owned(), line, reason: reason.into() }
    }

    pub(crate) fn manifest(reason: impl Into<String>) -> Self {
        Self::Manifest { reason: reason.into() }
    }

    /// Whether the place that the bundle is written to is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Write { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge))
    }
}
