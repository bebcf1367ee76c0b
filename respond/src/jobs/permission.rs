//! Whether people said yes: to a whole plan, or to one step of it.

use custody::sha256;
use rusqlite::Connection;

use super::runner::Service;
use crate::error::Result;
use crate::rules::{Approval, Mode, Plan};
use crate::state::approvals::{self, Answer, Question};
use crate::state::jobs::{self, Job};
use crate::state::steps::StepRow;
use crate::state::texts::to_json;

/// How long people have where no rule says.
const WITHIN: u64 = 24 * 60 * 60;

/// What people say so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Permission {
    /// Yes, by this question if one was asked.
    Given(Option<i64>),
    /// Not yet; at this time it is over.
    Wait(i64),
    /// No, for this reason.
    Refused(String),
}

/// Who must say yes to a plan: whoever writes the state, where its rule does not say.
pub(super) fn approval_of(plan: &Plan) -> Approval {
    plan.approval.clone().unwrap_or_else(anybody)
}

fn anybody() -> Approval {
    Approval { from: Vec::new(), count: 1, timeout: WITHIN, run_on_timeout: false }
}

/// Whether a plan may be run. A yes is used up here: what it allowed is begun with this answer, and the times of the plan count
/// from now.
///
/// A plan whose mode is `approve` needs a yes of its own: where nobody was asked about just this plan, they are asked now.
pub(super) fn of_plan(service: &Service, job: &Job) -> Result<Permission> {
    let now = service.acting.now();
    let found = service.state.with(|connection| look(connection, job, now))?;
    if let Some((_, permission @ Permission::Wait(_)) | (None, permission @ Permission::Given(_))) = &found {
        return Ok(permission.clone());
    }
    let (is_asked, permission) = service.state.change(|connection| {
        // Read anew: another process may have said something meanwhile.
        let Some((question, permission)) = look(connection, job, now)? else {
            approvals::ask(connection, job.id, "", &job.plan_sha256, &approval_of(&job.plan), now)?;
            let asked = approvals::about(connection, job.id, "")?;
            return Ok((true, Permission::Wait(asked.map_or(now, |asked| asked.until))));
        };
        if let Some(question) = question {
            match permission {
                Permission::Given(_) => {
                    approvals::set(connection, question.id, Answer::Used)?;
                    jobs::set_started(connection, job.id, Some(now))?;
                }
                Permission::Refused(_) if question.answer == Answer::Open => {
                    approvals::set(connection, question.id, Answer::Late)?;
                }
                _ => {}
            }
        }
        Ok((false, permission))
    })?;
    if is_asked {
        let facts = [("step", "".into()), ("from", approval_of(&job.plan).from.into())];
        service.acting.tell("approval wanted", &job.name(), &facts);
    }
    Ok(permission)
}

/// What was asked about a plan, and what follows; `None` where nobody was asked who should be.
fn look(
    connection: &Connection,
    job: &Job,
    now: i64,
) -> rusqlite::Result<Option<(Option<Question>, Permission)>> {
    if let Some(question) = approvals::about(connection, job.id, "")? {
        let permission = judge(&question, now);
        return Ok(Some((Some(question), permission)));
    }
    let may = job.plan.mode != Mode::Approve || approvals::is_used(connection, job.id, "", &job.plan_sha256)?;
    Ok(may.then_some((None, Permission::Given(None))))
}

/// Whether a step may be begun. People are asked when it is its turn; the yes is used up by whoever begins it.
///
/// With `breaker` a person must say so, whatever the rule says of time: it is why.
pub(super) fn of_step(
    service: &Service,
    job: &Job,
    step: &StepRow,
    breaker: Option<&str>,
) -> Result<Permission> {
    let approval = match (&step.plan.approval, breaker) {
        (None, None) => return Ok(Permission::Given(None)),
        (Some(approval), None) => approval.clone(),
        (approval, Some(_)) => {
            let of_rule = approval.clone().or_else(|| job.plan.approval.clone()).unwrap_or_else(anybody);
            Approval { run_on_timeout: false, ..of_rule }
        }
    };
    // What was begun once and failed is tried again by the same yes.
    if step.started_at.is_some() && step.tries > 0 {
        return Ok(Permission::Given(None));
    }
    let now = service.acting.now();
    let permission = service.state.change(|connection| {
        let bound_to = bound_to(job, step)?;
        let mut question = approvals::about(connection, job.id, &step.plan.id)?;
        if let Some(stale) = question.take_if(|question| question.bound_to != bound_to) {
            approvals::set(connection, stale.id, Answer::Withdrawn)?;
        }
        let Some(mut question) = question else {
            approvals::ask(connection, job.id, &step.plan.id, &bound_to, &approval, now)?;
            let asked = approvals::about(connection, job.id, &step.plan.id)?;
            return Ok((true, Permission::Wait(asked.map_or(now, |asked| asked.until))));
        };
        question.run_on_timeout &= breaker.is_none();
        let permission = judge(&question, now);
        if question.answer == Answer::Open && matches!(permission, Permission::Refused(_)) {
            approvals::set(connection, question.id, Answer::Late)?;
        }
        Ok((false, permission))
    })?;
    if permission.0 {
        let facts = [
            ("step", step.plan.id.clone().into()),
            ("from", approval.from.into()),
            ("why", breaker.unwrap_or_default().into()),
        ];
        service.acting.tell("approval wanted", &job.name(), &facts);
    }
    Ok(permission.1)
}

/// SHA-256 of what a step would do, to what, in which job.
pub(super) fn bound_to(job: &Job, step: &StepRow) -> rusqlite::Result<String> {
    let words = format!("{}\n{}\n{}", job.uuid, to_json(&job.plan.asset)?, to_json(&step.plan)?);
    Ok(sha256(words.as_bytes()).to_string())
}

fn judge(question: &Question, now: i64) -> Permission {
    match question.answer {
        Answer::Given => Permission::Given(Some(question.id)),
        Answer::Refused => Permission::Refused("somebody said no to it".to_owned()),
        Answer::Late => Permission::Refused("nobody said yes to it in time".to_owned()),
        // A later question takes its place; until then there is no yes.
        Answer::Used | Answer::Withdrawn => Permission::Wait(question.until),
        Answer::Open if now < question.until => Permission::Wait(question.until),
        Answer::Open if question.run_on_timeout => Permission::Given(Some(question.id)),
        Answer::Open => Permission::Refused("nobody said yes to it in time".to_owned()),
    }
}
