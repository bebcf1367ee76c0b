//! The second half of `exhibit capture --from-alert`: carries the plan out, and says what becomes of each step.

use std::collections::BTreeMap;
use std::sync::Arc;

use respond::alert::Alert;
use respond::inventory::Inventory;
use respond::jobs::{ByHand, Overview};
use respond::rules::{Decider, RuleSet};
use respond::settings::Settings;
use respond::state::approvals::Answer;
use respond::state::jobs::JobState;
use serde_json::json;

use super::jobs::this_person;
use super::serve::acting;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::session::Session;
use crate::ui::{Ui, printable};

/// Carries out what the rules decide about these alerts.
pub(crate) fn carry_out(
    settings: Settings,
    rules: RuleSet,
    inventory: Inventory,
    alerts: Vec<Alert>,
    body: Vec<u8>,
    session: &Session,
) -> Result<Outcome, Failure> {
    let clock: Arc<dyn custody::Clock> = Arc::new(custody::SystemClock);
    let who = this_person()?.name;
    let acting = acting(&settings, Arc::clone(&clock), Arc::new(()), session)?;
    let rules = Arc::new(Decider::new(Arc::new(rules), Arc::new(inventory), clock));
    let cases = settings.cases.clone();
    let stop = interrupt::pause_flag()?;
    let mut said = BTreeMap::new();
    let by_hand = ByHand { settings, rules, acting, who, body, alerts };
    let jobs = by_hand.run(&stop, |jobs| tell(jobs, &mut said, session.ui))?;
    for one in &jobs {
        let case = one.job.case_folder.as_ref().map(|folder| cases.join(folder).display().to_string());
        if session.ui.is_json() {
            session.ui.document(&json!({
                "job": one.job.name(), "state": one.job.state.word(), "why": one.job.why, "case": case,
            }))?;
        } else if let Some(case) = case {
            session.ui.data(&case)?;
        }
    }
    if jobs.iter().any(|one| !one.job.state.has_ended()) {
        return Err(Failure::new("it was stopped").hint("the same command goes on with what is left"));
    }
    Ok(if jobs.iter().all(|one| one.job.state == JobState::Done) {
        Outcome::Done
    } else {
        Outcome::WithIssues
    })
}

/// Says once what has changed.
fn tell(jobs: &[Overview], said: &mut BTreeMap<(i64, String), String>, ui: Ui) {
    for one in jobs {
        let name = one.job.name();
        for step in &one.steps {
            let words = match step.why.as_str() {
                "" => step.state.word().to_owned(),
                why => format!("{}: {}", step.state.word(), printable(why, false)),
            };
            let key = (one.job.id, step.plan.id.clone());
            if said.get(&key) != Some(&words) {
                ui.say(&format!("{name} {}: {words}", printable(&step.plan.id, false)));
                said.insert(key, words);
            }
        }
        for (question, _) in one.questions.iter().filter(|(question, _)| question.answer == Answer::Open) {
            let key = (one.job.id, format!("? {}", question.id));
            if said.insert(key, String::new()).is_none() {
                ui.say(&format!(
                    "{name} {} waits for a yes: exhibit jobs approve {name} --step {} --by-hand --config FILE",
                    question.step, question.step
                ));
            }
        }
    }
}
