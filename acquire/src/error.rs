//! What can stop an acquisition. What does not stop it is an [`crate::Issue`].

use std::io;
use std::path::PathBuf;

use custody::bundle;

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
