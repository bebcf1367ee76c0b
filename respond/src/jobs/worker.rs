//! Works on one job: begins each step when its turn comes, several at a time, and writes down what came of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::case_of_job::{case_of, write_entries};
use super::counted::Counted;
use super::ending::{Ending, give_up_rest, not_begun, record};
use super::graph::{Turn, longest_pause, turn};
use super::permission::{Permission, of_plan, of_step};
use super::reconcile::give_back_later;
use super::runner::{Service, in_words};
use super::settle::settle;
use super::step_run::StepRun;
use crate::alert::Alert;
use crate::error::{Error, Result};
use crate::rules::Gate;
use crate::state::jobs::{self, Claimed, Job, JobState};
use crate::state::steps::{self, StepRow, StepState};
use crate::state::{alerts, approvals};
use crate::steps::{Failed, keep_alert, named};

/// Between two looks at what people want and what time it is.
const LOOK: Duration = Duration::from_millis(250);
/// When limits are looked at again that left no room, at the soonest and at the latest.
const AGAIN: i64 = 5 * 1_000_000_000;
const AGAIN_AT_MOST: i64 = 300 * 1_000_000_000;

/// Works on the next job, if there is one.
pub(super) fn work_next(service: &Service) -> Result<usize> {
    let now = service.acting.now();
    if !service.state.with(|connection| jobs::is_one_ready(connection, now))? {
        return Ok(0);
    }
    let job = {
        // Whoever looks for jobs without a worker finds this one in both or in neither.
        let mut at_work = service.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        match service.state.change(|connection| jobs::claim(connection, now))? {
            Claimed::Job(job) => {
                at_work.insert(job.id);
                job
            }
            Claimed::Unreadable(id, why) => {
                service.acting.tell("job given up", &jobs::name_of(id), &[("why", why.into())]);
                return Ok(1);
            }
            Claimed::Nothing => return Ok(0),
        }
    };
    let _at_work = AtWork { service, id: job.id };
    let worked = catch_unwind(AssertUnwindSafe(|| work(service, &job)));
    match worked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => give_back_later(service, &job, &in_words(&error))?,
        Err(_) => give_back_later(service, &job, "the worker panicked, which is a fault of this program")?,
    }
    Ok(1)
}

/// A job that a worker has, until this is dropped.
struct AtWork<'a> {
    service: &'a Service,
    id: i64,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.service.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

fn work(service: &Service, job: &Job) -> Result<()> {
    let alert = service.state.with(|connection| alerts::of(connection, job.alert))?;
    let alert = alert.ok_or_else(|| Error::Refused { what: "the alert of the job is gone".to_owned() })?;
    let case = case_of(service, job)?;
    write_entries(service, &case, job, true)?;
    settle(&case, job, &service.acting)?;
    let work = Work { service, id: job.id, alert: &alert.alert, case: &case };
    let ending = work.steps();
    // Both hold in any case: what was captured belongs into the log.
    settle(&case, job, &service.acting)?;
    write_entries(service, &case, job, true)?;
    let (state, why, next_at) = ending?;
    let now = service.acting.now();
    service.state.change(|connection| {
        // A step or an alert that came meanwhile is worked on at once.
        let state = match state {
            JobState::Done | JobState::Failed if jobs::has_pending_steps(connection, job.id)? => {
                JobState::Queued
            }
            state => state,
        };
        jobs::set_state(connection, job.id, state, &why, now, next_at)
    })?;
    let facts = [("state", state.word().into()), ("why", why.into())];
    service.acting.tell("job put down", &job.name(), &facts);
    Ok(())
}

/// One job under a worker's hands.
struct Work<'a> {
    service: &'a Service,
    id: i64,
    alert: &'a Alert,
    case: &'a Path,
}

/// A step that runs.
struct Running {
    stop: Arc<AtomicBool>,
    deadline: Option<Instant>,
    is_late: bool,
}

/// State, reason, and when to look again.
type Put = (JobState, String, i64);

