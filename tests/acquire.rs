//! Acquisition from end to end: what goes in comes out, what cannot be read is named, and nothing is lost on the way.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and on standard error what it had to skip"
)]

#[path = "acquire/bad_sectors.rs"]
mod bad_sectors;
#[path = "acquire/custody_of_it.rs"]
mod custody_of_it;
#[path = "acquire/cut_short.rs"]
mod cut_short;
#[path = "acquire/disk.rs"]
mod disk;
#[cfg(feature = "cloud")]
#[path = "acquire/ebs.rs"]
mod ebs;
#[cfg(feature = "cloud")]
#[path = "acquire/ebs_faults.rs"]
mod ebs_faults;
#[path = "acquire/encryption.rs"]
mod encryption;
#[path = "acquire/export.rs"]
mod export;
#[cfg(feature = "cloud")]
#[path = "support/fault_server/mod.rs"]
mod fault_server;
#[path = "acquire/faulty_disk.rs"]
mod faulty_disk;
#[path = "acquire/files.rs"]
mod files;
#[path = "acquire/imaging.rs"]
mod imaging;
#[path = "acquire/import.rs"]
mod import;
#[path = "acquire/memory.rs"]
mod memory;
#[cfg(feature = "cloud")]
#[path = "support/moto.rs"]
mod moto;
#[path = "acquire/patience.rs"]
mod patience;
#[path = "acquire/resume.rs"]
mod resume;
#[path = "acquire/silent_folder.rs"]
mod silent_folder;
#[path = "acquire/support.rs"]
mod support;
#[path = "acquire/triage.rs"]
mod triage;
#[path = "acquire/triage_table.rs"]
mod triage_table;
