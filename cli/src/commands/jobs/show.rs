//! `exhibit jobs show`

use respond::jobs::Overview;
use respond::state::approvals::Answer;
use serde_json::{Value, json};

use super::{Config, job_number, time};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::ui::printable;

/// Show a job: its alerts, why it was decided so, its steps, who was asked, and what it holds
///
/// Example: exhibit jobs show J000017 --config /etc/exhibit/serve.toml
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The job, as J000017
    #[arg(value_parser = job_number)]
    job: i64,
    #[command(flatten)]
    config: Config,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (settings, state) = args.config.state()?;
    let found = Overview::of(&state, args.job)?;
    let overview =
        found.ok_or_else(|| Failure::usage("there is no such job").hint("exhibit jobs list lists them"))?;
    let ui = session.ui;
    if ui.is_json() {
        ui.document(&document(&overview))?;
        return Ok(Outcome::Done);
    }
    let job = &overview.job;
    let line = |name: &str, value: &str| ui.data(&format!("{name:<9} {}", printable(value, false)));
    line("job", &format!("{} ({})", job.name(), job.state.word()))?;
    if !job.why.is_empty() {
        line("because", &job.why)?;
    }
    line("rule", &job.plan.rule)?;
    line(
        "asset",
        &format!(
            "{} of group {:?}, owner {:?}",
            job.plan.asset.id, job.plan.asset.group, job.plan.asset.owner
        ),
    )?;
    line("plan", &job.plan_sha256)?;
    for (name, at) in [("made", Some(job.created_at)), ("begun", job.started_at), ("ended", job.ended_at)] {
        if at.is_some() {
            line(name, &format!("{} UTC", time(at)))?;
        }
    }
    if let Some(case) = &job.case_folder {
        line("case", &settings.cases.join(case).display().to_string())?;
    }
    for (alert, how) in &overview.alerts {
        line(
            "alert",
            &format!("{how}: {} {} ({})", alert.alert.source, alert.alert.source_id, alert.alert.title),
        )?;
    }
    for reason in overview.decision.iter().flat_map(|decision| &decision.reasons) {
        if reason.rule.is_empty() || reason.rule == job.plan.rule {
            line(if reason.holds { "for it" } else { "against" }, &reason.what)?;
        }
    }
    let rows = overview.steps.iter().map(|step| {
        vec![
            printable(&step.plan.id, false),
            printable(&step.plan.word, false),
            step.state.word().to_owned(),
            time(step.ended_at.or(step.started_at)),
            printable(&step.why, false),
        ]
    });
    ui.table(&["step", "use", "state", "since (UTC)", "why"], rows.collect())?;
    for (question, yes) in &overview.questions {
        let what = if question.step.is_empty() { "the plan" } else { &question.step };
        let from =
            if question.allowed.is_empty() { "anybody".to_owned() } else { question.allowed.join(", ") };
        let words = format!(
            "{what}: {} of {} from {from} until {} UTC, {}; yes from {}",
            yes.len(),
            question.wanted,
            time(Some(question.until)),
            question.answer.word(),
            if yes.is_empty() { "nobody".to_owned() } else { yes.join(", ") },
        );
        line("approval", &words)?;
        if question.answer == Answer::Open {
            let step =
                if question.step.is_empty() { String::new() } else { format!(" --step {}", question.step) };
            ui.say(&format!("to allow it: exhibit jobs approve {}{step} --config FILE", job.name()));
        }
    }
    for lease in &overview.leases {
        let until = lease
            .until
            .map_or_else(|| "until it is cancelled".to_owned(), |at| format!("until {} UTC", time(Some(at))));
        line("holds", &format!("{} ({}) {until}: {} {}", lease.step, lease.word, lease.state, lease.why))?;
    }
    Ok(Outcome::Done)
}

fn document(overview: &Overview) -> Value {
    let at = |at: Option<i64>| at.map(custody::clock::rfc3339);
    let steps: Vec<Value> = overview
        .steps
        .iter()
        .map(|step| {
            json!({
                "id": step.plan.id, "use": step.plan.word, "needs": step.plan.needs, "state": step.state.word(),
                "tries": step.tries, "started": at(step.started_at), "ended": at(step.ended_at), "why": step.why,
                "result": step.result,
            })
        })
        .collect();
    let questions: Vec<Value> = overview
        .questions
        .iter()
        .map(|(question, yes)| {
            json!({
                "step": question.step, "answer": question.answer.word(), "wanted": question.wanted, "from": question.allowed,
                "until": at(Some(question.until)), "bound_to": question.bound_to, "yes": yes,
            })
        })
        .collect();
    let leases: Vec<Value> = overview
        .leases
        .iter()
        .map(|lease| {
            json!({
                "step": lease.step, "use": lease.word, "since": at(Some(lease.since)), "until": at(lease.until),
                "state": lease.state, "why": lease.why,
            })
        })
        .collect();
    let alerts: Vec<Value> = overview
        .alerts
        .iter()
        .map(|(alert, how)| {
            json!({
                "how": how, "received": at(Some(alert.received_at)), "sha256": alert.raw_sha256, "alert": alert.alert,
            })
        })
        .collect();
    let mut document = super::list::document(&overview.job);
    if let Some(fields) = document.as_object_mut() {
        for (name, value) in
            [("steps", steps), ("approvals", questions), ("leases", leases), ("alerts", alerts)]
        {
            fields.insert(name.to_owned(), value.into());
        }
        let reasons = overview.decision.as_ref().map(|decision| json!(decision.reasons));
        fields.insert("reasons".to_owned(), reasons.unwrap_or_default());
    }
    document
}
