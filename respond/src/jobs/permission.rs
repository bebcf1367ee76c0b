//! Whether people said yes: to a whole plan, or to one step of it.

use custody::sha256;

use super::runner::Service;
use crate::error::Result;
use crate::rules::Approval;
use crate::state::approvals::{self, Answer, Question};
use crate::state::jobs::Job;
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

/// Whether a plan may be run. A yes is used up here: what it allowed is begun with this answer.
pub(super) fn of_plan(service: &Service, job: &Job) -> Result<Permission> {
    let now = service.acting.now();
    service.state.with(|connection| {
        let Some(question) = approvals::about(connection, job.id, "")? else {
            return Ok(Permission::Given(None));
        };
        let permission = judge(&question, now);
        let answer = match permission {
            Permission::Given(_) => Answer::Used,
            Permission::Refused(_) if question.answer == Answer::Open => Answer::Late,
            _ => return Ok(permission),
        };
        approvals::set(connection, question.id, answer)?;
        Ok(permission)
    })
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
    let anybody = || Approval { from: Vec::new(), count: 1, timeout: WITHIN, run_on_timeout: false };
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
            approvals::set(connection, stale.id, Answer::Used)?;
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
        Answer::Used => Permission::Wait(question.until),
        Answer::Open if now < question.until => Permission::Wait(question.until),
        Answer::Open if question.run_on_timeout => Permission::Given(Some(question.id)),
        Answer::Open => Permission::Refused("nobody said yes to it in time".to_owned()),
    }
}
