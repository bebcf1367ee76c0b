//! What the log of an open bundle tells of an acquisition that was cut short.

use std::path::Path;

use custody::bundle::Source as SourceFacts;
use custody::{CustodyLog, EntryType};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What makes two sources the same one. A device's path may change between two boots; its serial number does not.
const IDENTITY: [&str; 9] =
    ["kind", "size", "serial", "model", "subset", "base", "etag", "snapshot", "since_snapshot"];

/// An acquisition that was begun and not sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenAcquisition {
    /// When it was begun: RFC 3339.
    pub created: String,
    /// The source, as `acquire.start` tells it.
    pub source: Map<String, Value>,
    /// Its options.
    pub options: Map<String, Value>,
    /// Number of the entry `acquire.start`.
    pub(crate) start: u64,
}

impl OpenAcquisition {
    /// Finds out what was begun in a bundle's folder; `None` if nothing was, or if it is sealed.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] if its log cannot be read.
    pub fn in_folder(folder: &Path) -> Result<Option<Self>> {
        Ok(Self::begun_in(folder)?.filter(|(_, sealed)| !sealed).map(|(begun, _)| begun))
    }

    /// Finds out what was sealed in a bundle's folder and may not be whole in its evidence store; `None` if nothing was.
    ///
    /// # Errors
    ///
    /// [`Error::Custody`] if its log cannot be read.
    pub fn sealed_in_part(folder: &Path) -> Result<Option<Self>> {
        if !custody::bundle::has_uploads(folder) || custody::bundle::RemotePlace::read(folder)?.is_none() {
            return Ok(None);
        }
        Ok(Self::begun_in(folder)?.filter(|(_, sealed)| *sealed).map(|(begun, _)| begun))
    }

    /// What was begun in a bundle's folder, and whether it is sealed.
    fn begun_in(folder: &Path) -> Result<Option<(Self, bool)>> {
        if !custody::case_layout::log(folder).is_file() {
            return Ok(None);
        }
        let entries = CustodyLog::open(folder)?.read()?.entries;
        let sealed = entries.iter().any(|entry| entry.kind == EntryType::BUNDLE_SEALED);
        let start = entries.iter().find(|entry| entry.kind == EntryType::ACQUIRE_START);
        let map = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
        let begun = start.map(|start| Self {
            created: start.time.wall.clone(),
            source: map(start.about.how.get("source")),
            options: map(start.about.how.get("options")),
            start: start.seq,
        });
        Ok(begun.map(|begun| (begun, sealed)))
    }

    /// Whether this is the source that it was reading; if not, in what they differ.
    ///
    /// # Errors
    ///
    /// The reason, in words.
    pub fn is_of(&self, facts: &SourceFacts) -> std::result::Result<(), String> {
        let now = serde_json::to_value(facts).unwrap_or_default();
        let is_device = self.source.get("serial").is_some();
        for name in IDENTITY.into_iter().chain((!is_device).then_some("path")) {
            let (before, after) = (self.source.get(name), now.get(name));
            if before != after {
                let words = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
                return Err(format!(
                    "its source had {name} {}, this one has {}",
                    words(before),
                    words(after)
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn expect(folder: &Path, exhibit: &str, facts: &SourceFacts) -> Result<Self> {
        let refused = |reason: String| Error::NotResumable { exhibit: exhibit.to_owned(), reason };
        let open =
            Self::in_folder(folder)?.ok_or_else(|| refused("no acquisition is open in it".to_owned()))?;
        open.is_of(facts).map_err(refused)?;
        Ok(open)
    }
}
