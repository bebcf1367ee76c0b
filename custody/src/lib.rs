//! Custody: what makes evidence hold in court.
//!
//! Digests, keys, the hash-chained custody log with its Merkle tree and signed checkpoints, evidence bundles,
//! the layout of a case, and the check of all of it from its files alone: no network, no clock, no settings.
//! The format is written so that a stranger can check everything with `sha256sum`, `zstd`, `jq` and `openssl`.

#![deny(unsafe_code)]

pub mod aftercare;
pub mod anchors;
pub mod bundle;
mod case;
pub mod case_layout;
mod case_lock;
pub mod checkpoint;
pub mod clock;
pub mod closing;
mod commission;
pub mod continuity;
mod custody_log;
pub mod digest;
mod durable_file;
mod entry;
mod error;
pub mod handover;
mod held_log;
pub mod keys;
mod log_head;
mod log_keys;
mod log_mirror;
mod log_story;
mod log_walk;
pub mod merkle;
pub mod parties;
pub mod proof;
pub mod report;
mod sign_command;
pub mod ssh;
pub mod strict_json;
mod strict_spelling;
mod timeline_check;
mod twin_hash;
pub mod verify;

pub use case::{Case, CaseFile, Exhibit, Logged, NewCase};
pub use case_lock::TimelineLock;
pub use checkpoint::{Checkpoint, SignedCheckpoint, SignedNote};
pub use clock::{Clock, FixedClock, Moment, SystemClock};
pub use commission::{Commission, LONGEST_COMMISSION};
pub use continuity::{Continuity, HeldSpan};
pub use custody_log::{Appended, CustodyLog, HOW_SINGLE_WRITER, LogContents, Writer};
pub use digest::{Digest, Hash256, Hasher, PortableHasher, sha256, sha256_portable};
pub use entry::{
    About, Actor, Entry, EntrySync, EntryTime, EntryType, Host, Identity, MAX_ENTRY, NewEntry, Subject, Tool,
    Why, uuid_v7,
};
pub use error::{Error, Result};
pub use keys::{Signer, SigningKey, VerifyingKey};
pub use log_keys::{HOW_FINGERPRINT, HOW_NAME, HOW_ORIGIN, HOW_REASON, HOW_TO_KEY, HOW_VKEY, KeyWindow};
pub use log_mirror::{HOW_STORE_ASSUMED, LogMirror, MirrorState, PutOnce, each_log_object, entry_path};
pub use sign_command::CommandSigner;
pub use timeline_check::TimelineState;
pub use twin_hash::TwinHasher;