impl Work<'_> {
    fn job(&self) -> Result<Job> {
        let job = self.service.state.with(|connection| jobs::of(connection, self.id))?;
        job.ok_or_else(|| Error::Refused { what: "the job is gone".to_owned() })
    }

    /// Runs steps until nothing more can be done now.
    fn steps(&self) -> Result<Put> {
        thread::scope(|scope| {
            let mut running = BTreeMap::new();
            let done = self.loop_over(scope, &mut running);
            // Where the state failed, what runs is asked to end; it is begun again later.
            for step in running.values() {
                step.stop.store(true, Ordering::Relaxed);
            }
            done
        })
    }

    fn loop_over<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        running: &mut BTreeMap<String, Running>,
    ) -> Result<Put> {
        let (ended_in, ended) = mpsc::channel();
        loop {
            let job = self.job()?;
            let is_stopping = self.service.is_stopping();
            let mut wake = None;
            if is_stopping || job.cancel.is_some() {
                running.values().for_each(|step| step.stop.store(true, Ordering::Relaxed));
            } else {
                match of_plan(self.service, &job)? {
                    Permission::Given(used) => {
                        // A yes that was used up a moment ago says when the job begins.
                        let job = if used.is_some() { self.job()? } else { job.clone() };
                        wake = self.begin_all(scope, &job, running, &ended_in)?;
                    }
                    Permission::Wait(until) => wake = Some(until),
                    Permission::Refused(why) if running.is_empty() => {
                        give_up_rest(self.service, &job, &why)?;
                        return Ok((JobState::Refused, why, 0));
                    }
                    Permission::Refused(_) => {}
                }
            }
            if running.is_empty() {
                return self.put(&job, is_stopping, wake);
            }
            if let Ok((id, outcome)) = ended.recv_timeout(LOOK) {
                let is_late = running.remove(&id).is_some_and(|step: Running| step.is_late);
                record(self.service, &Ending { job: &self.job()?, step: &id, outcome, is_late })?;
                write_entries(self.service, self.case, &job, true)?;
            }
            for step in running.values_mut().filter(|step| !step.is_late) {
                if step.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    step.is_late = true;
                    step.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// How the job is put down, now that nothing of it runs.
    fn put(&self, job: &Job, is_stopping: bool, wake: Option<i64>) -> Result<Put> {
        if is_stopping {
            return Ok((JobState::Queued, "the service stopped".to_owned(), 0));
        }
        if let Some(who) = &job.cancel {
            give_up_rest(self.service, job, who)?;
            return Ok((JobState::Cancelled, who.clone(), 0));
        }
        let rows = self.service.state.with(|connection| steps::of(connection, job.id))?;
        if rows.iter().any(|step| !step.state.has_ended()) {
            let now = self.service.acting.now();
            let longest = now.saturating_add(jobs::LONGEST_WAIT);
            return Ok((JobState::Waiting, String::new(), wake.unwrap_or(longest).min(longest)));
        }
        let failed: Vec<&str> = rows
            .iter()
            .filter(|step| step.state == StepState::Failed)
            .map(|step| step.plan.id.as_str())
            .collect();
        Ok(if failed.is_empty() {
            (JobState::Done, String::new(), 0)
        } else {
            (JobState::Failed, format!("failed: {}", failed.join(", ")), 0)
        })
    }

    /// Begins every step whose turn it is; gives when the next one's may be.
    fn begin_all<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        job: &Job,
        running: &mut BTreeMap<String, Running>,
        ended: &Sender<(String, Result<Value, Failed>)>,
    ) -> Result<Option<i64>> {
        let mut wake: Option<i64> = None;
        loop {
            let rows = self.service.state.with(|connection| steps::of(connection, job.id))?;
            let mut has_changed = false;
            for step in &rows {
                let id = &step.plan.id;
                let now = self.service.acting.now();
                let begun = job.started_at.unwrap_or(now);
                let mut wait = |until: i64| wake = Some(wake.map_or(until, |wake| wake.min(until)));
                match step.state {
                    // Begun before a kill: begun again, whatever it needed.
                    StepState::Running if !running.contains_key(id) => {}
                    // Further away than any pause is long: the clock was set back.
                    StepState::Pending
                        if step.not_before > now
                            && step.not_before <= now.saturating_add(longest_pause(step)) =>
                    {
                        wait(step.not_before);
                        continue;
                    }
                    StepState::Pending => match turn(step, &rows, begun, now) {
                        Turn::Wait(until) => {
                            until.into_iter().for_each(wait);
                            continue;
                        }
                        Turn::Skip(why) => {
                            super::ending::skip(self.service, job, id, &why)?;
                            has_changed = true;
                            continue;
                        }
                        Turn::Begin => match self.begin_allowed(job, step, &rows, now)? {
                            Some(Permission::Given(_)) => has_changed = true,
                            None => {
                                has_changed = true;
                                continue;
                            }
                            Some(Permission::Wait(until)) => {
                                wait(until);
                                continue;
                            }
                            Some(Permission::Refused(why)) => {
                                super::ending::skip(self.service, job, id, &why)?;
                                has_changed = true;
                                continue;
                            }
                        },
                    },
                    _ => continue,
                }
                running.insert(id.clone(), self.begin(scope, job, step, &rows, ended)?);
            }
            // What was begun or skipped may be what others waited for.
            if !has_changed {
                return Ok(wake);
            }
        }
    }

    /// Marks a step as begun if limits and people allow it. `None`: that try of it has failed before it was begun.
    fn begin_allowed(
        &self,
        job: &Job,
        step: &StepRow,
        rows: &[StepRow],
        now: i64,
    ) -> Result<Option<Permission>> {
        let service = self.service;
        // Nobody else looks at the limits until this step counts among what was begun.
        let place = service.last_place.lock().unwrap_or_else(PoisonError::into_inner);
        let is_capture = |step: &StepRow| step.plan.word.starts_with("capture.");
        let begins_capture =
            is_capture(step) && !rows.iter().any(|row| is_capture(row) && row.started_at.is_some());
        let isolates = named(&step.plan.word).is_some_and(|step| step.isolates());
        if isolates && let Some(why) = self.is_isolated_elsewhere(job, step)? {
            not_begun(service, job, step, &Failed::for_now(why))?;
            return Ok(None);
        }
        let isolates = isolates && step.started_at.is_none();
        let rules = service.rules();
        let seconds = now.div_euclid(1_000_000_000);
        let gate = if begins_capture || isolates {
            let connection = service.state.connection();
            let history = Counted { connection: &connection, state: &service.state };
            if isolates {
                rules.may_isolate(&job.plan.asset, &history, seconds)?
            } else {
                rules.may_capture(&history, seconds)?
            }
        } else {
            Gate::Open
        };
        let breaker = match &gate {
            Gate::Open => None,
            Gate::Later(why) => {
                let facts = [("step", step.plan.id.clone().into()), ("why", why.clone().into())];
                service.acting.tell("step waits for limits", &job.name(), &facts);
                return Ok(Some(Permission::Wait(now.saturating_add(wait_for_limits(
                    job.id,
                    job.created_at,
                    now,
                )))));
            }
            Gate::Person(why) => Some(why.as_str()),
        };
        let permission = of_step(service, job, step, breaker)?;
        if let Permission::Given(used) = permission {
            service.state.change(|connection| {
                if let Some(question) = used {
                    approvals::set(connection, question, approvals::Answer::Used)?;
                }
                steps::begin(connection, job.id, &step.plan.id, now)
            })?;
        }
        drop(place);
        Ok(Some(permission))
    }

    /// Why an asset cannot be isolated by this step: another one has isolated it in the same way, or is about to.
    fn is_isolated_elsewhere(&self, job: &Job, step: &StepRow) -> Result<Option<String>> {
        let other = self.service.state.with(|connection| {
            let asset = jobs::asset_text(&job.plan)?;
            steps::same_elsewhere(connection, job.id, &step.plan.id, &step.plan.word, &asset)
        })?;
        Ok(other.map(|other| {
            let (asset, word, other) = (&job.plan.asset.id, &step.plan.word, jobs::name_of(other));
            format!("{asset} is isolated already by {word} of {other}, whose end would end this too")
        }))
    }

    fn begin<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        job: &Job,
        step: &StepRow,
        rows: &[StepRow],
        ended: &Sender<(String, Result<Value, Failed>)>,
    ) -> Result<Running> {
        if let Some(alert) = keep_alert::alert_of(&step.plan) {
            self.lay_out(job, alert)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let timeout = Some(step.plan.timeout).filter(|seconds| *seconds > 0);
        let deadline = timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        let (job, plan, earlier) = (job.clone(), step.plan.clone(), earlier(rows));
        let (ended, flag) = (ended.clone(), Arc::clone(&stop));
        self.service.acting.tell(
            "step begun",
            &job.name(),
            &[("step", plan.id.clone().into()), ("use", plan.word.clone().into())],
        );
        let run = move || {
            let outcome = StepRun {
                service: self.service,
                job: &job,
                alert: self.alert,
                case: self.case,
                id: &plan.id,
                word: &plan.word,
                parameters: &plan.parameters,
                lease: plan.lease,
                earlier: &earlier,
                stop: &flag,
            }
            .run();
            // The worker that listens may be gone after a failure of the state; the step is begun again then.
            let _ = ended.send((plan.id.clone(), outcome));
        };
        let thread = thread::Builder::new().name(format!("step {}", step.plan.id)).spawn_scoped(scope, run);
        thread.map_err(|source| Error::Thread { source })?;
        Ok(Running { stop, deadline, is_late: false })
    }

    /// Lays the body of an alert where a step can take it from, on the disk. One that lies there is believed only where it is whole.
    fn lay_out(&self, job: &Job, alert: i64) -> Result<()> {
        let path = keep_alert::body_file(&self.service.settings, &job.name(), alert);
        let body = self.service.state.with(|connection| {
            let Some(stored) = alerts::of(connection, alert)? else { return Ok(None) };
            self.service.intake.body(connection, stored.delivery)
        })?;
        // Where it is gone, the step says that there is no such file.
        let Some(body) = body else { return Ok(()) };
        if std::fs::read(&path).is_ok_and(|there| there == body) {
            return Ok(());
        }
        let write = || {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let beside = path.with_extension("new");
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(&body)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            std::fs::File::open(folder)?.sync_all()
        };
        write().map_err(|source| Error::Read { path: path.clone(), source })
    }
}

/// How long a job waits until limits are looked at again: a tenth of how long it has waited, so that many that wait keep nobody from
/// work, and not all at the same time.
fn wait_for_limits(job: i64, made: i64, now: i64) -> i64 {
    let wait = (now.saturating_sub(made) / 10).clamp(AGAIN, AGAIN_AT_MOST);
    // A prime, so that neighbours come apart.
    wait.saturating_add((wait / 64).saturating_mul(job.wrapping_mul(7919).rem_euclid(16)))
}

/// What is known of the steps that have ended.
fn earlier(rows: &[StepRow]) -> BTreeMap<String, Value> {
    let ended = rows.iter().filter_map(|step| {
        let told = match step.state {
            StepState::Done => step.result.clone().unwrap_or(Value::Null),
            StepState::Failed => json!({"failed": step.why}),
            StepState::Skipped => json!({"skipped": step.why}),
            StepState::Pending | StepState::Running => return None,
        };
        Some((step.plan.id.clone(), told))
    });
    ended.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_looks_at_limits_the_more_rarely_the_longer_it_waits_and_not_with_its_neighbours() {
        let second = 1_000_000_000;
        let wait = |job, waited: i64| wait_for_limits(job, 0, waited * second);
        assert!((0..100).all(|job| (AGAIN..2 * AGAIN).contains(&wait(job, 0))));
        assert!((0..100).all(|job| (60 * second..75 * second).contains(&wait(job, 600))));
        assert!((0..100).all(|job| (AGAIN_AT_MOST..AGAIN_AT_MOST * 5 / 4).contains(&wait(job, 1_000_000))));
        assert_ne!(wait(1, 600), wait(2, 600));
        // The clock was set back.
        assert_eq!(wait(16, -600), AGAIN);
    }
}
