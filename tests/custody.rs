//! Custody as others meet it: whole logs, cases and bundles, damaged in every way we could think of, and checked by
//! tools that are not ours.

#![allow(clippy::print_stderr, reason = "a test that is skipped says why")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "custody/aftercare.rs"]
mod aftercare;
#[path = "custody/anchors.rs"]
mod anchors;
#[path = "custody/appending.rs"]
mod appending;
#[path = "custody/cases.rs"]
mod cases;
#[path = "custody/copies.rs"]
mod copies;
#[path = "custody/damage.rs"]
mod damage;
#[cfg(feature = "age")]
#[path = "custody/encryption.rs"]
mod encryption;
#[path = "custody/handovers.rs"]
mod handovers;
#[path = "custody/keys_of_a_log.rs"]
mod keys_of_a_log;
#[path = "custody/other_implementations.rs"]
mod other_implementations;
#[path = "custody/other_tools.rs"]
mod other_tools;
#[path = "custody/proofs.rs"]
mod proofs;
#[cfg(feature = "pdf")]
#[path = "custody/report_pdf.rs"]
mod report_pdf;
#[path = "custody/reports.rs"]
mod reports;
#[path = "custody/ssh.rs"]
mod ssh;
#[path = "custody/support.rs"]
mod support;
#[path = "custody/tamper/mod.rs"]
mod tamper;
#[path = "support/test_authority.rs"]
mod test_authority;
#[path = "custody/threats.rs"]
mod threats;
#[path = "custody/time_stamps.rs"]
mod time_stamps;
#[path = "custody/truncation.rs"]
mod truncation;
