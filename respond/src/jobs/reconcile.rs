//! What is set right when the service starts: jobs that had a worker get one again, and those that never come further are given up.

use std::sync::PoisonError;

use super::ending::give_up_begun;
use super::runner::Service;
use crate::error::Result;
use crate::state::jobs::{self, Job, JobState};

/// Returns every job that was running to the queue. Its steps that were begun are begun again, each with its intents.
pub(super) fn at_start(service: &Service) -> Result<()> {
    for id in service.state.with(jobs::running)? {
        give_back(service, id, "the service ended while it ran")?;
    }
    Ok(())
}

/// Returns every job to the queue that counts as running though no worker has it: its worker could not write down what became of it.
pub(super) fn without_worker(service: &Service) -> Result<()> {
    let left: Vec<i64> = {
        // While this is held no worker takes a job.
        let at_work = service.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let running = service.state.with(jobs::running)?;
        running.into_iter().filter(|id| !at_work.contains(id)).collect()
    };
    for id in left {
        give_back(service, id, "its worker could not write down what became of it")?;
    }
    Ok(())
}

/// Returns a job that could not be worked on, to be tried again after a while that grows.
pub(super) fn give_back_later(service: &Service, job: &Job, why: &str) -> Result<()> {
    give_back_at(service, job, why, true)
}

fn give_back(service: &Service, id: i64, why: &str) -> Result<()> {
    let found = service.state.change(|connection| match jobs::of(connection, id) {
        Err(error @ rusqlite::Error::SqliteFailure(..)) => Err(error),
        Err(error) => {
            let why = format!("what is kept of it cannot be read: {error}");
            jobs::set_state(connection, id, JobState::Dead, &why, service.acting.now(), 0)?;
            Ok(Err(why))
        }
        Ok(found) => Ok(Ok(found)),
    })?;
    match found {
        Ok(Some(job)) => give_back_at(service, &job, why, false),
        Ok(None) => Ok(()),
        Err(why) => {
            service.acting.tell("job given up", &jobs::name_of(id), &[("why", why.into())]);
            Ok(())
        }
    }
}

/// After too many attempts without coming further it is a dead letter.
fn give_back_at(service: &Service, job: &Job, why: &str, later: bool) -> Result<()> {
    let now = service.acting.now();
    let (attempt, is_dead) = service.state.change(|connection| {
        // Read anew: a step that came further since the job was taken counts.
        let attempt = jobs::attempt_of(connection, job.id)?.saturating_add(1);
        let is_dead = attempt >= service.settings.jobs.attempts.max(1);
        let pause = 1i64.checked_shl(attempt.saturating_sub(1).min(8)).unwrap_or(256);
        let (state, next_at) = if is_dead {
            (JobState::Dead, 0)
        } else if later {
            (JobState::Waiting, now.saturating_add(pause.saturating_mul(1_000_000_000)))
        } else {
            (JobState::Queued, 0)
        };
        jobs::set_attempt(connection, job.id, attempt)?;
        let words =
            if is_dead { format!("given up after {attempt} attempts: {why}") } else { why.to_owned() };
        // Steps that cannot be read are no reason to go on with them for ever.
        if is_dead
            && let Err(error @ rusqlite::Error::SqliteFailure(..)) =
                give_up_begun(connection, job, &words, now)
        {
            return Err(error);
        }
        jobs::set_state(connection, job.id, state, &words, now, next_at)?;
        Ok((attempt, is_dead))
    })?;
    let what = if is_dead { "job given up" } else { "job returned" };
    service.acting.tell(what, &job.name(), &[("attempt", attempt.into()), ("why", why.into())]);
    Ok(())
}
