//! The one loop that decides: undecided deliveries are read, judged by the rules, and become jobs.
//!
//! Alert, decision, jobs and the mark on the delivery are one transaction: killed before it, the delivery is decided again;
//! killed after it, it never is.

use custody::{Digest, EntryType, NewEntry, sha256, uuid_v7};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::counted::Counted;
use super::governing::Govern;
use super::runner::Service;
use crate::alert::{Alert, Unparsed};
use crate::error::Result;
use crate::rules::{Approval, Decision, Mode, Plan, Reason, Repeat};
use crate::state::alerts::{self, Origin};
use crate::state::jobs::{self, Job, JobState, NewJob};
use crate::state::{approvals, decisions, entries, steps};
use crate::steps::keep_alert;

/// A delivery that nothing was decided about yet.
#[derive(Debug, Clone)]
pub struct Undecided {
    /// Its number.
    pub delivery: i64,
    /// The source of the settings that it came from.
    pub source: String,
    /// The body as it came.
    pub body: Vec<u8>,
    /// When it came, in nanoseconds since 1970.
    pub received_at: i64,
}

/// Where deliveries are kept.
pub trait Intake: Send + Sync {
    /// The next deliveries to decide about: the most urgent first, among them the oldest.
    ///
    /// # Errors
    ///
    /// [`crate::Error::State`].
    fn next(&self, most: usize) -> Result<Vec<Undecided>>;

    /// Reads the alerts of a delivery.
    ///
    /// # Errors
    ///
    /// [`Unparsed`], with the reason.
    fn read(&self, delivery: &Undecided) -> std::result::Result<Vec<Alert>, Unparsed>;

    /// Marks a delivery as decided, or as one that cannot be read, within the transaction of the decision.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    fn mark(
        &self,
        connection: &Connection,
        delivery: i64,
        unparsed: Option<&Unparsed>,
    ) -> rusqlite::Result<()>;

    /// The body of a delivery as it came.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    fn body(&self, connection: &Connection, delivery: i64) -> rusqlite::Result<Option<Vec<u8>>>;
}

/// Deliveries looked at in one go.
const BATCH: usize = 32;
/// Alerts of one job that are kept as exhibits; of further ones the log has the hash.
const MOST_KEPT: usize = 20;
/// Reasons that the log of a case repeats; the state has all.
const MOST_REASONS: usize = 100;
/// How long a plan waits for a yes where the rule does not say.
const APPROVAL_WITHIN: u64 = 24 * 60 * 60;

/// A delivery with what was decided about its alerts.
struct Judged {
    delivery: i64,
    origin: Origin,
    outcome: std::result::Result<Vec<(usize, Alert, Decision)>, Unparsed>,
}

/// Decides about the next deliveries; says how many there were.
pub(super) fn decide_next(service: &Service) -> Result<usize> {
    let waiting = service.intake.next(BATCH)?;
    let count = waiting.len();
    let mut judged = Vec::new();
    for delivery in waiting {
        if service.is_stopping() {
            return Ok(0);
        }
        judged.push(judge(service, &delivery)?);
    }
    // One commit for all: limits are counted within it, so each sees the jobs of those before it.
    write(service, judged)?;
    Ok(count)
}

fn judge(service: &Service, delivery: &Undecided) -> Result<Judged> {
    let origin = Origin {
        delivery: delivery.delivery,
        received_at: delivery.received_at,
        size: delivery.body.len() as u64,
        sha256: sha256(&delivery.body).to_string(),
    };
    let outcome = service.intake.read(delivery);
    let rules = service.rules();
    let mut known = Vec::new();
    let outcome = match outcome {
        Ok(all) => {
            for (position, alert) in all.into_iter().enumerate() {
                let is_known = service
                    .state
                    .with(|connection| alerts::is_kept(connection, &alert, &origin, position))?;
                if !is_known {
                    let decision = rules.decide(&alert);
                    known.push((position, alert, decision));
                }
            }
            Ok(known)
        }
        Err(unparsed) => Err(unparsed),
    };
    Ok(Judged { delivery: delivery.delivery, origin, outcome })
}

