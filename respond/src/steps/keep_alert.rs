//! `keep.alert`: the alert as it came, byte for byte, as an exhibit of the case. Every job has this step by itself.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::capture::capture;
use super::{Context, Failed, Parameter, Step, Takes};
use crate::alert::AssetKind;
use crate::rules::{OnError, PlannedStep};
use crate::settings::Settings;

/// The word of the step.
pub(crate) const WORD: &str = "keep.alert";
const ALERT: &str = "alert";

struct KeepAlert;

pub(super) static KEEP_ALERT: &dyn Step = &KeepAlert;

/// The step, for an alert of the state.
pub(crate) fn planned(id: String, alert: i64) -> PlannedStep {
    PlannedStep {
        id,
        word: WORD.to_owned(),
        needs: Vec::new(),
        always: false,
        on_error: OnError::Continue,
        timeout: 600,
        max_wait: 0,
        retries: 5,
        backoff: (5, 60),
        lease: 0,
        approval: None,
        parameters: Map::from_iter([(ALERT.to_owned(), alert.into())]),
    }
}

/// The alert that a step is to keep.
pub(crate) fn alert_of(step: &PlannedStep) -> Option<i64> {
    step.parameters.get(ALERT).and_then(Value::as_i64).filter(|_| step.word == WORD)
}

/// Where the body of an alert lies while it is taken into the case of a job. Each job has a file of its own, since it is removed
/// once it is taken.
pub(crate) fn body_file(settings: &Settings, job: &str, alert: i64) -> PathBuf {
    settings.state.join("received").join(format!("{job}-alert-{alert}.json"))
}

impl Step for KeepAlert {
    fn word(&self) -> &'static str {
        WORD
    }

    fn about(&self) -> &'static str {
        "Keeps the alert as it came as an exhibit; every job does so by itself"
    }

    fn takes(&self, _: AssetKind) -> bool {
        true
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter { name: ALERT, about: "The alert's number in the state", takes: Takes::Number }]
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let alert = context.parameters.get(ALERT).and_then(Value::as_i64);
        let alert = alert.ok_or_else(|| Failed::for_good("the step names no alert of the state"))?;
        let file = body_file(context.settings, context.job, alert);
        let done = capture(context, context.id, vec!["logs".into(), OsString::from(&file)], false)?;
        // It lies in the case now; the state keeps it too.
        let _ = std::fs::remove_file(file);
        Ok(done)
    }
}
