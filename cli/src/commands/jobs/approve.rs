//! `exhibit jobs approve`

use respond::jobs::{Said, approve};
use serde_json::json;

use super::{Config, job_number, now, this_person};
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Say yes, or no, to a plan or to one step that waits for it
///
/// Who says so is the user of the operating system, who must be among those that the rule names, by name or by group; under sudo
/// the user who called it. It holds for
/// what is asked now, once: after its time, or when the plan has changed, it is refused.
///
/// Example: exhibit jobs approve J000017 --step isolate --config /etc/exhibit/serve.toml
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The job, as J000017
    #[arg(value_parser = job_number)]
    job: i64,
    /// The step; without it the whole plan
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
    /// Say no
    #[arg(long)]
    no: bool,
    /// Only if it is still what was looked at: the hash that jobs show gives
    #[arg(long, value_name = "SHA256")]
    bound_to: Option<String>,
    #[command(flatten)]
    config: Config,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (_, state) = args.config.state()?;
    let person = this_person()?;
    let step = args.step.clone().unwrap_or_default();
    let said = Said { job: args.job, step, yes: !args.no, bound_to: args.bound_to.clone() };
    let missing = approve(&state, &person, &said, now(session))?;
    let ui = session.ui;
    if ui.is_json() {
        ui.document(&json!({"by": person.name, "yes": said.yes, "missing": missing}))?;
    } else if !said.yes {
        ui.say(&format!("{} said no: it is not run", person.name));
    } else if missing == 0 {
        ui.say(&format!("{} said yes: it is run", person.name));
    } else {
        ui.say(&format!("{} said yes; {missing} more must", person.name));
    }
    Ok(Outcome::Done)
}