fn write(service: &Service, judged: Vec<Judged>) -> Result<()> {
    if judged.is_empty() {
        return Ok(());
    }
    let now = service.acting.now();
    let mut told = Vec::new();
    let rules = service.rules();
    service.state.change(|connection| {
        let limits = Limited { rules: &*rules, history: Counted { connection, state: &service.state }, now };
        for one in &judged {
            match &one.outcome {
                Ok(all) => {
                    for (position, alert, decision) in all {
                        let Some(id) = alerts::keep(connection, alert, &one.origin, *position)? else {
                            continue;
                        };
                        let mut whole = decision.clone();
                        for plan in &decision.plans {
                            decisions::matched(connection, &plan.rule, now)?;
                        }
                        for plan in &decision.plans {
                            let of = Of { id, alert, origin: &one.origin };
                            told.push(place(&limits, &of, &mut whole.reasons, plan)?);
                        }
                        decisions::keep(connection, id, now, &whole)?;
                    }
                    service.intake.mark(connection, one.delivery, None)?;
                }
                Err(unparsed) => service.intake.mark(connection, one.delivery, Some(unparsed))?,
            }
        }
        Ok(())
    })?;
    for one in &judged {
        if let Err(unparsed) = &one.outcome {
            let facts = [("delivery", one.delivery.into()), ("why", unparsed.0.clone().into())];
            service.acting.tell("alert not understood", "", &facts);
        }
    }
    for (what, job, plan) in told {
        let facts = [("rule", plan.rule.clone().into()), ("asset", plan.asset.id.clone().into())];
        service.acting.tell(what, &job.map(jobs::name_of).unwrap_or_default(), &facts);
    }
    service.bell.ring();
    Ok(())
}

/// What limits allow, counted within the transaction that makes the jobs.
struct Limited<'a> {
    rules: &'a dyn Govern,
    history: Counted<'a>,
    now: i64,
}

/// The alert that something is made of.
struct Of<'a> {
    id: i64,
    alert: &'a Alert,
    origin: &'a Origin,
}

type Placed<'a> = (&'static str, Option<i64>, &'a Plan);

/// Makes a job of a plan, or adds the alert to the job that means the same.
fn place<'a>(
    limits: &Limited<'_>,
    of: &Of<'_>,
    reasons: &mut Vec<Reason>,
    plan: &'a Plan,
) -> rusqlite::Result<Placed<'a>> {
    let (connection, now) = (limits.history.connection, limits.now);
    let same = jobs::same(connection, plan, of.origin.received_at)?;
    // What was only observed must not keep from acting once the rule may.
    let same = same.filter(|job| job.state != JobState::Observed || plan.mode == Mode::Observe);
    let Some(job) = same.filter(|_| plan.repeat != Repeat::Rerun) else {
        // Limits hold for what is begun; what is under way already gets its further alerts in any case.
        let admission = limits.rules.admit(plan, &limits.history, now.div_euclid(1_000_000_000));
        let admission = admission.map_err(not_made)?;
        reasons.extend(admission.reasons);
        let Some(admitted) = admission.plan else { return Ok(("plan not admitted", None, plan)) };
        let id = make(connection, of, &admitted, now)?;
        if admitted.mode != Mode::Observe {
            entries::add(connection, id, &received(of, &admitted, "began"))?;
            entries::add(connection, id, &decided(reasons, &admitted, now)?)?;
        }
        return Ok(("job made", Some(id), plan));
    };
    let goes_on = !matches!(job.state, JobState::Observed);
    match repeat_of(limits, &job, plan)? {
        Repeat::Ignore => {
            jobs::add_alert(connection, job.id, of.id, now, "ignored")?;
            return Ok(("alert ignored", Some(job.id), plan));
        }
        Repeat::Escalate if goes_on && escalate(connection, &job, plan, now)? => {
            jobs::add_alert(connection, job.id, of.id, now, "escalated")?;
            entries::add(connection, job.id, &received(of, plan, "escalated"))?;
            entries::add(connection, job.id, &decided(reasons, plan, now)?)?;
        }
        _ => {
            jobs::add_alert(connection, job.id, of.id, now, "attached")?;
            if goes_on {
                entries::add(connection, job.id, &received(of, plan, "attached"))?;
            }
        }
    }
    keep_further(connection, job.id, of.id, now)?;
    Ok(("alert attached", Some(job.id), plan))
}

