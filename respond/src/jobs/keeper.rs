//! Keeps times: leases that are over are taken back, and logs get what came when nobody worked on their job.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use custody::{EntryType, NewEntry};
use serde_json::Map;

use super::case_of_job::{case_of, write_entries};
use super::ending::told;
use super::runner::{Service, in_words};
use super::step_run::StepRun;
use crate::error::Result;
use crate::state::jobs::{self, Job};
use crate::state::leases::{self, Lease};
use crate::state::{alerts, entries, steps};

const SECOND: i64 = 1_000_000_000;
/// After that many failures a person must look; it is tried on all the same.
const STUCK_AFTER: u32 = 10;
const LONGEST_PAUSE: i64 = 300;

/// Does what is due; says how much that was.
pub(super) fn keep_next(service: &Service) -> Result<usize> {
    for id in service.state.with(entries::jobs_behind)? {
        let Some(job) = service.state.with(|connection| jobs::of(connection, id))? else { continue };
        let case = case_of(&job, &service.settings, &service.state, &service.acting)?;
        if let Err(error) = write_entries(&case, &job, &service.state, &service.acting, true) {
            let facts = [("why", in_words(&error).into())];
            service.acting.tell("log could not be written", &job.name(), &facts);
        }
    }
    let now = service.acting.now();
    let Some(lease) = service.state.with(|connection| leases::due(connection, now))? else { return Ok(0) };
    take_back(service, &lease)?;
    Ok(1)
}

fn take_back(service: &Service, lease: &Lease) -> Result<()> {
    let job = service.state.with(|connection| jobs::of(connection, lease.job))?;
    let Some(job) = job else { return Ok(()) };
    let undone = undo(service, &job, lease)?;
    let now = service.acting.now();
    let facts = |why: &str| [("step", lease.step.clone().into()), ("why", why.into())];
    match undone {
        Ok(given) => {
            let entry = NewEntry::new(EntryType::ISOLATION_UNDONE)
                .how("step", lease.step.as_str())
                .how("use", lease.word.as_str())
                .how("asset", jobs::asset_text(&job.plan).unwrap_or_default())
                .how("why", "its time was over")
                .result("done", told(&given));
            let entry = crate::isolate::case_log::named(entry, &job.name(), &lease.step, &lease.word);
            service.state.change(|connection| {
                leases::ended(connection, lease, now)?;
                entries::add(connection, job.id, &entry)
            })?;
            service.acting.tell("taken back", &job.name(), &facts(""));
        }
        Err(failed) => {
            let tries = lease.tries.saturating_add(1);
            let is_stuck = !failed.may_help_again || tries >= STUCK_AFTER;
            let pause = 5i64.saturating_mul(1i64.checked_shl(tries.min(10)).unwrap_or(1)).min(LONGEST_PAUSE);
            let not_before = now.saturating_add(pause.saturating_mul(SECOND));
            service
                .state
                .with(|connection| leases::failed(connection, lease, is_stuck, &failed.what, not_before))?;
            let what = if is_stuck { "cannot be taken back" } else { "not taken back yet" };
            service.acting.tell(what, &job.name(), &facts(&failed.what));
        }
    }
    Ok(())
}

fn undo(
    service: &Service,
    job: &Job,
    lease: &Lease,
) -> Result<std::result::Result<serde_json::Value, crate::steps::Failed>> {
    let alert = service.state.with(|connection| alerts::of(connection, job.alert))?;
    let alert = alert.map(|stored| stored.alert).unwrap_or_default();
    let case = case_of(job, &service.settings, &service.state, &service.acting)?;
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
