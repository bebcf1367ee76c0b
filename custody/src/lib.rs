//! Custody: what makes evidence hold in court.
//!
//! Digests, keys, the hash-chained custody log with its Merkle tree and signed checkpoints, evidence bundles,
//! the layout of a case, and the check of all of it from its files alone: no network, no clock, no settings.
//! The format is written so that a stranger can check everything with `sha256sum`, `zstd`, `jq` and `openssl`.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod clock;
pub mod digest;
mod error;
pub mod keys;
pub mod merkle;
pub mod strict_json;

pub use clock::{Clock, FixedClock, Moment, SystemClock};
pub use digest::{Digest, Hash256, Hasher, PortableHasher, sha256, sha256_portable};
pub use error::{Error, Result};
pub use keys::{SigningKey, VerifyingKey};
