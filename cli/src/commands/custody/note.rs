//! `exhibit custody note`: appends a note.

use custody::{EntryType, NewEntry};

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Append a note
///
/// Example: exhibit custody note ir-2026-017 "disk handed to the lab, seal 0042 intact"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// What to note
    text: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let entry = NewEntry::new(EntryType::NOTE).how("text", args.text.as_str());
    super::say_appended(&super::append(&target, &entry, session)?, session)?;
    Ok(Outcome::Done)
}
