//! Whether the timeline of a case is still the one that its log says was built.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path};

use crate::case::Case;
use crate::case_layout;
use crate::digest::{Digest, sha256_of};
use crate::entry::{Entry, EntryType, Subject};
use crate::error::Result;

/// What the log and the files say of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimelineState {
    /// No entry tells of a timeline.
    NotLogged,
    /// Every file that the log names is as it was when it was built.
    AsLogged,
    /// These files are not; each with what is wrong.
    Changed(Vec<(String, String)>),
}

impl Case {
    /// Reads every file of the timeline that the newest `timeline.built` entries name, and compares its hash.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Read`] or [`crate::Error::LogBroken`] when the log cannot be read.
    pub fn check_timeline(&self) -> Result<TimelineState> {
        let entries = self.log().read()?.entries;
        if !entries.iter().any(|entry| entry.kind == EntryType::TIMELINE_BUILT) {
            return Ok(TimelineState::NotLogged);
        }
        let changed = changed_files(self.folder(), entries.iter());
        Ok(if changed.is_empty() { TimelineState::AsLogged } else { TimelineState::Changed(changed) })
    }
}

/// The files of a timeline that are not what the newest entries about them say. The manifest is the newest entry's;
/// parts and ledgers are those of the newest entry of their exhibit.
pub(crate) fn changed_files<'a>(
    case: &Path,
    entries: impl Iterator<Item = &'a Entry>,
) -> Vec<(String, String)> {
    let mut newest: BTreeMap<&str, &Entry> = BTreeMap::new();
    let mut manifest: Option<&Subject> = None;
    for entry in entries.filter(|entry| entry.kind == EntryType::TIMELINE_BUILT) {
        newest.insert(entry.about.exhibit.as_deref().unwrap_or_default(), entry);
        manifest = entry.about.subject.iter().find(|subject| is_manifest(subject)).or(manifest);
    }
    let parts = newest.values().flat_map(|entry| entry.about.subject.iter().filter(|s| !is_manifest(s)));
    let named = parts.chain(manifest).filter_map(|subject| Some((subject.id.as_str(), subject.sha256?)));
    named.filter_map(|(id, wanted)| Some((id.to_owned(), wrong(case, id, wanted)?))).collect()
}

fn is_manifest(subject: &Subject) -> bool {
    subject.id == "timeline/manifest.json"
}

/// What is wrong with a file, if anything.
fn wrong(case: &Path, id: &str, wanted: Digest) -> Option<String> {
    let mut path = case.to_owned();
    for part in Path::new(id).components() {
        let Component::Normal(name) = part else { return Some("its name leads out of the case".to_owned()) };
        path.push(name);
        match std::fs::symlink_metadata(&path) {
            Ok(kind) if kind.is_symlink() => return Some("it is, or lies behind, a link".to_owned()),
            Ok(_) => {}
            Err(error) => return Some(error.to_string()),
        }
    }
    if !id.starts_with(case_layout::TIMELINE) {
        return Some("it is no file of the timeline".to_owned());
    }
    match File::open(&path).and_then(sha256_of) {
        Ok(found) if found == wanted => None,
        Ok(_) => Some("it is not the file that the log's timeline.built entry names".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}
