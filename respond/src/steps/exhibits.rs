//! What of a step lies in its case already: looked for before anything is captured, so that nothing is captured twice.

use std::path::Path;

use custody::bundle::Bundle;
use custody::{Case, CustodyLog, EntryType, Exhibit};
use serde_json::{Value, json};

use super::Failed;

/// The exhibits of one name.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sealed: done.
    pub(crate) sealed: Vec<Exhibit>,
    /// Begun and not sealed.
    pub(crate) open: Vec<Exhibit>,
}

/// Looks for the exhibits of a name.
///
/// # Errors
///
/// [`Failed`] when the case cannot be read.
pub(crate) fn look(case: &Path, name: &str) -> Result<Found, Failed> {
    of_names(case, &|exhibit| exhibit.is_called(name))
}

/// Looks for the exhibits whose folders fit.
pub(crate) fn of_names(case: &Path, fits: &dyn Fn(&Exhibit) -> bool) -> Result<Found, Failed> {
    let fault = |error: custody::Error| Failed::for_now(format!("the case cannot be read: {error}"));
    let case = Case::open(case).map_err(fault)?;
    let mut found = Found::default();
    for exhibit in case.exhibits().map_err(fault)?.into_iter().filter(|exhibit| fits(exhibit)) {
        match state_of(&exhibit).map_err(fault)? {
            Some(true) => found.sealed.push(exhibit),
            Some(false) => found.open.push(exhibit),
            None => {}
        }
    }
    Ok(found)
}

/// Whether a bundle is sealed; `None` if it was not even begun: an acquisition that was killed before its log's first checkpoint.
pub(crate) fn state_of(exhibit: &Exhibit) -> custody::Result<Option<bool>> {
    if !custody::case_layout::log(&exhibit.folder).is_file() {
        return Ok(None);
    }
    match CustodyLog::open(&exhibit.folder).and_then(|log| log.read()) {
        Ok(log) if log.checkpoint.is_none() => Ok(None),
        Ok(log) => Ok(Some(log.entries.iter().any(|entry| entry.kind == EntryType::BUNDLE_SEALED))),
        // Killed while the log itself was made.
        Err(custody::Error::Read { .. } | custody::Error::Malformed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the journal keeps of a sealed exhibit.
///
/// # Errors
///
/// [`Failed`] when its manifest cannot be read.
pub(crate) fn told(exhibit: &Exhibit) -> Result<Value, Failed> {
    let bundle = Bundle::open(&exhibit.folder)
        .map_err(|error| Failed::for_now(format!("{} cannot be read: {error}", exhibit.id)))?;
    let bytes: u64 = bundle.manifest().streams.iter().map(|stream| stream.size).sum();
    let entries = CustodyLog::open(&exhibit.folder).and_then(|log| log.read()).map(|log| log.entries);
    let entries = entries.unwrap_or_default();
    let begun = entries.iter().find(|entry| entry.kind == EntryType::ACQUIRE_START);
    Ok(json!({
        "exhibit": exhibit.id, "manifest_sha256": bundle.manifest_sha256().to_string(), "bytes": bytes,
        "begun": begun.map(|entry| entry.time.wall.clone()),
    }))
}
