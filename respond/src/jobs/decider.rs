//! The one loop that decides: undecided deliveries are read, judged by the rules, and become jobs.
//!
//! Alert, decision, jobs and the mark on the delivery are one transaction: killed before it, the delivery is decided again;
//! killed after it, it never is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use custody::{Digest, EntryType, NewEntry, sha256, uuid_v7};
use rusqlite::{Connection, ErrorCode};
use serde_json::{Value, json};

use super::counted::Counted;
use super::governing::Govern;
use super::permission::approval_of;
use super::runner::{Service, in_words};
use crate::alert::{Alert, Unparsed};
use crate::error::{Error, Result};
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
/// Alerts of one job that are kept as exhibits, each with an entry in the log. Of further ones the state has the body and the hash,
/// and the log how many there are.
const MOST_KEPT: usize = 20;
/// Reasons that the log of a case repeats; the state has all.
const MOST_REASONS: usize = 100;

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
    // The same rules judge and admit, whatever is loaded between.
    let rules = service.rules();
    let rules = rules.pinned().unwrap_or(rules);
    let mut judged = Vec::new();
    for delivery in waiting {
        if service.is_stopping() {
            return Ok(0);
        }
        judged.push(judge(service, &*rules, &delivery)?);
    }
    // One commit for all: limits are counted within it, so each sees the jobs of those before it.
    match write(service, &*rules, &judged) {
        Err(error) if is_of_the_data(&error) => one_by_one(service, &*rules, judged)?,
        written => written?,
    }
    Ok(count)
}

/// Something in a batch cannot be written: it is found, and put aside for a person, so that it keeps nothing else from being decided.
fn one_by_one(service: &Service, rules: &dyn Govern, judged: Vec<Judged>) -> Result<()> {
    for mut one in judged {
        match write(service, rules, std::slice::from_ref(&one)) {
            Err(error) if is_of_the_data(&error) => {
                one.outcome = Err(Unparsed(format!("it cannot be decided about: {}", in_words(&error))));
                write(service, rules, &[one])?;
            }
            written => written?,
        }
    }
    Ok(())
}

/// Whether an error is of what was to be written, so that the same again will not help; and not of the data base, which may do better
/// the next time.
fn is_of_the_data(error: &Error) -> bool {
    match error {
        Error::State { source: rusqlite::Error::SqliteFailure(failure, _), .. } => {
            matches!(
                failure.code,
                ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
            )
        }
        Error::State { source: rusqlite::Error::ToSqlConversionFailure(cause), .. } => {
            cause.downcast_ref::<Error>().is_none_or(is_of_the_data)
        }
        Error::State { .. } => true,
        _ => false,
    }
}

fn judge(service: &Service, rules: &dyn Govern, delivery: &Undecided) -> Result<Judged> {
    let origin = Origin {
        delivery: delivery.delivery,
        source: delivery.source.clone(),
        received_at: delivery.received_at,
        size: delivery.body.len() as u64,
        sha256: sha256(&delivery.body).to_string(),
    };
    let fault = || Unparsed("reading or judging it panicked, which is a fault of this program".to_owned());
    let outcome = catch_unwind(AssertUnwindSafe(|| service.intake.read(delivery)));
    let outcome = outcome.unwrap_or_else(|_| Err(fault()));
    let mut new = Vec::new();
    let outcome = match outcome {
        Ok(all) => {
            for (position, alert) in all.into_iter().enumerate() {
                let is_known = service
                    .state
                    .with(|connection| alerts::is_kept(connection, &alert, &origin, position))?;
                if is_known {
                    tell_known(service, &alert, &origin);
                    continue;
                }
                match catch_unwind(AssertUnwindSafe(|| rules.decide(&alert))) {
                    Ok(decision) => new.push((position, alert, decision)),
                    Err(_) => {
                        return Ok(Judged { delivery: delivery.delivery, origin, outcome: Err(fault()) });
                    }
                }
            }
            Ok(new)
        }
        Err(unparsed) => Err(unparsed),
    };
    Ok(Judged { delivery: delivery.delivery, origin, outcome })
}

