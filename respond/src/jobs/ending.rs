//! What came of a step: the journal, the lease, and what the case's log is told, in one transaction.

use custody::clock::parse_rfc3339;
use custody::{EntryType, NewEntry};
use rusqlite::Connection;
use serde_json::Value;

use super::graph::pause_before;
use super::runner::Service;
use crate::error::Result;
use crate::state::jobs::{self, Job};
use crate::state::leases::{self, Lease};
use crate::state::steps::{self, StepRow, StepState};
use crate::state::{alerts, approvals, entries};
use crate::steps::{Failed, named};

/// How a run of a step ended.
pub(super) struct Ending<'a> {
    pub(super) job: &'a Job,
    pub(super) step: &'a str,
    pub(super) outcome: std::result::Result<Value, Failed>,
    /// Whether its time was over.
    pub(super) is_late: bool,
}

const SECOND: i64 = 1_000_000_000;
/// What an entry repeats of a result or a reason.
const MOST_TOLD: usize = 4000;

/// Writes down how a run of a step ended.
pub(super) fn record(service: &Service, ending: &Ending<'_>) -> Result<()> {
    let rows = service.state.with(|connection| steps::of(connection, ending.job.id))?;
    let Some(row) = rows.iter().find(|row| row.plan.id == ending.step) else { return Ok(()) };
    match &ending.outcome {
        Ok(given) => done(service, ending.job, row, given),
        // It is begun again at the next start: nothing is known of it but that it was cut short.
        Err(_) if service.is_stopping() => Ok(()),
        Err(failed) => failed_run(service, ending, row, failed),
    }
}

fn done(service: &Service, job: &Job, row: &StepRow, given: &Value) -> Result<()> {
    let now = service.acting.now();
    let plan = &row.plan;
    let step = named(&plan.word);
    let isolates = step.is_some_and(|step| step.isolates());
    let undoes = step.is_some_and(|step| step.undoes());
    service.state.change(|connection| {
        steps::end(connection, job.id, &plan.id, StepState::Done, Some(given), "", now)?;
        // It came further, so earlier attempts say nothing against it.
        jobs::set_attempt(connection, job.id, 0)?;
        if undoes {
            let seconds = i64::try_from(plan.lease).unwrap_or(i64::MAX).saturating_mul(SECOND);
            let until = (plan.lease > 0).then(|| now.saturating_add(seconds));
            // Whoever ended the job with the wish to take all back meant this too, which was at work then.
            let is_unwanted = leases::is_undo_wished(connection, job.id)?;
            let lease = Lease {
                job: job.id,
                step: plan.id.clone(),
                word: plan.word.clone(),
                recorded: given.clone(),
                since: now,
                until: if is_unwanted { Some(now) } else { until },
                state: String::new(),
                tries: 0,
                why: String::new(),
            };
            leases::hold(connection, &lease)?;
        }
        if isolates {
            let entry = about(EntryType::ISOLATION_DONE, job, row).result("recorded", told(given));
            let entry = entry.result("lease_seconds", plan.lease);
            let entry = crate::isolate::case_log::named(entry, &job.name(), &plan.id, &plan.word);
            entries::add(connection, job.id, &entry)?;
        } else if is_act(&plan.word) {
            entries::add(connection, job.id, &about(EntryType::NOTE, job, row).result("done", told(given)))?;
        }
        Ok(())
    })?;
    let begun = given.get("begun").and_then(Value::as_str).and_then(|begun| parse_rfc3339(begun).ok());
    let mut facts = vec![
        ("step", plan.id.clone().into()),
        ("use", plan.word.clone().into()),
        ("issues", given.get("issues").cloned().unwrap_or_default()),
    ];
    if let Some(begun) = begun.filter(|_| plan.word.starts_with("capture.")) {
        let alert = service.state.with(|connection| alerts::of(connection, job.alert))?;
        let waited = alert.map_or(0, |alert| begun.saturating_sub(alert.received_at).max(0));
        #[allow(clippy::cast_precision_loss, reason = "seconds for people")]
        facts.push(("seconds_after_alert", (waited as f64 / 1e9).into()));
    }
    service.acting.tell("step done", &job.name(), &facts);
    Ok(())
}

fn failed_run(service: &Service, ending: &Ending<'_>, row: &StepRow, failed: &Failed) -> Result<()> {
    let (job, plan, now) = (ending.job, &row.plan, service.acting.now());
    let tries = row.tries.saturating_add(1);
    let why = if ending.is_late {
        format!("it did not end within {} s: {}", plan.timeout, failed.what)
    } else {
        failed.what.clone()
    };
    let may_help = (failed.may_help_again || ending.is_late) && job.cancel.is_none();
    if may_help && tries <= plan.retries {
        let not_before = now.saturating_add(pause_before(row, tries));
        service
            .state
            .with(|connection| steps::again(connection, job.id, &plan.id, tries, &why, not_before))?;
        tell(service, job, row, "step failed for now", &why);
        return Ok(());
    }
    service.state.change(|connection| {
        steps::end(connection, job.id, &plan.id, StepState::Failed, None, &why, now)?;
        jobs::set_attempt(connection, job.id, 0)?;
        take_back_half(connection, job, row, now)?;
        let entry = about(EntryType::NOTE, job, row).how("tries", tries).error("failed", cut(&why));
        entries::add(connection, job.id, &entry)
    })?;
    tell(service, job, row, "step failed", &why);
    Ok(())
}

