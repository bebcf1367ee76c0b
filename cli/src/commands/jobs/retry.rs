//! `exhibit jobs retry`

use respond::jobs::retry;
use serde_json::json;

use super::{Config, job_number, now, this_person};
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Have a job tried again that failed, was given up or was cancelled: what is done already stays done
///
/// A plan that people had to say yes to is asked about again. While something that the job did is still being taken back, it is
/// refused.
///
/// Example: exhibit jobs retry J000017 --config /etc/exhibit/serve.toml
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The job, as J000017
    #[arg(value_parser = job_number)]
    job: i64,
    #[command(flatten)]
    config: Config,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (_, state) = args.config.state()?;
    let person = this_person()?;
    let is_asked = retry(&state, &person, args.job, now(session))?;
    if session.ui.is_json() {
        session.ui.document(&json!({"by": person.name, "queued": true, "approval_wanted": is_asked}))?;
    } else if is_asked {
        session.ui.say("it is queued again, and waits for a yes: an earlier one was for that run only");
    } else {
        session.ui.say("it is queued again");
    }
    Ok(Outcome::Done)
}
