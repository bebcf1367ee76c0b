//! `timeline.build` and `report.issue`: sense is made of what was captured, by commands of this program.

use custody::{Case, EntryType, case_layout};
use serde_json::{Value, json};

use super::{Context, Failed, Step, child};
use crate::alert::AssetKind;

struct Build;
struct Issue;

pub(super) static BUILD: &dyn Step = &Build;
pub(super) static ISSUE: &dyn Step = &Issue;

impl Step for Build {
    fn word(&self) -> &'static str {
        "timeline.build"
    }

    fn about(&self) -> &'static str {
        "Builds the case's timeline from all that was captured"
    }

    fn takes(&self, _: AssetKind) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        // Building again over what is there changes nothing.
        let ended = child::run(context, &["timeline".into(), context.case.into()])?;
        if !ended.is_done() {
            return Err(ended.failure("the build"));
        }
        Ok(json!({"issues": ended.code == 1}))
    }
}

impl Step for Issue {
    fn word(&self) -> &'static str {
        "report.issue"
    }

    fn about(&self) -> &'static str {
        "Issues the case's custody report into its folder of reports"
    }

    fn takes(&self, _: AssetKind) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let fault = |error: custody::Error| Failed::for_now(format!("the case cannot be read: {error}"));
        let entries = Case::open(context.case).and_then(|case| case.log().read()).map_err(fault)?.entries;
        let folder = case_layout::reports(context.case).join(context.id);
        let issued = entries.iter().filter(|entry| entry.kind == EntryType::REPORT_ISSUED).count();
        // The first intent says how many there were before.
        let before = context.intents.iter().find_map(|intent| intent.get("issued")?.as_u64());
        let told = json!({"folder": folder.display().to_string()});
        match before {
            Some(before) if issued as u64 > before => return Ok(told),
            Some(_) => {}
            None => (context.intend)(&json!({"issued": issued}))
                .map_err(|error| Failed::for_now(error.to_string()))?,
        }
        let ended = child::run(context, &["report".into(), context.case.into(), "-o".into(), folder.into()])?;
        if !ended.is_done() {
            return Err(ended.failure("the report"));
        }
        Ok(told)
    }
}
