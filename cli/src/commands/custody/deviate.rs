//! `exhibit custody deviate`: records that something was not done as it should be.

use custody::{EntryType, NewEntry};

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Record a deviation from the procedure, and why
///
/// Example: exhibit custody deviate ir-2026-017:E001 "no write blocker at hand" --refs 3
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, a bundle's folder, or CASE:E001
    #[arg(value_name = "CASE|BUNDLE")]
    target: String,
    /// What was done otherwise, and why
    text: String,
    /// The entries that it is about, with commas between
    #[arg(long, value_name = "ENTRY", value_delimiter = ',')]
    refs: Vec<u64>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let text = super::said(&args.text, "the deviation")?;
    let mut entry = NewEntry::new(EntryType::DEVIATION).how("text", text);
    for seq in &args.refs {
        super::must_be_there(&target, *seq)?;
        entry = entry.refers_to(*seq);
    }
    super::say_appended(&super::append(&target, &entry, session)?, session)?;
    Ok(Outcome::Done)
}
