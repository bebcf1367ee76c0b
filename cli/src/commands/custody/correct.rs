//! `exhibit custody correct`: corrects an entry, which itself is never changed.

use custody::{EntryType, NewEntry};

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Correct an entry: it stays, and the correction refers to it
///
/// Example: exhibit custody correct ir-2026-017 12 "the seal was 0043, not 0042"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// The number of the entry that is wrong
    #[arg(value_name = "ENTRY")]
    entry: u64,
    /// What is right
    text: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    super::must_be_there(&target, args.entry)?;
    let text = super::said(&args.text, "the correction")?;
    let entry = NewEntry::new(EntryType::CORRECTION).how("text", text).refers_to(args.entry);
    super::say_appended(&super::append(&target, &entry, session)?, session)?;
    Ok(Outcome::Done)
}