/// What a further alert does to a job. One that a storm cut short is no answer to it yet: it gets the rest of its steps by the
/// first alert after the storm, and none before, whatever the rule says of repetitions.
fn repeat_of(limits: &Limited<'_>, job: &Job, plan: &Plan) -> rusqlite::Result<Repeat> {
    if !job.plan.truncated {
        return Ok(plan.repeat);
    }
    let now = limits.now.div_euclid(1_000_000_000);
    let is_storm = limits.rules.is_storm(plan, &limits.history, now).map_err(not_made)?;
    Ok(match plan.repeat {
        Repeat::Escalate if is_storm => Repeat::Attach,
        repeat if is_storm => repeat,
        _ => Repeat::Escalate,
    })
}

fn make(connection: &Connection, of: &Of<'_>, plan: &Plan, now: i64) -> rusqlite::Result<i64> {
    let uuid = uuid_v7(now).map_err(not_made)?;
    let plan_sha256 = plan.hash();
    let state = if plan.mode == Mode::Observe { JobState::Observed } else { JobState::Queued };
    let mut new = NewJob {
        uuid: &uuid,
        alert: of.id,
        severity: of.alert.severity,
        state,
        plan,
        plan_sha256: &plan_sha256,
        bucket: of.origin.received_at,
        created_at: now,
    };
    // Two of one nanosecond, of which a rule wants two jobs.
    while jobs::is_taken(connection, plan, new.bucket)? {
        new.bucket = new.bucket.saturating_add(1);
    }
    let id = jobs::insert(connection, &new)?;
    jobs::add_alert(connection, id, of.id, now, "began")?;
    if plan.mode == Mode::Observe {
        return Ok(id);
    }
    let mut name = "alert".to_owned();
    while plan.steps.iter().any(|step| step.id == name) {
        name.push_str("-received");
    }
    steps::add(connection, id, &[keep_alert::planned(name, of.id)])?;
    steps::add(connection, id, &plan.steps)?;
    if plan.mode == Mode::Approve {
        approvals::ask(connection, id, "", &plan_sha256, &approval_of(plan), now)?;
    }
    Ok(id)
}

fn approval_of(plan: &Plan) -> Approval {
    plan.approval.clone().unwrap_or(Approval {
        from: Vec::new(),
        count: 1,
        timeout: APPROVAL_WITHIN,
        run_on_timeout: false,
    })
}

/// Adds the steps that the job has not; `false` if there are none, or a person ended it.
fn escalate(connection: &Connection, job: &Job, plan: &Plan, now: i64) -> rusqlite::Result<bool> {
    if matches!(job.state, JobState::Cancelled | JobState::Refused | JobState::Dead) {
        return Ok(false);
    }
    let there = steps::of(connection, job.id)?;
    let is_new = |id: &str| !there.iter().any(|step| step.plan.id == id);
    let new: Vec<_> = plan.steps.iter().filter(|step| is_new(&step.id)).cloned().collect();
    if new.is_empty() {
        return Ok(false);
    }
    let mut whole = job.plan.clone();
    whole.steps.extend(new.iter().cloned());
    whole.truncated = false;
    let sha256 = whole.hash();
    steps::add(connection, job.id, &new)?;
    jobs::set_plan(connection, job.id, &whole, &sha256)?;
    if job.plan.mode == Mode::Approve {
        // A yes to less is no yes to more.
        approvals::withdraw(connection, job.id)?;
        approvals::ask(connection, job.id, "", &sha256, &approval_of(plan), now)?;
    }
    reopen(connection, job, now)?;
    Ok(true)
}

