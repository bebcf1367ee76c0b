//! What is set right when the service starts: jobs that had a worker get one again, and those that never come further are given up.

use super::runner::Service;
use crate::error::Result;
use crate::state::jobs::{self, Job, JobState};

/// Returns every job that was running to the queue. Its steps that were begun are begun again, each with its intents.
pub(super) fn at_start(service: &Service) -> Result<()> {
    for job in service.state.with(jobs::running)? {
        give_back(service, &job, "the service ended while it ran")?;
    }
    Ok(())
}

/// Returns a job that could not be worked on, to be tried again after a while that grows.
pub(super) fn give_back_later(service: &Service, job: &Job, why: &str) -> Result<()> {
    let pause = 1i64.checked_shl(job.attempt.min(8)).unwrap_or(256).saturating_mul(1_000_000_000);
    let next_at = service.acting.now().saturating_add(pause);
    give_back_at(service, job, why, Some(next_at))
}

fn give_back(service: &Service, job: &Job, why: &str) -> Result<()> {
    give_back_at(service, job, why, None)
}

/// After too many attempts without coming further it is a dead letter.
fn give_back_at(service: &Service, job: &Job, why: &str, next_at: Option<i64>) -> Result<()> {
    let attempt = job.attempt.saturating_add(1);
    let is_dead = attempt >= service.settings.jobs.attempts.max(1);
    let state = match next_at {
        _ if is_dead => JobState::Dead,
        Some(_) => JobState::Waiting,
        None => JobState::Queued,
    };
    let now = service.acting.now();
    service.state.change(|connection| {
        jobs::set_attempt(connection, job.id, attempt)?;
        let words =
            if is_dead { format!("given up after {attempt} attempts: {why}") } else { why.to_owned() };
        jobs::set_state(connection, job.id, state, &words, now, next_at.unwrap_or(0))
    })?;
    let what = if is_dead { "job given up" } else { "job returned" };
    service.acting.tell(what, &job.name(), &[("attempt", attempt.into()), ("why", why.into())]);
    Ok(())
}
