//! What can stop an acquisition. What does not stop it is an [`crate::Issue`].

use std::io;
use std::path::PathBuf;

use custody::{Digest, bundle};

/// Why an acquisition could not begin or could not end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source could not be opened for reading.
    #[error("failed to open source {path:?} for reading")]
    OpenSource {
        /// The source.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source is of a kind that cannot be acquired this way.
    #[error("cannot acquire {path:?}: {reason}")]
    NotASource {
        /// The source.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// One part of a split image is not there.
    #[error("part {path:?} of the split image {of:?} is missing")]
    MissingPart {
        /// The part.
        path: PathBuf,
        /// The part that was given.
        of: PathBuf,
    },
    /// No way to read this machine's memory works, or not the one that was asked for.
    #[error("this machine's memory cannot be read{wanted}\n{forecast}")]
    NoMemory {
        /// The way that was asked for, as ` by /dev/mem`.
        wanted: String,
        /// Every way, and why it does not work.
        forecast: String,
    },
    /// A file is no image of memory that can be acquired this way.
    #[error("cannot acquire {path:?} as memory: {reason}")]
    NotMemory {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The artefacts of a triage are not what they should be.
    #[error(transparent)]
    Artefacts(crate::triage::ArtefactError),
    /// A source that gives each byte once failed, so the rest of it is lost.
    #[error("source {name} failed at byte {offset}: what was read before is kept in the open bundle")]
    SourceLost {
        /// The source.
        name: String,
        /// Bytes read before.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The place that the bundle is written to is full.
    #[error("no space left for the bundle: what was stored stays, and the bundle stays OPEN")]
    NoSpace(#[source] bundle::Error),
    /// The bundle could not be written.
    #[error("failed to write the bundle")]
    Bundle(#[source] bundle::Error),
    /// The custody log or the case could not be used.
    #[error("failed to keep the custody of the exhibit")]
    Custody(#[source] custody::Error),
    /// zstd could not compress.
    #[error("failed to compress")]
    Compress(#[source] io::Error),
    /// The system gave no thread.
    #[error("failed to start a thread")]
    Thread(#[source] io::Error),
    /// A person asked for a pause.
    #[error("paused: what was read is kept in the open bundle")]
    Paused,
    /// An acquisition that was cut short cannot go on from here.
    #[error("cannot resume exhibit {exhibit}: {reason}")]
    NotResumable {
        /// Id of the exhibit.
        exhibit: String,
        /// Why.
        reason: String,
    },
    /// Files of another tool cannot be imported so.
    #[error("cannot import {path:?}: {reason}")]
    NotImportable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A stream cannot be exported in that form.
    #[error("cannot export: {reason}")]
    NotExportable {
        /// Why, and what can be.
        reason: String,
    },
    /// A bundle cannot be put into an evidence store.
    #[error("cannot push {path:?}: {reason}")]
    NotPushable {
        /// The bundle.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something is there already under that name.
    #[error("refusing to overwrite {path:?}")]
    WouldOverwrite {
        /// What is there.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("failed to write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The bundle's files could not be read.
    #[error("failed to read the bundle")]
    ReadBundle(#[source] bundle::Error),
    /// The bundle does not hold what was acquired.
    #[error("the bundle does not verify")]
    NotVerified(#[source] bundle::Error),
    /// A stream is not the one that the manifest names.
    #[error("stream {stream:?} does not verify: its SHA-256 is {found}, but the manifest says {expected}")]
    StreamDiffers {
        /// Its name.
        stream: String,
        /// What the manifest says.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
    /// No region was named, and no configuration says one.
    #[error("no region is known for the cloud account")]
    NoRegion,
    /// A container cannot be acquired.
    #[error("cannot acquire container {id:?}: {reason}")]
    Container {
        /// What was asked for.
        id: String,
        /// Why.
        reason: String,
    },
    /// Logs in a cloud account cannot be acquired so.
    #[error("cannot acquire cloud logs: {what}")]
    CloudLogs {
        /// Why.
        what: String,
    },
    /// A grant cannot be used, or not be made so.
    #[error("the grant cannot be used: {reason}")]
    Grant {
        /// Why.
        reason: String,
    },
    /// A grant could not be made, and what was begun for it could not all be given up again.
    #[error("the grant could not be made, and what was begun for it is left in the store: {}", left.join("; "))]
    GrantLeft {
        /// What is left, each in words.
        left: Vec<String>,
        /// Why it could not be made.
        source: Box<Error>,
    },
    /// A cloud service did not do what it was asked.
    #[cfg(feature = "cloud")]
    #[error(transparent)]
    Cloud(#[from] crate::aws::Failure),
    /// A part of the pipeline ended early; its own error is reported instead of this one wherever there is one.
    #[error("the acquisition was stopped")]
    Stopped,
}

/// The result of an act of acquisition.
pub type Result<T> = std::result::Result<T, Error>;

impl From<bundle::Error> for Error {
    fn from(error: bundle::Error) -> Self {
        if error.is_no_space() { Self::NoSpace(error) } else { Self::Bundle(error) }
    }
}

impl From<custody::Error> for Error {
    fn from(error: custody::Error) -> Self {
        Self::Custody(error)
    }
}

impl Error {
    /// What failed when a sealed bundle was read.
    pub(crate) fn of_reading(error: bundle::Error) -> Self {
        use bundle::Error as Cause;
        let is_gone = |source: &io::Error| {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
        };
        match error {
            Cause::Chunk { .. }
            | Cause::Altered { .. }
            | Cause::Table { .. }
            | Cause::Manifest { .. }
            | Cause::NotAsSealed { .. } => Self::NotVerified(error),
            Cause::Read { ref source, .. } if is_gone(source) => Self::NotVerified(error),
            _ => Self::ReadBundle(error),
        }
    }

    /// Whether it says that evidence is not what was acquired.
    #[must_use]
    pub fn is_not_verified(&self) -> bool {
        matches!(self, Self::NotVerified(_) | Self::StreamDiffers { .. })
    }
}
