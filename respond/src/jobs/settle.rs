//! What a killed acquisition left unsaid in the case's log. Only while no child of the job runs.

use custody::bundle::Bundle;
use custody::{Case, CustodyLog, Entry, EntryType, Exhibit, NewEntry};

use super::acting::Acting;
use super::case_of_job::JOB;
use crate::error::Result;
use crate::state::jobs::Job;
use crate::steps::exhibits::state_of;
use std::path::Path;

/// Records in the case's log each exhibit that was sealed by a process that was killed before it could, and each that stays
/// open because another one of its name was sealed.
pub(super) fn settle(folder: &Path, job: &Job, acting: &Acting) -> Result<()> {
    let case = Case::open(folder)?;
    let entries = case.log().read()?.entries;
    let exhibits = case.exhibits()?;
    let mut sealed: Vec<&Exhibit> = Vec::new();
    let mut open: Vec<&Exhibit> = Vec::new();
    for exhibit in &exhibits {
        match state_of(exhibit)? {
            Some(true) => sealed.push(exhibit),
            Some(false) => open.push(exhibit),
            None => {}
        }
    }
    for exhibit in &sealed {
        if !is_told(&entries, &EntryType::EXHIBIT_ADDED, exhibit) && !add_arrived(&case, exhibit, acting)? {
            continue;
        }
        // It may have been killed between the seal and the checkpoint that signs it.
        CustodyLog::open(&exhibit.folder)?.record_tail(&acting.writer())?;
        if !is_told(&entries, &EntryType::BUNDLE_SEALED, exhibit) {
            let bundle = Bundle::open(&exhibit.folder).map_err(custody::Error::from)?;
            let size = std::fs::metadata(exhibit.folder.join("manifest.json")).map_or(0, |file| file.len());
            let entry = NewEntry::new(EntryType::BUNDLE_SEALED)
                .exhibit(&exhibit.id)
                .subject("manifest.json", size, bundle.manifest_sha256())
                .how(JOB, job.uuid.as_str())
                .how("recorded", "by the service, since the acquisition was killed before it could");
            case.append(entry, &acting.writer())?;
        }
    }
    for exhibit in open {
        let is_replaced = sealed.iter().any(|other| name_of(other) == name_of(exhibit));
        if is_replaced && !is_told(&entries, &EntryType::NOTE, exhibit) {
            let entry = NewEntry::new(EntryType::NOTE)
                .exhibit(&exhibit.id)
                .how(JOB, job.uuid.as_str())
                .result("text", "left open: its acquisition was cut short and could not be gone on with; it was made again");
            case.append(entry, &acting.writer())?;
        }
    }
    Ok(())
}

/// Adds an exhibit that came from another machine and was put in its place by a process that was killed before it could say
/// so. It was checked before; here it is once more. Gives whether it is added.
fn add_arrived(case: &Case, exhibit: &Exhibit, acting: &Acting) -> Result<bool> {
    let checked = custody::verify::verify(&exhibit.folder, &custody::verify::Options::default())?;
    let bundle = Bundle::open(&exhibit.folder).map_err(custody::Error::from)?;
    let manifest = bundle.manifest();
    let is_ours = manifest.exhibit == exhibit.id && manifest.case.as_deref() == Some(case.file().id.as_str());
    if !checked.faults.is_empty() || !is_ours || !exhibit.is_called(&manifest.name) {
        // Left to people: verifying the case says what is wrong with it.
        return Ok(false);
    }
    case.add_reserved(exhibit, &manifest.name, &acting.writer())?;
    Ok(true)
}

fn is_told(entries: &[Entry], kind: &EntryType, exhibit: &Exhibit) -> bool {
    entries
        .iter()
        .any(|entry| entry.kind == *kind && entry.about.exhibit.as_deref() == Some(exhibit.id.as_str()))
}

/// The folder's name without the id.
fn name_of(exhibit: &Exhibit) -> String {
    let folder = exhibit.folder.file_name().unwrap_or_default().to_string_lossy();
    folder.strip_prefix(&exhibit.id).unwrap_or_default().to_owned()
}
