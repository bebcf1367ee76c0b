//! `exhibit rules explain`

use std::path::PathBuf;

use respond::alert::Mapping;
use serde_json::json;

use super::By;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::{alert_file, plan_words};

/// Explain what rules make of an alert: each matcher, each asset, and the plan
///
/// The file is an alert as its product sends it, or one in the form that rules see. Nothing is done and nothing is asked of an
/// account: whether an asset is there is what the inventory says.
///
/// Example: exhibit rules explain alert.json --rules rules.toml --inventory assets.toml
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The alert
    alert: PathBuf,
    /// The product that sent it [default: found out]
    #[arg(long, value_name = "KIND")]
    source: Option<String>,
    /// The mapping that its source has in the settings
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    #[command(flatten)]
    by: By,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let (rules, inventory, at) = args.by.load(session)?;
    let mapping = args.mapping.as_deref().map(Mapping::load).transpose()?;
    let alerts = alert_file::read(&args.alert, args.source.as_deref(), mapping.as_ref())?;
    let decided: Vec<_> = alerts
        .into_iter()
        .map(|alert| {
            let decision = rules.decide(&inventory, &alert, at);
            (alert, decision)
        })
        .collect();
    if session.ui.is_json() {
        let all: Vec<_> =
            decided.iter().map(|(alert, decision)| json!({"alert": alert, "decision": decision})).collect();
        session.ui.document(&json!({"rules": rules.sha256(), "alerts": all}))?;
        return Ok(Outcome::Done);
    }
    for (at, (alert, decision)) in decided.iter().enumerate() {
        if at > 0 {
            session.ui.data("")?;
        }
        plan_words::print("", &plan_words::alert_line(alert), session.ui)?;
        plan_words::print_reasons(decision, session.ui)?;
        for (number, plan) in decision.plans.iter().enumerate() {
            plan_words::print_plan(number + 1, decision.plans.len(), plan, session.ui)?;
        }
        if decision.plans.is_empty() {
            session.ui.data("")?;
            session.ui.data("nothing is done")?;
        }
    }
    Ok(Outcome::Done)
}