/// A further alert of a job becomes an exhibit of its case too, up to a number.
fn keep_further(connection: &Connection, job: i64, alert: i64, now: i64) -> rusqlite::Result<()> {
    // Read anew: it may have been reopened a moment ago.
    let Some(job) = jobs::of(connection, job)? else { return Ok(()) };
    if matches!(job.state, JobState::Cancelled | JobState::Refused | JobState::Dead | JobState::Observed) {
        return Ok(());
    }
    let there = steps::of(connection, job.id)?;
    let kept: Vec<i64> = there.iter().filter_map(|step| keep_alert::alert_of(&step.plan)).collect();
    if kept.len() >= MOST_KEPT || kept.contains(&alert) {
        return Ok(());
    }
    steps::add(connection, job.id, &[keep_alert::planned(format!("alert-{alert}"), alert)])?;
    reopen(connection, &job, now)
}

/// What has ended has something to do again.
fn reopen(connection: &Connection, job: &Job, now: i64) -> rusqlite::Result<()> {
    match job.state {
        JobState::Running | JobState::Queued => Ok(()),
        JobState::Waiting => jobs::wake(connection, job.id),
        _ => jobs::set_state(connection, job.id, JobState::Queued, "", now, 0),
    }
}

fn not_made(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}

/// `alert.received`, as the log of the case gets it.
fn received(of: &Of<'_>, plan: &Plan, how: &str) -> NewEntry {
    let (alert, origin) = (of.alert, of.origin);
    let mut entry = NewEntry::new(EntryType::ALERT_RECEIVED)
        .how("became", how)
        .how("source", alert.source.as_str())
        .how("source_id", alert.source_id.as_str())
        .how("severity", alert.severity)
        .how("title", cut(&alert.title, 500))
        .how("type", cut(&alert.kind, 500))
        .how("asset", plan.asset.id.as_str())
        .how("delivery", origin.delivery)
        .how("received_at", custody::clock::rfc3339(origin.received_at));
    for (name, time) in [("first_seen", &alert.first_seen), ("last_seen", &alert.last_seen)] {
        if let Some(time) = time {
            entry = entry.how(name, cut(time, 64));
        }
    }
    match origin.sha256.parse::<Digest>() {
        Ok(digest) => entry.subject("alert as it was received", origin.size, digest),
        Err(_) => entry,
    }
}

/// `decision.made`.
fn decided(reasons: &[Reason], plan: &Plan, now: i64) -> rusqlite::Result<NewEntry> {
    let of_rule: Vec<_> =
        reasons.iter().filter(|reason| reason.rule.is_empty() || reason.rule == plan.rule).collect();
    let shown: Vec<Value> = of_rule
        .iter()
        .take(MOST_REASONS)
        .map(|reason| json!({"holds": reason.holds, "what": cut(&reason.what, 300)}))
        .collect();
    let planned: Vec<Value> =
        plan.steps.iter().map(|step| json!({"id": step.id, "use": step.word})).collect();
    let mode = match plan.mode {
        Mode::Observe => "observe",
        Mode::Approve => "approve",
        Mode::Auto => "auto",
    };
    Ok(NewEntry::new(EntryType::DECISION_MADE)
        .how("rule", plan.rule.as_str())
        .how("mode", mode)
        .how("asset", jobs::asset_text(plan)?)
        .how("decided_at", custody::clock::rfc3339(now))
        .how("plan_sha256", plan.hash())
        .how("steps", planned)
        .result("reasons", shown)
        .result("reasons_in_all", of_rule.len()))
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
