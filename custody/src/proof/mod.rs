//! Proofs that leave the evidence behind: small files that anybody can check without the case, the bundle or us.
//!
//! - [`TlogProof`]: an entry is in a log (C2SP `tlog-proof`).
//! - [`EvidenceProof`]: chunks, a file or an event's record are in a sealed bundle.
//! - [`ForkProof`]: somebody signed two histories of one log.
//!
//! Each is checked from its own bytes. Whose key it was is for the reader to know: a check gives the keys that signed,
//! and says nothing of who holds them.

mod evidence;
mod extract;
mod fork;
mod making;
mod tlog;

pub use evidence::{EvidenceProof, MOST_PROOF, Proved, ProvedPart, ProvedRecord, Seal};
pub use extract::{CHECK_PROOF, Extract, extract_entry, extract_exhibit, extract_file};
pub use fork::{ForkProof, Forked};
pub(crate) use fork::{Head, ProvedLine};
pub use making::{FoundFile, Prover};
pub use tlog::TlogProof;
