//! What can go wrong in this crate: each variant is an action that failed, with its place.

use std::io;
use std::path::PathBuf;

/// The result of an action on evidence, keys or logs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An action that failed.
///
/// The text names the action, the path and the place; the cause is in [`std::error::Error::source`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("failed to read {path:?}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file or folder could not be written, synced or renamed.
    #[error("failed to write {path:?}")]
    Write {
        /// What was written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file or folder is there already and is never overwritten.
    #[error("refusing to overwrite {path:?}")]
    WouldOverwrite {
        /// What is there.
        path: PathBuf,
    },
    /// A JSON value or text is outside the strict profile.
    #[error("not strict JSON at byte {offset}: {why}")]
    StrictJson {
        /// Where in the text, as far as it is known.
        offset: usize,
        /// What is wrong.
        why: String,
    },
    /// A text that should hold a digest, time, key, note or proof does not.
    #[error("not a valid {what}: {why}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A file that we keep ourselves is not as we wrote it; it is left as it is.
    #[error("{path:?} is damaged and was left as it is: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A bundle could not be read.
    #[error(transparent)]
    Bundle(#[from] crate::bundle::Error),
    /// A key could not be read, or its passphrase is missing or wrong.
    #[error("failed to use key: {why}")]
    Key {
        /// What is wrong.
        why: String,
    },
    /// A signature does not fit its key and text.
    #[error("signature does not verify under key {fingerprint}")]
    Signature {
        /// The key it should be by.
        fingerprint: String,
    },
    /// An authority or witness gave no answer.
    #[error("failed to get an answer from {url}: {why}")]
    Post {
        /// Who was asked.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// A custody log does not fit its checkpoint, or has none; it takes no further entry.
    #[error("custody log {path:?} is broken and takes no entry: {why}")]
    LogBroken {
        /// The log.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A key may not sign this log.
    #[error("key {fingerprint} may not sign this custody log: {why}")]
    KeyNotIntroduced {
        /// The key.
        fingerprint: String,
        /// Why not.
        why: String,
    },
    /// A handover makes no sense: no such offer, answered already, signed by another than it names.
    #[error("the handover cannot be recorded: {why}")]
    Handover {
        /// Why not.
        why: String,
    },
    /// A log that was closed takes no such entry.
    #[error("the custody log {path:?} was closed by entry {closed}: it takes no {kind} any more")]
    Closed {
        /// The log.
        path: PathBuf,
        /// The entry that closed it.
        closed: u64,
        /// What was to be appended.
        kind: String,
    },
    /// An entry is in the local log and could not be put into the evidence store of its bundle.
    #[error("what is in the local log is not whole in {place}: {why}")]
    Mirror {
        /// The place in the store.
        place: String,
        /// Why.
        why: String,
    },
    /// A log lies where locks of other machines are not seen.
    #[error("{path:?} is on {kind}, where locks cannot be relied on; append with a single writer only")]
    SharedFilesystem {
        /// The log.
        path: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// Another process is at work in the case.
    #[error("{path:?} is in use by another process")]
    InUse {
        /// What it holds.
        path: PathBuf,
    },
    /// An exhibit must still be kept.
    #[error("{exhibit} may not be disposed of without an authority: {why}")]
    Retained {
        /// The exhibit.
        exhibit: String,
        /// What holds it.
        why: String,
    },
    /// The system gave no random bytes.
    #[error("failed to get random bytes from the system: {why}")]
    Random {
        /// What the system said.
        why: String,
    },
    /// A start-up check of this build's own cryptography failed; nothing it says can be relied on.
    #[error("self-test failed: {what}")]
    SelfTest {
        /// Which check.
        what: String,
    },
}

impl Error {
    /// A [`Error::Malformed`], shorter to write.
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { what, why: why.into() }
    }
}
