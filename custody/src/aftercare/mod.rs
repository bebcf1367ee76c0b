//! Life after the case: how long evidence is kept, how it ends, who was given what, and which tool was at fault.
//!
//! Each act is one entry of the *case's* log, so that its record outlives the exhibit; outside a case it is one of
//! the bundle's own log. Every module holds one act: the schema of its entry, the writer, and the typed rows that
//! a report reads back. Rows hold texts in their stored form and are in the order of the log.

mod access;
mod copies;
mod day;
mod disclosure;
mod disposal;
mod impact;
mod letter;
mod notice;
mod places;
mod retention;
mod versions;

pub use access::{Access, NewAccess, accesses};
pub use copies::{Copied, Copy, NewCopy, copies};
pub use day::Day;
pub use disclosure::{Disclosed, Disclosure, NewDisclosure, Origin, disclosures, origins};
pub use disposal::{Disposal, Disposed, ITEM_BUNDLE, Method, NewDisposal, RECORD_LIST, disposals};
pub use impact::{Act, Fault, Impact, Ranges, TouchedActs, TouchedBundle, UnknownTool, Which};
pub use letter::letter;
pub use notice::{NewNotice, Notice, notices};
pub use places::{Found, find_places};
pub use retention::{Keeping, NewRetention, Retention, RetentionState, Rules, keeping, retentions};
pub use versions::{Version, VersionSet};

pub(crate) use disposal::{disposes_of_bundle, list_of_record};

use crate::entry::{Entry, NewEntry};
use crate::error::{Error, Result};

/// Adds a fact of `how`, unless there is nothing to say.
fn said(entry: NewEntry, key: &str, text: &str) -> NewEntry {
    if text.is_empty() { entry } else { entry.how(key, text) }
}

/// Names the exhibit that an act is about, where it is about one alone.
fn about(entry: NewEntry, exhibit: Option<&str>) -> NewEntry {
    match exhibit {
        Some(exhibit) => entry.exhibit(exhibit),
        None => entry,
    }
}

/// A text of `how`, or nothing.
fn told(entry: &Entry, key: &str) -> String {
    entry.how_text(key).unwrap_or_default().to_owned()
}

/// Who wrote an entry: the name, or the key where nobody is named.
fn writer_of(entry: &Entry) -> String {
    let actor = &entry.actor;
    if actor.name.is_empty() { actor.key.clone() } else { actor.name.clone() }
}

/// By what authority and to what end, each empty where it is not said.
fn reasons(entry: &Entry) -> (String, String) {
    entry.about.why.as_ref().map_or_else(Default::default, |why| (why.authority.clone(), why.purpose.clone()))
}

/// Refuses an act that leaves out what it must say.
fn must_say(what: &'static str, text: &str) -> Result<()> {
    if text.trim().is_empty() { Err(Error::malformed(what, "it is empty")) } else { Ok(()) }
}
