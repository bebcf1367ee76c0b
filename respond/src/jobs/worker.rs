//! Works on one job: begins each step when its turn comes, several at a time, and writes down what came of it.

use std::collections::BTreeMap;
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
use super::ending::{Ending, give_up_rest, record};
use super::graph::{Turn, turn};
use super::permission::{Permission, of_plan, of_step};
use super::reconcile::give_back_later;
use super::runner::{Service, in_words};
use super::settle::settle;
use super::step_run::StepRun;
use crate::alert::Alert;
use crate::error::{Error, Result};
use crate::rules::Gate;
use crate::state::jobs::{self, Job, JobState};
use crate::state::steps::{self, StepRow, StepState};
use crate::state::{alerts, approvals};
use crate::steps::{Failed, keep_alert, named};

/// Between two looks at what people want and what time it is.
const LOOK: Duration = Duration::from_millis(250);
/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(10);
/// When limits are looked at again that left no room.
const AGAIN: i64 = 5 * 1_000_000_000;
/// When a job that waits for a person looks again by itself.
const LONGEST_WAIT: i64 = 3600 * 1_000_000_000;

/// Works on the next job, if there is one.
pub(super) fn work_next(service: &Service) -> Result<usize> {
    let now = service.acting.now();
    if !service.state.with(|connection| jobs::is_one_ready(connection, now))? {
        return Ok(0);
    }
    let Some(job) = service.state.change(|connection| jobs::claim(connection, now))? else { return Ok(0) };
    let worked = catch_unwind(AssertUnwindSafe(|| work(service, &job)));
    match worked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => give_back_later(service, &job, &in_words(&error))?,
        Err(_) => give_back_later(service, &job, "the worker panicked, which is a fault of this program")?,
    }
    Ok(1)
}

fn work(service: &Service, job: &Job) -> Result<()> {
    let alert = service.state.with(|connection| alerts::of(connection, job.alert))?;
    let alert = alert.ok_or_else(|| Error::Refused { what: "the alert of the job is gone".to_owned() })?;
    let case = case_of(job, &service.settings, &service.state, &service.acting)?;
    write_entries(&case, job, &service.state, &service.acting, true)?;
    settle(&case, job, &service.acting)?;
    let work = Work { service, id: job.id, alert: &alert.alert, case: &case };
    let ending = work.steps();
    // Both hold in any case: what was captured belongs into the log.
    settle(&case, job, &service.acting)?;
    write_entries(&case, job, &service.state, &service.acting, true)?;
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
    let facts = [("state", state.word().into()), ("why", why.clone().into())];
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
        let mut beat = Instant::now();
        loop {
            let job = self.job()?;
            let is_stopping = self.service.is_stopping();
            let mut wake = None;
            if is_stopping || job.cancel.is_some() {
                running.values().for_each(|step| step.stop.store(true, Ordering::Relaxed));
            } else {
                match of_plan(self.service, &job)? {
                    Permission::Given(_) => wake = self.begin_all(scope, &job, running, &ended_in)?,
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
                write_entries(self.case, &job, &self.service.state, &self.service.acting, true)?;
            }
            for step in running.values_mut().filter(|step| !step.is_late) {
                if step.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    step.is_late = true;
                    step.stop.store(true, Ordering::Relaxed);
                }
            }
            if beat.elapsed() > BEAT {
                beat = Instant::now();
                let now = self.service.acting.now();
                self.service.state.with(|connection| jobs::beat(connection, self.id, now))?;
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
            let longest = now.saturating_add(LONGEST_WAIT);
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
                    StepState::Pending if step.not_before > now => {
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
                            Permission::Given(_) => has_changed = true,
                            Permission::Wait(until) => {
                                wait(until);
                                continue;
                            }
                            Permission::Refused(why) => {
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

    /// Marks a step as begun if limits and people allow it.
    fn begin_allowed(&self, job: &Job, step: &StepRow, rows: &[StepRow], now: i64) -> Result<Permission> {
        let service = self.service;
        // Nobody else looks at the limits until this step counts among what was begun.
        let place = service.last_place.lock().unwrap_or_else(PoisonError::into_inner);
        let is_capture = |step: &StepRow| step.plan.word.starts_with("capture.");
        let begins_capture =
            is_capture(step) && !rows.iter().any(|row| is_capture(row) && row.started_at.is_some());
        let isolates =
            named(&step.plan.word).is_some_and(|step| step.isolates()) && step.started_at.is_none();
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
                return Ok(Permission::Wait(now.saturating_add(AGAIN)));
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
        Ok(permission)
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
            self.lay_out(alert)?;
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

    /// Lays the body of an alert where a step can take it from.
    fn lay_out(&self, alert: i64) -> Result<()> {
        let path = keep_alert::body_file(&self.service.settings, alert);
        if path.exists() {
            return Ok(());
        }
        let body = self.service.state.with(|connection| {
            let Some(stored) = alerts::of(connection, alert)? else { return Ok(None) };
            self.service.intake.body(connection, stored.delivery)
        })?;
        // Where it is gone, the step says that there is no such file.
        let Some(body) = body else { return Ok(()) };
        let fault = |source| Error::Read { path: path.clone(), source };
        let beside = path.with_extension(format!("{}.new", self.id));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(fault)?;
        }
        std::fs::write(&beside, body).and_then(|()| std::fs::rename(&beside, &path)).map_err(fault)
    }
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
