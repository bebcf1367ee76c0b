//! Isolations of a job in the log of its case, in the form from which they can be taken back without the service.

use std::path::Path;

use custody::{Case, NewEntry};
use serde::Deserialize;
use serde_json::Value;

use super::acting::Acting;
use crate::error::{Error, Result};
use crate::isolate::case_log::{self, Logged};
use crate::isolate::{Isolated, Restored, mark};

/// Writes what was there before, while nothing is touched yet.
pub(super) fn intended(
    job: &str,
    step: &str,
    word: &str,
    case: &Path,
    intent: &Value,
    acting: &Acting,
) -> Result<()> {
    let Some(recorded) = intent.get("recorded") else { return Ok(()) };
    let subject = intent.get("subject").and_then(Value::as_str).unwrap_or_default();
    let refused = |failed: crate::steps::Failed| Error::Refused { what: failed.what };
    let id = mark(job, step).map_err(refused)?;
    let entry = case_log::intended(&id, word, subject, recorded).map_err(refused)?;
    Case::open(case)?.append(entry, &acting.writer())?;
    Ok(())
}

/// The entry that it was done; `None` where the step gave something else than isolations do.
pub(super) fn done(job: &str, step: &str, word: &str, case: &Path, given: &Value) -> Option<NewEntry> {
    let isolated = Isolated::deserialize(given).ok()?;
    let logged = logged(job, step, case)?;
    Some(case_log::done(&logged.id, word, &isolated, logged.seq))
}

/// The entry that it was taken back.
pub(super) fn undone(job: &str, step: &str, word: &str, case: &Path, given: &Value) -> Option<NewEntry> {
    let restored = Restored::deserialize(given).ok()?;
    let logged = logged(job, step, case)?;
    Some(case_log::undone(&logged.id, word, &logged.subject, &restored, logged.seq))
}

fn logged(job: &str, step: &str, case: &Path) -> Option<Logged> {
    let id = mark(job, step).ok()?;
    let entries = Case::open(case).and_then(|case| case.log().read()).ok()?.entries;
    case_log::all(&entries).into_iter().find(|logged| logged.id == id)
}
