//! `exhibit jobs cancel`

use respond::jobs::cancel;
use serde_json::json;

use super::{Config, job_number, now, this_person};
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// End a job: what runs is stopped, nothing more is begun, and what was captured stays
///
/// What was isolated stays so until its time is over; with --undo it is taken back at once. An isolation that has not come to its
/// end is taken back in any case.
///
/// Example: exhibit jobs cancel J000017 --undo --config /etc/exhibit/serve.toml
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The job, as J000017
    #[arg(value_parser = job_number)]
    job: i64,
    /// Take back what the job has isolated
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    config: Config,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (_, state) = args.config.state()?;
    let person = this_person()?;
    cancel(&state, &person, args.job, args.undo, now(session))?;
    if session.ui.is_json() {
        session.ui.document(&json!({"by": person.name, "cancelled": true}))?;
    } else {
        session.ui.say("the service ends it as soon as it sees this");
    }
    Ok(Outcome::Done)
}
