//! `exhibit custody retain`: says how long evidence must be kept.

use custody::aftercare::{Day, NewRetention};

use super::{about, day};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Say how long a case or exhibit must be kept, and by whose word
///
/// The newest word for an exhibit and the newest for its whole case both hold it: it may go only when both let it.
/// `exhibit list` shows what is due.
///
/// Example: exhibit custody retain ir-2026-017 --until 2031-12-31 --authority "Retention policy 7.2"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, or CASE:E001 for one exhibit
    #[arg(value_name = "CASE[:E001]")]
    target: String,
    /// The last day it must be kept, UTC: 2031-12-31
    #[arg(long, value_name = "DATE", value_parser = day, required_unless_present = "after")]
    until: Option<Day>,
    /// The event that must have come first, such as "final judgment"; with --until, whichever is later
    #[arg(long, value_name = "EVENT")]
    after: Option<String>,
    /// The law, order or policy that says so
    #[arg(long, value_name = "TEXT")]
    authority: String,
    /// The day when somebody must look at it again
    #[arg(long, value_name = "DATE", value_parser = day)]
    review: Option<Day>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let new = NewRetention {
        exhibit: about(&target)?,
        until: args.until,
        after: args.after.clone().unwrap_or_default(),
        review: args.review,
        authority: args.authority.clone(),
        reason: args.reason.clone(),
    };
    let entry = new.entry().map_err(|error| Failure::usage(error.to_string()))?;
    super::say_appended(&super::append_to_case(&target, &entry, session)?, session)?;
    Ok(Outcome::Done)
}
