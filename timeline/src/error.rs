//! What can go wrong when a timeline is built or asked.

use std::path::PathBuf;

/// Evidence that could not be read: the storage below it failed, not its content.
///
/// Damaged content is never a `ReadError`; it is a listed reject.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bundle, or the volume in it, did not give the bytes.
    #[error("failed to read {length} bytes at offset {offset} of {what}: {reason}")]
    Read {
        /// What was read: a stream, partition or file.
        what: String,
        /// Where, in bytes from its start.
        offset: u64,
        /// How many bytes were asked for.
        length: u64,
        /// What the layer below said.
        reason: String,
    },
    /// An image that another tool made does not give these bytes: a part of it is damaged or missing. All others can
    /// be read.
    #[error("{length} bytes at offset {offset} of {what} are lost: {reason}")]
    Lost {
        /// What was read: the disk in an image.
        what: String,
        /// Where, in bytes from its start.
        offset: u64,
        /// How many bytes are lost.
        length: u64,
        /// What is wrong with them.
        reason: String,
    },
    /// A compressed member did not decode beyond this place.
    #[error("failed to decompress {codec} data after {offset} decoded bytes: {reason}")]
    Decompress {
        /// `gzip`, `xz`, `bzip2` or `zstd`.
        codec: &'static str,
        /// How many decoded bytes were good.
        offset: u64,
        /// What the decoder said.
        reason: String,
    },
    /// A member that must be held in memory is larger than we hold.
    #[error("failed to hold {what}: it unpacks to more than {limit} bytes")]
    TooLarge {
        /// What was to be held.
        what: String,
        /// The limit, in bytes.
        limit: u64,
    },
}

/// A timeline that could not be built, stored or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Evidence could not be read.
    #[error("failed to read the evidence")]
    Read(#[from] ReadError),
    /// The bundle or case could not be opened or changed.
    #[error("failed to use the case")]
    Custody(#[from] custody::Error),
    /// The bundle could not be read.
    #[error("failed to read the bundle")]
    Bundle(#[from] custody::bundle::Error),
    /// A file of the timeline could not be read or written.
    #[error("failed to {action} {path:?}")]
    File {
        /// `read`, `write`, `create`, `rename` …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The case has no timeline yet.
    #[error("there is no timeline in {path:?}")]
    NoTimeline {
        /// The timeline folder looked for.
        path: PathBuf,
    },
    /// A timeline file does not hold what the manifest says.
    #[error("{path:?} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A query was refused by the engine.
    #[error("failed to run the query: {reason}")]
    Query {
        /// The engine's words.
        reason: String,
    },
    /// A value that the user gave is not usable.
    #[error("{what}")]
    Usage {
        /// What is wrong, in one line.
        what: String,
    },
}
