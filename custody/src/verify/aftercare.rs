//! What the check of a case says of its afterlife: disposals against retention and against what is there, the records
//! that are kept of disposed exhibits, and disclosures against what the case ever had.
//!
//! A record is a part of the case, so damage to it is a fault. The rest are notes: that something was destroyed early
//! or given out from elsewhere does not make the evidence less intact, but nobody must overlook it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Options;
use super::findings::{FaultKind, Findings, Place};
use super::log::{self, LogCheck};
use super::log_files::names_in;
use crate::aftercare::{Disposal, ITEM_BUNDLE, RECORD_LIST, Rules, list_of_record, origins};
use crate::case::Case;
use crate::case_layout;
use crate::digest::{Digest, sha256};
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType};
use crate::error::Result;

/// No list of a record is longer.
const LONGEST_LIST: u64 = 64 << 20;

/// Adds what there is to say. `present` holds the folders of the exhibits that are there, with their ids.
pub(super) fn check(
    folder: &Path,
    log: &LogCheck,
    present: &BTreeMap<String, String>,
    options: &Options,
    findings: &mut Findings,
) -> Result<()> {
    let folders: BTreeMap<&str, &str> =
        present.iter().map(|(name, id)| (id.as_str(), name.as_str())).collect();
    let mut rules = Rules::default();
    let mut added = BTreeSet::new();
    let mut here_again = BTreeSet::new();
    let mut records = BTreeSet::new();
    for entry in &log.landmarks {
        if entry.kind == EntryType::EXHIBIT_ADDED {
            added.insert(entry.about.exhibit.clone());
        }
        if entry.kind == EntryType::ITEM_DISPOSED {
            let gone = Disposal::of(entry);
            if !added.contains(&gone.exhibit) {
                let id = gone.exhibit.as_deref().unwrap_or("an exhibit it does not name");
                findings.note(format!("entry {} disposes of {id}, which no earlier entry added", gone.seq));
            }
            if let Some(why) = rules.early(entry) {
                early(&gone, &why, findings);
            }
            here_or_not(&gone, &folders, &mut here_again, findings);
            if let Some(path) = &gone.record
                && records.insert((path.clone(), gone.record_sha256))
            {
                record(folder, &gone, path, options, findings)?;
            }
        }
        if entry.kind == EntryType::COPY_MADE
            && let Some(found) = entry.about.errors.get("found").and_then(serde_json::Value::as_str)
        {
            let copy = entry.how_text("copy").unwrap_or("a copy");
            findings.note(format!("{copy} did not verify when it was made (entry {}): {found}", entry.seq));
        }
        rules.add(entry);
    }
    let records: BTreeSet<String> = records.into_iter().map(|(path, _)| path).collect();
    unnamed_records(folder, &records, present, findings)?;
    disclosures(folder, log, findings);
    Ok(())
}

/// Something went before its retention let it.
fn early(gone: &Disposal, why: &str, findings: &mut Findings) {
    let by = match gone.authority.as_str() {
        "" => "NO AUTHORITY is recorded".to_owned(),
        authority => format!("by the authority {authority:?}"),
    };
    let bundle = gone.item == ITEM_BUNDLE;
    let item = if bundle { gone.exhibit.as_deref().unwrap_or_default() } else { &gone.item };
    findings.note(format!("DISPOSED EARLY: {item} went by entry {}, {by}, though {why}", gone.seq));
}

