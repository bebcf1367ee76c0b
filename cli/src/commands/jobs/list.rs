//! `exhibit jobs list`

use respond::jobs::Overview;
use respond::state::jobs::{Job, JobState};
use serde_json::json;

use super::{Config, time};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::ui::{count, printable};

/// List jobs, the newest first
///
/// Dead ones were given up after too many attempts; failed ones have a step that failed. Both wait for somebody.
///
/// Example: exhibit jobs list --config /etc/exhibit/serve.toml --state dead --state failed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: Config,
    /// Only those that are queued, running, waiting, done, failed, dead, cancelled, observed or refused; may be given again
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<JobState>,
    /// No more than this
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

fn state(word: &str) -> Result<JobState, String> {
    let words: Vec<&str> = JobState::ALL.iter().map(|state| state.word()).collect();
    let found = JobState::ALL.into_iter().find(|state| state.word() == word);
    found.ok_or_else(|| format!("it is one of {}", words.join(", ")))
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (_, state) = args.config.state()?;
    let jobs = Overview::list(&state, &args.state, args.limit)?;
    if session.ui.is_json() {
        let documents = jobs.iter().map(document).collect::<Vec<_>>();
        session.ui.document(&documents.into())?;
    } else {
        let rows = jobs.iter().map(row).collect();
        session.ui.table(&["job", "made (UTC)", "state", "rule", "asset"], rows)?;
    }
    let waiting = jobs.iter().filter(|job| matches!(job.state, JobState::Dead | JobState::Failed)).count();
    if waiting > 0 {
        session.ui.say(&format!(
            "{} for somebody: exhibit jobs show JOB says why",
            count(waiting as u64, "job waits", "jobs wait")
        ));
    }
    Ok(Outcome::Done)
}

fn row(job: &Job) -> Vec<String> {
    vec![
        job.name(),
        time(Some(job.created_at)),
        job.state.word().to_owned(),
        printable(&job.plan.rule, false),
        printable(&job.plan.asset.id, false),
    ]
}

pub(super) fn document(job: &Job) -> serde_json::Value {
    json!({
        "job": job.name(), "uuid": job.uuid, "state": job.state.word(), "why": job.why, "rule": job.plan.rule,
        "asset": job.plan.asset.id, "kind": job.plan.asset.kind, "severity": job.severity, "attempt": job.attempt,
        "created": custody::clock::rfc3339(job.created_at),
        "started": job.started_at.map(custody::clock::rfc3339),
        "ended": job.ended_at.map(custody::clock::rfc3339),
        "plan_sha256": job.plan_sha256, "case": job.case_folder,
    })
}
