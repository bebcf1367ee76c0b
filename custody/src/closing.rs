//! Closing a case: after `case.closed` no evidence is added, and its log takes only what follows evidence about.
//!
//! Allowed after the close: looking at the evidence and what is made of it (`access.open`, `verify.result`,
//! `timeline.built`, `query.run`, `export.made`, `copy.made`, `report.issued`), its further way (`transfer.*`,
//! `disclosure.made`, `retention.set`, `item.disposed`), what proves the log (`anchor.made`, `key.added`, `key.revoked`,
//! `log.recovered`), and candour (`correction`, `tool.notice`). Each such entry says in `how.after_close` which entry
//! closed the case, so that the last line alone tells an append that the log is closed.
//!
//! `case.closed`: `how.text` why it is closed; `how.anyway` why with open exhibits; `result.exhibits` a list of
//! `{id, manifest_sha256, origin, size, root}`: how far each exhibit's log had come (left out beyond 200 exhibits),
//! `result.open` the ids of those that are not sealed.

use serde_json::{Map, Value};

use crate::case::Case;
use crate::custody_log::CustodyLog;
use crate::entry::{Entry, EntryType, NewEntry};
use crate::error::Result;
use crate::handover::{items_in, offers};

/// In `how` of every entry after `case.closed`: the number of that entry.
pub const HOW_AFTER_CLOSE: &str = "after_close";

/// An entry has at most 65,535 bytes.
const MOST_LISTED: usize = 200;

/// Whether a closed log takes such an entry.
pub fn allowed_after_close(kind: &EntryType) -> bool {
    [
        EntryType::ACCESS_OPEN,
        EntryType::ANCHOR_MADE,
        EntryType::COPY_MADE,
        EntryType::CORRECTION,
        EntryType::DISCLOSURE_MADE,
        EntryType::EXPORT_MADE,
        EntryType::ITEM_DISPOSED,
        EntryType::KEY_ADDED,
        EntryType::KEY_REVOKED,
        EntryType::LOG_RECOVERED,
        EntryType::QUERY_RUN,
        EntryType::REPORT_ISSUED,
        EntryType::RETENTION_SET,
        EntryType::TIMELINE_BUILT,
        EntryType::TOOL_NOTICE,
        EntryType::TRANSFER_ACCEPTED,
        EntryType::TRANSFER_OFFERED,
        EntryType::TRANSFER_REFUSED,
        EntryType::VERIFY_RESULT,
    ]
    .contains(kind)
}

/// The entry that closed the log, as the last of its entries tells.
pub(crate) fn closed_by(last: &Entry) -> Option<u64> {
    if last.kind == EntryType::CASE_CLOSED {
        return Some(last.seq);
    }
    last.about.how.get(HOW_AFTER_CLOSE).and_then(Value::as_u64)
}

/// What is not finished in a case, in words; nothing when it can be closed.
///
/// # Errors
///
/// Those of reading its logs.
pub fn unfinished(case: &Case) -> Result<Vec<String>> {
    let mut words: Vec<String> = items_in(case.folder())?
        .into_iter()
        .filter(|item| item.manifest.is_none())
        .map(|item| format!("{} is not sealed", item.id))
        .collect();
    let mut waiting = |name: &str, log: &CustodyLog| -> Result<()> {
        for offer in offers(&log.read()?.entries)?.iter().filter(|offer| offer.answer.is_none()) {
            words.push(format!("the offer in entry {} of {name} was not answered", offer.seq));
        }
        Ok(())
    };
    waiting("the case", case.log())?;
    for exhibit in case.exhibits()? {
        if let Ok(log) = CustodyLog::open(&exhibit.folder) {
            waiting(&exhibit.id, &log)?;
        }
    }
    Ok(words)
}

/// The entry that closes a case. `anyway` says why it is closed with something unfinished.
///
/// # Errors
///
/// Those of reading its logs.
pub fn closing_entry(case: &Case, text: &str, anyway: Option<&str>) -> Result<NewEntry> {
    let mut entry = NewEntry::new(EntryType::CASE_CLOSED);
    if !text.is_empty() {
        entry = entry.how("text", text);
    }
    if let Some(why) = anyway {
        entry = entry.how("anyway", why);
    }
    let items = items_in(case.folder())?;
    let open: Vec<&str> =
        items.iter().filter(|item| item.manifest.is_none()).map(|item| item.id.as_str()).collect();
    if !open.is_empty() {
        entry = entry.result("open", open);
    }
    let mut states = Vec::new();
    for (exhibit, item) in case.exhibits()?.iter().zip(&items) {
        let mut state = Map::new();
        state.insert("id".to_owned(), exhibit.id.as_str().into());
        if let Some(manifest) = item.manifest {
            state.insert("manifest_sha256".to_owned(), manifest.to_string().into());
        }
        if let Some(head) = CustodyLog::open(&exhibit.folder)?.read()?.checkpoint {
            state.insert("origin".to_owned(), head.checkpoint.origin.into());
            state.insert("size".to_owned(), head.checkpoint.size.into());
            state.insert("root".to_owned(), head.checkpoint.root.to_string().into());
        }
        states.push(Value::Object(state));
    }
    entry = entry.result("exhibit_count", states.len());
    Ok(if states.len() <= MOST_LISTED { entry.result("exhibits", states) } else { entry })
}