/// Whether a bundle that was disposed of is there; each that is, is told once.
fn here_or_not(
    gone: &Disposal,
    folders: &BTreeMap<&str, &str>,
    here_again: &mut BTreeSet<String>,
    findings: &mut Findings,
) {
    let Some(id) = gone.exhibit.as_deref().filter(|_| gone.item == ITEM_BUNDLE) else { return };
    let seq = gone.seq;
    match folders.get(id) {
        Some(name) if here_again.insert(id.to_owned()) => {
            let said = if gone.delete { "said that its folder is deleted" } else { "disposed of it" };
            findings
                .note(format!("{id} IS HERE, though entry {seq} {said}: {}/{name}", case_layout::EXHIBITS));
        }
        Some(_) => {}
        None => {
            let by = if gone.authority.is_empty() { "NO AUTHORITY is recorded" } else { &gone.authority };
            let how = gone.words();
            findings.note(format!("{id} is not here: entry {seq} disposed of it ({how}; authority: {by})"));
        }
    }
}
/// The record of a disposed exhibit must be what the entry says, and its log must verify.
fn record(
    folder: &Path,
    gone: &Disposal,
    record: &str,
    options: &Options,
    findings: &mut Findings,
) -> Result<()> {
    let at = folder.join(record);
    let list_path = format!("{record}/{RECORD_LIST}");
    let list = read_small(&at.join(RECORD_LIST), LONGEST_LIST).unwrap_or_default();
    let Some(list) = list else {
        let words = format!("entry {} keeps this record and it is not there", gone.seq);
        findings.fault(Place::file(list_path), FaultKind::Missing, words);
        return Ok(());
    };
    if gone.record_sha256 != Some(sha256(&list)) {
        let words = format!("it is not the list that entry {} names", gone.seq);
        findings.fault(Place::file(&list_path), FaultKind::Changed, words);
    }
    let found = list_of_record(&at)?;
    if found.as_bytes() != list {
        // Each line of one list that the other has not is a file that changed, came or went.
        let wanted = String::from_utf8_lossy(&list).into_owned();
        let wanted: BTreeSet<&str> = wanted.lines().collect();
        let there: BTreeSet<&str> = found.lines().collect();
        let name = |line: &str| line.split_once("  ").map_or_else(String::new, |(_, name)| name.to_owned());
        let differing: BTreeSet<String> =
            wanted.symmetric_difference(&there).map(|line| name(line)).collect();
        for file in differing {
            let words = format!("it is not as the record of entry {} was kept", gone.seq);
            findings.fault(Place::file(format!("{record}/{file}")), FaultKind::Changed, words);
        }
    }
    for name in ["", "keys", case_layout::CHECKPOINTS, case_layout::ANCHORS] {
        for item in names_in(&at, name)? {
            let path = if name.is_empty() { item } else { format!("{name}/{item}") };
            let kind = std::fs::symlink_metadata(at.join(&path));
            let folder = matches!(path.as_str(), "keys" | case_layout::CHECKPOINTS | case_layout::ANCHORS);
            if !kind.is_ok_and(|kind| kind.is_file() || folder && kind.is_dir()) {
                let file = format!("{record}/{path}");
                findings.fault(Place::file(file), FaultKind::Unlisted, "it is no file of a record");
            }
        }
    }
    let mut own = Findings::default();
    log::verify(&at, options, &mut own)?;
    findings.fault_count += own.fault_count;
    for mut fault in own.faults {
        fault.place.file = format!("{record}/{}", fault.place.file);
        findings.faults.push(fault);
    }
    Ok(())
}

/// Nothing else may lie beside the records.
fn unnamed_records(
    folder: &Path,
    records: &BTreeSet<String>,
    present: &BTreeMap<String, String>,
    findings: &mut Findings,
) -> Result<()> {
    for name in names_in(folder, case_layout::DISPOSED)? {
        let path = format!("{}/{name}", case_layout::DISPOSED);
        if records.contains(&path) {
            continue;
        }
        if present.keys().any(|there| name == *there || name.starts_with(&format!("{there}."))) {
            findings.note(format!("{path} was left by a disposal that was cut short; it is no evidence"));
        } else {
            findings.fault(Place::file(path), FaultKind::Unlisted, "no item.disposed entry names it");
        }
    }
    Ok(())
}

/// What was given out must be something that the case had.
fn disclosures(folder: &Path, log: &LogCheck, findings: &mut Findings) {
    let made = log.landmarks.iter().filter(|entry| entry.kind != EntryType::DISCLOSURE_MADE);
    let hashes = |entry: &Entry| entry.about.subject.iter().filter_map(|s| s.sha256).collect::<Vec<_>>();
    let had: BTreeSet<Digest> = made.flat_map(hashes).collect();
    let given: Vec<(u64, String, Digest)> = log
        .entries_of(&EntryType::DISCLOSURE_MADE)
        .flat_map(|entry| entry.about.subject.iter().map(move |subject| (entry.seq, subject)))
        .filter_map(|(seq, subject)| Some((seq, subject.id.clone(), subject.sha256?)))
        .filter(|(_, _, hash)| !had.contains(hash))
        .collect();
    if given.is_empty() {
        return;
    }
    // Only now everything is looked through.
    let wanted: Vec<Digest> = given.iter().map(|(_, _, hash)| *hash).collect();
    let Ok(found) = Case::open(folder).and_then(|case| origins(&case, &wanted)) else { return };
    for ((seq, id, hash), _) in given.iter().zip(found).filter(|(_, origin)| origin.is_none()) {
        findings.note(format!(
            "entry {seq} discloses {id} with SHA-256 {hash}, which no exhibit, export or report of this case has"
        ));
    }
}
