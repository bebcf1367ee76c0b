//! Keeps times: leases that are over are taken back, and logs get what came when nobody worked on their job.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use custody::{EntryType, NewEntry};
use serde_json::Map;

use super::case_of_job::{case_of, write_entries};
use super::ending::told;
use super::reconcile;
use super::runner::{Service, in_words};
use super::step_run::StepRun;
use crate::error::{Error, Result};
use crate::state::jobs::{self, Job};
use crate::state::leases::{self, Lease};
use crate::state::steps::{self, StepState};
use crate::state::{alerts, entries};
use crate::steps::{Failed, named};

const SECOND: i64 = 1_000_000_000;
/// After that many failures a person must look; it is tried on all the same, though more rarely.
const STUCK_AFTER: u32 = 10;
const LONGEST_PAUSE: i64 = 300;

/// A lease that is stuck is tried again after that: somebody may have mended what kept it from being taken back.
const STUCK_PAUSE: i64 = 900;
/// Logs that are written in one turn, at most, so that leases do not wait for them.
const MOST_LOGS: usize = 20;

/// Jobs whose log could not be written: when it is tried again, and how often it was.
pub(super) type Later = BTreeMap<i64, (i64, u32)>;

/// Does what is due; says how much that was. Leases come first, and no failure of a log keeps them waiting.
pub(super) fn keep_next(service: &Service) -> Result<usize> {
    let now = service.acting.now();
    service.state.with(|connection| leases::begin_by_now(connection, now))?;
    let due = service.state.with(|connection| leases::due(connection, now))?;
    if let Some(lease) = &due
        && let Err(error) = take_back(service, lease)
    {
        // Of whatever kind: the next one is not to wait for it.
        failed(service, lease, &jobs::name_of(lease.job), &Failed::for_now(in_words(&error)))?;
    }
    reconcile::without_worker(service)?;
    write_logs(service)?;
    Ok(usize::from(due.is_some()))
}

/// Writes what logs lack of jobs that nobody works on.
fn write_logs(service: &Service) -> Result<()> {
    let behind = service.state.with(entries::jobs_behind)?;
    let mut later = service.logs_later.lock().unwrap_or_else(PoisonError::into_inner);
    later.retain(|id, _| behind.binary_search(id).is_ok());
    let now = service.acting.now();
    let is_due = |id: &&i64| later.get(*id).is_none_or(|(at, _)| *at <= now);
    let due: Vec<i64> = behind.iter().filter(is_due).copied().take(MOST_LOGS).collect();
    for id in due {
        let Err(error) = write_log(service, id) else { continue };
        let tries = later.get(&id).map_or(0, |(_, tries)| *tries).saturating_add(1);
        later.insert(id, (now.saturating_add(pause_after(tries)), tries));
        let facts = [("why", in_words(&error).into())];
        service.acting.tell("log could not be written", &jobs::name_of(id), &facts);
    }
    Ok(())
}

fn write_log(service: &Service, id: i64) -> Result<()> {
    let Some(job) = service.state.with(|connection| jobs::of(connection, id))? else { return Ok(()) };
    let case = case_of(service, &job)?;
    write_entries(service, &case, &job, true)
}

/// Nanoseconds after so many failures.
fn pause_after(tries: u32) -> i64 {
    let seconds = 5i64.saturating_mul(1i64.checked_shl(tries.min(10)).unwrap_or(1)).min(LONGEST_PAUSE);
    seconds.saturating_mul(SECOND)
}

fn take_back(service: &Service, lease: &Lease) -> Result<()> {
    let job = service.state.with(|connection| jobs::of(connection, lease.job))?;
    let job = job.ok_or_else(|| Error::Refused { what: "the job is gone".to_owned() })?;
    let given = match undo(service, &job, lease)? {
        Ok(given) => given,
        Err(why) => return failed(service, lease, &job.name(), &why),
    };
    let now = service.acting.now();
    let why = service.state.with(|connection| {
        let rows = steps::of(connection, job.id)?;
        let is_half = rows.iter().any(|row| row.plan.id == lease.step && row.state != StepState::Done);
        Ok(match (is_half, leases::is_undo_wished(connection, job.id)?) {
            (true, _) => "the step did not come to its end",
            (false, true) => "a person ended the job and wanted it taken back",
            (false, false) => "its time was over",
        })
    })?;
    let isolates = named(&lease.word).is_some_and(|step| step.isolates());
    let kind = if isolates { EntryType::ISOLATION_UNDONE } else { EntryType::NOTE };
    let mut entry = NewEntry::new(kind)
        .how("step", lease.step.as_str())
        .how("use", lease.word.as_str())
        .how("asset", jobs::asset_text(&job.plan).unwrap_or_default())
        .how("why", why)
        .result("taken back", told(&given));
    if isolates {
        entry = crate::isolate::case_log::named(entry, &job.name(), &lease.step, &lease.word);
    }
    service.state.change(|connection| {
        if leases::ended(connection, lease, now)? {
            // What was recorded before is no longer what is to be restored.
            steps::intend(connection, job.id, &lease.step, now, &steps::taken_back())?;
        }
        entries::add(connection, job.id, &entry)
    })?;
    service.acting.tell("taken back", &job.name(), &[("step", lease.step.clone().into())]);
    Ok(())
}

fn failed(service: &Service, lease: &Lease, job: &str, failed: &Failed) -> Result<()> {
    let tries = lease.tries.saturating_add(1);
    let is_stuck = !failed.may_help_again || tries >= STUCK_AFTER;
    let pause = if is_stuck { STUCK_PAUSE.saturating_mul(SECOND) } else { pause_after(tries) };
    let not_before = service.acting.now().saturating_add(pause);
    service.state.with(|connection| leases::failed(connection, lease, is_stuck, &failed.what, not_before))?;
    let what = if is_stuck { "cannot be taken back" } else { "not taken back yet" };
    let facts = [("step", lease.step.clone().into()), ("why", failed.what.clone().into())];
    service.acting.tell(what, job, &facts);
    Ok(())
}

fn undo(
    service: &Service,
    job: &Job,
    lease: &Lease,
) -> Result<std::result::Result<serde_json::Value, Failed>> {
    let alert = service.state.with(|connection| alerts::of(connection, job.alert))?;
    let alert = alert.map(|stored| stored.alert).unwrap_or_default();
    let case = case_of(service, job)?;
    let rows = service.state.with(|connection| steps::of(connection, job.id))?;
    let parameters = rows.into_iter().find(|row| row.plan.id == lease.step);
    let parameters = parameters.map_or_else(Map::new, |row| row.plan.parameters);
    let (earlier, stop) = (BTreeMap::new(), AtomicBool::new(false));
    let run = StepRun {
        service,
        job,
        alert: &alert,
        case: &case,
        id: &lease.step,
        word: &lease.word,
        parameters: &parameters,
        lease: 0,
        earlier: &earlier,
        stop: &stop,
    };
    Ok(run.undo(&lease.recorded))
}
