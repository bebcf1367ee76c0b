//! What people say to jobs, from another process than the service: it looks at the state, and does as they say.

use custody::{EntryType, NewEntry};

use super::permission::approval_of;
use crate::error::{Error, Result};
use crate::rules::Mode;
use crate::state::approvals::{self, Answer};
use crate::state::jobs::{self, JobState};
use crate::state::{State, entries, leases, steps};

/// Who speaks, as the operating system knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's name.
    pub name: String,
    /// The groups that the user is in.
    pub groups: Vec<String>,
}

/// What they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The job.
    pub job: i64,
    /// The step, or empty for the whole plan.
    pub step: String,
    /// Yes or no.
    pub yes: bool,
    /// SHA-256 of what they were shown; `None` for what the job is now.
    pub bound_to: Option<String>,
}

/// Notes a yes or a no. Gives how many more must say yes.
///
/// It holds for what was asked, in its time, once: for another plan, after the time, or for something that is begun already it is
/// refused.
///
/// # Errors
///
/// [`Error::Refused`] with the reason, [`Error::State`].
pub fn approve(state: &State, person: &Person, said: &Said, now: i64) -> Result<u32> {
    let outcome = state.change(|connection| {
        let Some(job) = jobs::of(connection, said.job)? else {
            return Ok(Err(format!("there is no job {}", jobs::name_of(said.job))));
        };
        let Some(question) = approvals::about(connection, said.job, &said.step)? else {
            let what =
                if said.step.is_empty() { "the plan".to_owned() } else { format!("step {}", said.step) };
            return Ok(Err(format!("nobody is asked about {what} of {}", job.name())));
        };
        let is_bound = said.bound_to.as_ref().is_none_or(|shown| *shown == question.bound_to);
        let is_plan_same = !question.step.is_empty() || question.bound_to == job.plan_sha256;
        if !is_bound || !is_plan_same {
            return Ok(Err("the plan has changed since; look at it again".to_owned()));
        }
        if question.answer != Answer::Open {
            return Ok(Err(format!("it is {} already", question.answer.word())));
        }
        if now >= question.until {
            return Ok(Err("the time to say so is over".to_owned()));
        }
        let may = question.allowed.is_empty()
            || question.allowed.iter().any(|name| *name == person.name || person.groups.contains(name));
        if !may {
            return Ok(Err(format!("{} is not among {}", person.name, question.allowed.join(", "))));
        }
        if !approvals::say(connection, question.id, &person.name, said.yes, now)? {
            return Ok(Err(format!("{} has said something to it already", person.name)));
        }
        let yes = u32::try_from(approvals::yes_of(connection, question.id)?.len()).unwrap_or(u32::MAX);
        let missing = question.wanted.saturating_sub(yes);
        if !said.yes {
            approvals::set(connection, question.id, Answer::Refused)?;
        } else if missing == 0 {
            approvals::set(connection, question.id, Answer::Given)?;
        }
        let entry = NewEntry::new(EntryType::APPROVAL_GIVEN)
            .how("act", if said.yes { "approved" } else { "refused" })
            .how("by", person.name.as_str())
            .how("step", said.step.as_str())
            .how("bound_to", question.bound_to.as_str())
            .how("wanted", question.wanted)
            .result("missing", missing);
        entries::add(connection, said.job, &entry)?;
        jobs::wake(connection, said.job)?;
        Ok(Ok(missing))
    })?;
    outcome.map_err(|what| Error::Refused { what })
}

/// Ends a job: what runs is stopped, nothing more is begun. With `undo`, what it holds is taken back at once, and so is what a step
/// that is at work now comes to hold.
///
/// # Errors
///
/// [`Error::Refused`] when there is nothing to end, [`Error::State`].
pub fn cancel(state: &State, person: &Person, job: i64, undo: bool, now: i64) -> Result<()> {
    let outcome = state.change(|connection| {
        let Some(found) = jobs::of(connection, job)? else {
            return Ok(Err(format!("there is no job {}", jobs::name_of(job))));
        };
        let held = if undo { leases::end_now(connection, job, now)? } else { 0 };
        if undo {
            leases::wish_undo(connection, job, true)?;
        }
        if found.state.has_ended() && held == 0 {
            return Ok(Err(format!("{} is {} already", found.name(), found.state.word())));
        }
        if !found.state.has_ended() {
            jobs::set_cancel(connection, job, Some(&format!("cancelled by {}", person.name)))?;
            jobs::wake(connection, job)?;
        }
        let entry = NewEntry::new(EntryType::NOTE)
            .how("by", person.name.as_str())
            .result("text", "the job was cancelled")
            .result("to_be_taken_back", held);
        entries::add(connection, job, &entry)?;
        Ok(Ok(()))
    })?;
    outcome.map_err(|what| Error::Refused { what })
}

/// Queues a job again that failed, was given up or was cancelled: its steps that are not done are tried anew. Says whether people
/// must say yes to it again first, as they must where the mode of its plan is `approve`.
///
/// # Errors
///
/// [`Error::Refused`] when it has not ended, has nothing left to do, or has something to be taken back first;
/// [`Error::State`].
pub fn retry(state: &State, person: &Person, job: i64, now: i64) -> Result<bool> {
    let outcome = state.change(|connection| {
        let Some(found) = jobs::of(connection, job)? else {
            return Ok(Err(format!("there is no job {}", jobs::name_of(job))));
        };
        if !matches!(found.state, JobState::Failed | JobState::Dead | JobState::Cancelled | JobState::Done) {
            return Ok(Err(format!("{} is {}", found.name(), found.state.word())));
        }
        if let Some(step) = leases::being_taken_back(connection, job, now)? {
            let why = "try again once that is done; jobs show says how far it is";
            return Ok(Err(format!(
                "what step {step} of {} did is still being taken back: {why}",
                found.name()
            )));
        }
        let reset = steps::reset_failed(connection, job)?;
        if reset == 0 && found.state != JobState::Dead {
            return Ok(Err(format!("all steps of {} are done", found.name())));
        }
        approvals::withdraw(connection, job)?;
        let is_asked = found.plan.mode == Mode::Approve;
        if is_asked {
            // The yes of before was for that run, or there was none.
            let approval = approval_of(&found.plan);
            approvals::ask(connection, job, "", &found.plan_sha256, &approval, now)?;
        }
        jobs::set_cancel(connection, job, None)?;
        leases::wish_undo(connection, job, false)?;
        jobs::set_attempt(connection, job, 0)?;
        // What waits for a time since the beginning waits anew.
        jobs::set_started(connection, job, None)?;
        jobs::set_state(connection, job, JobState::Queued, "", now, 0)?;
        let entry = NewEntry::new(EntryType::NOTE)
            .how("by", person.name.as_str())
            .result("text", "the job is tried again")
            .result("approval_wanted", is_asked);
        entries::add(connection, job, &entry)?;
        Ok(Ok(is_asked))
    })?;
    outcome.map_err(|what| Error::Refused { what })
}
