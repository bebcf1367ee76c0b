//! What of a step lies in its case already: looked for before anything is captured, so that nothing is captured twice.

use std::path::Path;

use custody::bundle::Bundle;
use custody::{Case, CustodyLog, Entry, EntryType, Exhibit};
use serde_json::{Value, json};

use super::Failed;

/// The exhibits of one name.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sealed, and the case's log vouches for the seal: done.
    pub(crate) sealed: Vec<Exhibit>,
    /// Begun and not sealed.
    pub(crate) open: Vec<Exhibit>,
}

/// Looks for the exhibits of a name.
///
/// # Errors
///
/// [`Failed`] when the case cannot be read, and where an exhibit is sealed that the case's log does not vouch for.
pub(crate) fn look(case: &Path, name: &str) -> Result<Found, Failed> {
    of_names(case, &|exhibit| exhibit.is_called(name))
}

/// Looks for the exhibits whose folders fit.
pub(crate) fn of_names(case: &Path, fits: &dyn Fn(&Exhibit) -> bool) -> Result<Found, Failed> {
    let fault = |error: custody::Error| Failed::for_now(format!("the case cannot be read: {error}"));
    let case = Case::open(case).map_err(fault)?;
    let entries = case.log().read().map_err(fault)?.entries;
    let mut found = Found::default();
    for exhibit in case.exhibits().map_err(fault)?.into_iter().filter(|exhibit| fits(exhibit)) {
        match state_of(&exhibit).map_err(fault)? {
            Some(true) => {
                is_vouched_for(&entries, &exhibit)?;
                found.sealed.push(exhibit);
            }
            Some(false) => found.open.push(exhibit),
            None => {}
        }
    }
    Ok(found)
}

/// Whether the case's log tells of the seal of just this manifest: what lies in a folder says nothing by itself.
fn is_vouched_for(entries: &[Entry], exhibit: &Exhibit) -> Result<(), Failed> {
    let bundle = Bundle::open(&exhibit.folder)
        .map_err(|error| Failed::for_now(format!("{} cannot be read: {error}", exhibit.id)))?;
    let seals = entries.iter().filter(|entry| {
        entry.kind == EntryType::BUNDLE_SEALED && entry.about.exhibit.as_deref() == Some(&exhibit.id)
    });
    let mut manifests = seals
        .flat_map(|entry| &entry.about.subject)
        .filter(|subject| subject.id == "manifest.json")
        .filter_map(|subject| subject.sha256)
        .peekable();
    if manifests.peek().is_none() {
        // The service makes up for it when it puts the job down and when it takes it up.
        return Err(Failed::for_now(format!(
            "{} is sealed, and the case's log does not vouch for it yet: its acquisition was cut short",
            exhibit.id
        )));
    }
    if manifests.all(|manifest| manifest != bundle.manifest_sha256()) {
        return Err(Failed::for_good(format!(
            "{} holds another manifest than the one that the case's log vouches for",
            exhibit.id
        )));
    }
    Ok(())
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
    let streams = bundle.manifest().streams.iter();
    let bytes = streams.map(|stream| stream.size).fold(0, u64::saturating_add);
    let entries = CustodyLog::open(&exhibit.folder).and_then(|log| log.read()).map(|log| log.entries);
    let entries = entries.unwrap_or_default();
    let begun = entries.iter().find(|entry| entry.kind == EntryType::ACQUIRE_START);
    Ok(json!({
        "exhibit": exhibit.id, "manifest_sha256": bundle.manifest_sha256().to_string(), "bytes": bytes,
        "begun": begun.map(|entry| entry.time.wall.clone()),
    }))
}

/// What there is to say of the sealed exhibit of this name, if the case has one.
///
/// # Errors
///
/// Those of [`look`] and [`told`].
pub(crate) fn sealed(case: &Path, name: &str) -> Result<Option<Value>, Failed> {
    look(case, name)?.sealed.first().map(told).transpose()
}

#[cfg(test)]
mod tests {
    use custody::{Identity, NewCase, SigningKey, SystemClock, Writer, sha256};

    use super::*;

    #[test]
    fn a_seal_counts_once_the_cases_own_log_vouches_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("case");
        let (key, clock) = (SigningKey::generate().unwrap(), SystemClock);
        let writer = Writer::new(&key, &clock, Identity::default());
        let new = NewCase { name: "n".into(), examiner: "J. Doe".into(), ..NewCase::default() };
        let case = Case::create(&place, &new, &writer).unwrap();
        // Sealed long ago, and laid there by whom it may be.
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/case_v1/exhibits");
        let bundle = std::fs::read_dir(sample).unwrap().map(|one| one.unwrap().path());
        let bundle = bundle.filter(|path| path.join("manifest.json").is_file()).min().unwrap();
        let exhibit = case.reserve_exhibit("disk").unwrap();
        std::fs::remove_dir(&exhibit.folder).unwrap();
        let copied = std::process::Command::new("cp").arg("-r").arg(&bundle).arg(&exhibit.folder).status();
        assert!(copied.unwrap().success());
        let failed = look(&place, "disk").unwrap_err();
        assert!(failed.may_help_again && failed.what.contains("does not vouch for it yet"), "{failed}");

        let seal = |digest| {
            let entry = custody::NewEntry::new(EntryType::BUNDLE_SEALED).exhibit(&exhibit.id);
            case.append(entry.subject("manifest.json", 1, digest), &writer).unwrap();
        };
        seal(sha256(b"another"));
        let failed = look(&place, "disk").unwrap_err();
        assert!(!failed.may_help_again && failed.what.contains("another manifest"), "{failed}");
        seal(Bundle::open(&exhibit.folder).unwrap().manifest_sha256());
        assert_eq!(look(&place, "disk").unwrap().sealed, std::slice::from_ref(&exhibit));
        assert_eq!(sealed(&place, "disk").unwrap().unwrap()["exhibit"], exhibit.id);
        assert_eq!(sealed(&place, "other").unwrap(), None);
    }
}