/// Nothing further is done about an alert that was kept before: the sender hears 202, so the log has to say it.
fn tell_known(service: &Service, alert: &Alert, origin: &Origin) {
    let facts = [
        ("source", origin.source.clone().into()),
        ("source_id", cut(&alert.source_id, 200).into()),
        ("delivery", origin.delivery.into()),
    ];
    service.acting.tell("alert known already", "", &facts);
}

fn write(service: &Service, rules: &dyn Govern, judged: &[Judged]) -> Result<()> {
    if judged.is_empty() {
        return Ok(());
    }
    let now = service.acting.now();
    let (mut told, mut known) = (Vec::new(), Vec::new());
    service.state.change(|connection| {
        let limits = Limited { rules, history: Counted { connection, state: &service.state }, now };
        for one in judged {
            match &one.outcome {
                Ok(all) => {
                    for (position, alert, decision) in all {
                        let Some(id) = alerts::keep(connection, alert, &one.origin, *position)? else {
                            known.push((alert, &one.origin));
                            continue;
                        };
                        let mut whole = decision.clone();
                        for plan in &decision.plans {
                            decisions::matched(connection, &plan.rule, now)?;
                        }
                        for plan in &decision.plans {
                            let of = Of { id, alert, origin: &one.origin };
                            place(&limits, &of, &mut whole.reasons, plan, &mut told)?;
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
    for (alert, origin) in known {
        tell_known(service, alert, origin);
    }
    for one in judged {
        if let Err(unparsed) = &one.outcome {
            let facts = [("delivery", one.delivery.into()), ("why", unparsed.0.clone().into())];
            service.acting.tell("alert not understood", "", &facts);
        }
    }
    for (what, job, plan) in told {
        let mut facts = vec![("rule", plan.rule.clone().into()), ("asset", plan.asset.id.clone().into())];
        if what == WANTED {
            facts.extend([("step", "".into()), ("from", approval_of(plan).from.into())]);
        }
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

/// What is told of a plan: in words, and of which job.
type Placed<'a> = (&'static str, Option<i64>, &'a Plan);

/// Told of a plan that waits for people.
const WANTED: &str = "approval wanted";

/// Makes a job of a plan, or adds the alert to the job that means the same.
fn place<'a>(
    limits: &Limited<'_>,
    of: &Of<'_>,
    reasons: &mut Vec<Reason>,
    plan: &'a Plan,
    told: &mut Vec<Placed<'a>>,
) -> rusqlite::Result<()> {
    let (connection, now) = (limits.history.connection, limits.now);
    let same = jobs::same(connection, plan, of.origin.received_at)?;
    let Some(job) = same.filter(|_| plan.repeat != Repeat::Rerun) else {
        // Limits hold for what is begun; what is under way already gets its further alerts in any case.
        let admission = limits.rules.admit(plan, &limits.history, now.div_euclid(1_000_000_000));
        let admission = admission.map_err(not_made)?;
        reasons.extend(admission.reasons);
        let Some(admitted) = admission.plan else {
            told.push(("plan not admitted", None, plan));
            return Ok(());
        };
        // What a storm leaves to be only observed is one record, not one for each alert.
        if admitted.mode == Mode::Observe
            && plan.repeat != Repeat::Rerun
            && let Some(observed) = jobs::same(connection, &admitted, of.origin.received_at)?
        {
            jobs::add_alert(connection, observed.id, of.id, now, "attached")?;
            told.push(("alert attached", Some(observed.id), plan));
            return Ok(());
        }
        let id = make(connection, of, &admitted, now)?;
        if admitted.mode != Mode::Observe {
            entries::add(connection, id, &received(of, &admitted, "began"))?;
            entries::add(connection, id, &decided(reasons, &admitted, now)?)?;
        }
        told.push(("job made", Some(id), plan));
        if admitted.mode == Mode::Approve {
            told.push((WANTED, Some(id), plan));
        }
        return Ok(());
    };
    let goes_on = !matches!(job.state, JobState::Observed);
    match repeat_of(limits, &job, plan)? {
        Repeat::Ignore => {
            jobs::add_alert(connection, job.id, of.id, now, "ignored")?;
            told.push(("alert ignored", Some(job.id), plan));
            return Ok(());
        }
        Repeat::Escalate if goes_on && escalate(connection, &job, plan, now, told)? => {
            jobs::add_alert(connection, job.id, of.id, now, "escalated")?;
            entries::add(connection, job.id, &received(of, plan, "escalated"))?;
            entries::add(connection, job.id, &decided(reasons, plan, now)?)?;
        }
        _ => {
            jobs::add_alert(connection, job.id, of.id, now, "attached")?;
            if goes_on {
                attached(connection, job.id, of, plan)?;
            }
        }
    }
    keep_further(connection, job.id, of.id, now)?;
    told.push(("alert attached", Some(job.id), plan));
    Ok(())
}

/// Tells the log of a further alert; of very many only how many there are, each time that doubles.
fn attached(connection: &Connection, job: i64, of: &Of<'_>, plan: &Plan) -> rusqlite::Result<()> {
    let count = jobs::count_alerts(connection, job)?;
    if count <= MOST_KEPT {
        return entries::add(connection, job, &received(of, plan, "attached"));
    }
    if count % MOST_KEPT == 0 && (count / MOST_KEPT).is_power_of_two() {
        let text =
            "further alerts are attached; the log does not tell of each, the state of the service does";
        let entry = received(of, plan, "attached").result("alerts", count).result("text", text);
        return entries::add(connection, job, &entry);
    }
    Ok(())
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

/// Adds the steps that the job has not; `false` if there are none, a person ended it, or the rule is now only to observe.
fn escalate<'a>(
    connection: &Connection,
    job: &Job,
    plan: &'a Plan,
    now: i64,
    told: &mut Vec<Placed<'a>>,
) -> rusqlite::Result<bool> {
    if matches!(job.state, JobState::Cancelled | JobState::Refused | JobState::Dead)
        || plan.mode == Mode::Observe
    {
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
    // The rule may have changed since: what either of the two wants people for is asked.
    let asks = [&job.plan, plan].into_iter().filter(|plan| plan.mode == Mode::Approve);
    let approval = asks.map(approval_of).reduce(stricter);
    if let Some(approval) = &approval {
        (whole.mode, whole.approval) = (Mode::Approve, Some(approval.clone()));
    }
    let sha256 = whole.hash();
    steps::add(connection, job.id, &new)?;
    jobs::set_plan(connection, job.id, &whole, &sha256)?;
    if let Some(approval) = &approval {
        // A yes to less is no yes to more.
        approvals::withdraw(connection, job.id)?;
        approvals::ask(connection, job.id, "", &sha256, approval, now)?;
        told.push((WANTED, Some(job.id), plan));
    }
    reopen(connection, job, now)?;
    Ok(true)
}

/// Of two approvals the one that wants more people, else the later one; run without a yes only where both would be.
fn stricter(one: Approval, later: Approval) -> Approval {
    let run_on_timeout = one.run_on_timeout && later.run_on_timeout;
    let chosen = if one.count > later.count { one } else { later };
    Approval { run_on_timeout, ..chosen }
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
    // A rule may call a step of its own so.
    let mut name = format!("alert-{alert}");
    while there.iter().any(|step| step.plan.id == name) {
        name.push_str("-received");
    }
    steps::add(connection, job.id, &[keep_alert::planned(name, alert)])?;
    reopen(connection, &job, now)
}

/// What has ended has something to do again.
fn reopen(connection: &Connection, job: &Job, now: i64) -> rusqlite::Result<()> {
    match job.state {
        JobState::Queued => Ok(()),
        // Its worker may have looked for the last time just now.
        JobState::Running | JobState::Waiting => jobs::wake(connection, job.id),
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
    Ok(NewEntry::new(EntryType::DECISION_MADE)
        .how("rule", plan.rule.as_str())
        .how("mode", jobs::mode_word(plan.mode))
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
