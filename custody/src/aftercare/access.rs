//! `access.open`: somebody had the evidence, or a copy of it, in hand without this program seeing it.
//!
//! What is verified, queried, shown or exported with this program is an entry already; this one is for the safe that
//! was opened and the copy that another laboratory mounted.
//!
//! ```text
//! exhibit         the exhibit; left out when it is for the whole case
//! how.who         who had access
//! how.item        what was opened, such as a copy's id
//! how.place       where
//! how.means       with what: the tool, the key of the safe
//! how.from, how.to   from when to when, as they were told
//! how.reference   the number of the form, or another
//! why.purpose     what for
//! why.authority   who allowed it
//! result.text     what came of it
//! ```

use serde::Serialize;

use super::{about, must_say, reasons, said, told, writer_of};
use crate::entry::{Entry, EntryType, NewEntry};
use crate::error::Result;

/// An access to evidence.
#[derive(Debug, Clone, Default)]
pub struct NewAccess {
    /// The exhibit; the whole case without one.
    pub exhibit: Option<String>,
    /// Who had access.
    pub who: String,
    /// What for.
    pub purpose: String,
    /// Who allowed it, or empty.
    pub authority: String,
    /// What was opened, such as a copy's id, or empty.
    pub item: String,
    /// Where, or empty.
    pub place: String,
    /// With what, or empty.
    pub means: String,
    /// From when, as it was told, or empty.
    pub from: String,
    /// To when, as it was told, or empty.
    pub to: String,
    /// The number of a form or another reference, or empty.
    pub reference: String,
    /// What came of it, or empty.
    pub outcome: String,
}

impl NewAccess {
    /// The entry to append.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Malformed`] when it does not say who or what for.
    pub fn entry(&self) -> Result<NewEntry> {
        must_say("name of who had access", &self.who)?;
        must_say("purpose of an access", &self.purpose)?;
        let mut entry = about(
            NewEntry::new(EntryType::ACCESS_OPEN).why(&self.authority, &self.purpose),
            self.exhibit.as_deref(),
        );
        for (key, text) in [
            ("who", &self.who),
            ("item", &self.item),
            ("place", &self.place),
            ("means", &self.means),
            ("from", &self.from),
            ("to", &self.to),
            ("reference", &self.reference),
        ] {
            entry = said(entry, key, text);
        }
        Ok(if self.outcome.is_empty() { entry } else { entry.result("text", self.outcome.as_str()) })
    }
}

/// An `access.open` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The entry's number.
    pub seq: u64,
    /// When it was written, RFC 3339.
    pub time: String,
    /// Who wrote it.
    pub by: String,
    /// The exhibit; the whole case without one.
    pub exhibit: Option<String>,
    /// Who had access.
    pub who: String,
    /// What for.
    pub purpose: String,
    /// Who allowed it.
    pub authority: String,
    /// What was opened.
    pub item: String,
    /// Where.
    pub place: String,
    /// With what.
    pub means: String,
    /// From when, as it was told.
    pub from: String,
    /// To when, as it was told.
    pub to: String,
    /// A reference.
    pub reference: String,
    /// What came of it.
    pub outcome: String,
}

/// All `access.open` entries.
pub fn accesses(entries: &[Entry]) -> Vec<Access> {
    let row = |entry: &Entry| {
        let (authority, purpose) = reasons(entry);
        let outcome = entry.about.result.get("text").and_then(|text| text.as_str()).unwrap_or_default();
        Access {
            seq: entry.seq,
            time: entry.time.wall.clone(),
            by: writer_of(entry),
            exhibit: entry.about.exhibit.clone(),
            who: told(entry, "who"),
            purpose,
            authority,
            item: told(entry, "item"),
            place: told(entry, "place"),
            means: told(entry, "means"),
            from: told(entry, "from"),
            to: told(entry, "to"),
            reference: told(entry, "reference"),
            outcome: outcome.to_owned(),
        }
    };
    entries.iter().filter(|entry| entry.kind == EntryType::ACCESS_OPEN).map(row).collect()
}