/// A step that is not begun now, for this reason: one of its tries.
pub(super) fn not_begun(service: &Service, job: &Job, row: &StepRow, failed: &Failed) -> Result<()> {
    let outcome = Err(Failed { what: failed.what.clone(), may_help_again: failed.may_help_again });
    failed_run(service, &Ending { job, step: &row.plan.id, outcome, is_late: false }, row, failed)
}

/// Half an act helps nobody: what a step may have changed that did not come to its end is taken back at once. It is known by the
/// intents that nothing was taken back of.
fn take_back_half(connection: &Connection, job: &Job, row: &StepRow, now: i64) -> rusqlite::Result<()> {
    let Some(step) = named(&row.plan.word).filter(|step| step.undoes()) else { return Ok(()) };
    let intents = steps::intents(connection, job.id, &row.plan.id)?;
    let changed = steps::standing(&intents).iter().find(|intent| step.is_undone_from(intent));
    let Some(recorded) = changed else { return Ok(()) };
    let lease = Lease {
        job: job.id,
        step: row.plan.id.clone(),
        word: row.plan.word.clone(),
        recorded: recorded.clone(),
        since: now,
        until: Some(now),
        state: String::new(),
        tries: 0,
        why: String::new(),
    };
    leases::hold(connection, &lease)
}

/// A job is given up: what steps of it were at that can be taken back is. They have failed, so that nothing is taken for isolated
/// that is not, and so that they are begun from the beginning if the job is tried again.
pub(super) fn give_up_begun(connection: &Connection, job: &Job, why: &str, now: i64) -> rusqlite::Result<()> {
    for row in steps::of(connection, job.id)?.iter().filter(|row| !row.state.has_ended()) {
        let undoes = named(&row.plan.word).is_some_and(|step| step.undoes());
        if undoes && row.started_at.is_some() {
            steps::end(connection, job.id, &row.plan.id, StepState::Failed, None, why, now)?;
            take_back_half(connection, job, row, now)?;
        }
    }
    Ok(())
}

/// Says that a step is not run, and why. What an earlier run of it began is taken back.
pub(super) fn skip(service: &Service, job: &Job, step: &str, why: &str) -> Result<()> {
    let now = service.acting.now();
    service.state.change(|connection| {
        let rows = steps::of(connection, job.id)?;
        let Some(row) = rows.iter().find(|row| row.plan.id == step) else { return Ok(()) };
        steps::end(connection, job.id, step, StepState::Skipped, None, why, now)?;
        take_back_half(connection, job, row, now)?;
        entries::add(connection, job.id, &about(EntryType::NOTE, job, row).result("not run", cut(why)))
    })?;
    let facts = [("step", step.into()), ("why", why.into())];
    service.acting.tell("step not run", &job.name(), &facts);
    Ok(())
}

/// Nothing more of a job is run; questions about it are withdrawn.
pub(super) fn give_up_rest(service: &Service, job: &Job, why: &str) -> Result<()> {
    let rows = service.state.with(|connection| steps::of(connection, job.id))?;
    for row in rows.iter().filter(|row| !row.state.has_ended()) {
        skip(service, job, &row.plan.id, why)?;
    }
    service.state.with(|connection| approvals::withdraw(connection, job.id))
}

/// Whether a step does something to the asset or to people's access that has no entry of its own.
fn is_act(word: &str) -> bool {
    let family = word.split('.').next().unwrap_or_default();
    !matches!(family, "capture" | "keep" | "timeline" | "report")
}

pub(super) fn about(kind: EntryType, job: &Job, row: &StepRow) -> NewEntry {
    let asset = jobs::asset_text(&job.plan).unwrap_or_default();
    NewEntry::new(kind)
        .how("step", row.plan.id.as_str())
        .how("use", row.plan.word.as_str())
        .how("asset", asset)
}

/// A result as an entry can hold it: as JSON text, since logs hold no fractions, and not too much of it.
pub(super) fn told(given: &Value) -> String {
    cut(&given.to_string())
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_TOLD).collect()
}

fn tell(service: &Service, job: &Job, row: &StepRow, what: &'static str, why: &str) {
    let facts =
        [("step", row.plan.id.clone().into()), ("use", row.plan.word.clone().into()), ("why", why.into())];
    service.acting.tell(what, &job.name(), &facts);
}
