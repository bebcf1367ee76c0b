//! `exhibit custody access`: records that somebody had evidence in hand outside this program.

use custody::aftercare::NewAccess;

use super::about;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target::Target;

/// Record an access that this program did not see: a safe opened, a copy mounted elsewhere
///
/// What is verified, queried, shown or exported with this program is an entry already.
///
/// Example: exhibit custody access ir-2026-017:E001 --by "Dr. Lee" --purpose "defence examination"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CASE, or CASE:E001 for one exhibit
    #[arg(value_name = "CASE[:E001]")]
    target: String,
    /// Who had access
    #[arg(long, value_name = "WHO")]
    by: String,
    /// What for
    #[arg(long, value_name = "TEXT")]
    purpose: String,
    /// Who allowed it
    #[arg(long, value_name = "TEXT", default_value = "")]
    authority: String,
    /// What was opened, such as the copy E001-C1
    #[arg(long, value_name = "TEXT", default_value = "")]
    item: String,
    /// Where
    #[arg(long, value_name = "PLACE", default_value = "")]
    at: String,
    /// With what: a tool, the key of the safe
    #[arg(long, value_name = "TEXT", default_value = "")]
    means: String,
    /// From when, as it was told
    #[arg(long, value_name = "TIME", default_value = "")]
    from: String,
    /// To when, as it was told
    #[arg(long, value_name = "TIME", default_value = "")]
    to: String,
    /// The number of the form, or another reference
    #[arg(long, value_name = "TEXT", default_value = "")]
    reference: String,
    /// What came of it
    #[arg(long, value_name = "TEXT", default_value = "")]
    outcome: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let target = Target::open(&args.target)?;
    let new = NewAccess {
        exhibit: about(&target)?,
        who: args.by.clone(),
        purpose: args.purpose.clone(),
        authority: args.authority.clone(),
        item: args.item.clone(),
        place: args.at.clone(),
        means: args.means.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        reference: args.reference.clone(),
        outcome: args.outcome.clone(),
    };
    let entry = new.entry().map_err(|error| Failure::usage(error.to_string()))?;
    super::say_appended(&super::append_to_case(&target, &entry, session)?, session)?;
    Ok(Outcome::Done)
}
