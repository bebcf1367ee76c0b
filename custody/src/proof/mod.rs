//! Proofs that leave the evidence behind: small files that anybody can check without the case, the bundle or us.
//!
//! - [`TlogProof`]: an entry is in a log (C2SP `tlog-proof`).
//! - [`ForkProof`]: somebody signed two histories of one log.
//!
//! Each is checked from its own bytes. Whose key it was is for the reader to know: a check gives the keys that signed,
//! and says nothing of who holds them.

mod fork;
mod tlog;

pub use fork::{ForkProof, Forked};
pub(crate) use fork::{Head, ProvedLine};
pub use tlog::TlogProof;
