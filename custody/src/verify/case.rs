//! The check of a whole case: its own log, every exhibit, and that they belong together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::findings::{FaultKind, Findings, Place};
use super::log::{self, LogCheck, LogSummary};
use super::log_files::names_in;
use super::verdict::{Level, Verdict};
use super::{
    Counts, ExhibitVerdict, Kind, Options, Verification, aftercare, bases, bundle, covering_anchors, threats,
    verdict_of,
};
use crate::aftercare::disposes_of_bundle;
use crate::case::{CaseFile, MOST_CASE_FILE, exhibits_in, parse_case_file};
use crate::case_layout;
use crate::digest::sha256;
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType, MAX_ENTRY};
use crate::error::Result;
use crate::timeline_check::changed_files;

/// Verifies the case in `folder` with all its exhibits.
pub(super) fn verify(folder: &Path, options: &Options) -> Result<Verification> {
    let mut findings = Findings::default();
    let log = log::verify(folder, options, &mut findings)?;
    let of = case_file(folder, &log, &mut findings)?;
    only_known_files(folder, &mut findings)?;
    for (file, why) in changed_files(folder, log.entries_of(&EntryType::TIMELINE_BUILT)) {
        if case_layout::timeline(folder).join("manifest.json").exists() {
            findings.fault(Place::file(file), FaultKind::Changed, why);
        } else {
            findings.note(format!("{file}: {why}; the timeline can be built anew"));
        }
    }
    let mut counts = Counts { entries: log.summary.size, files: 1, ..Counts::default() };
    let mut exhibits = Vec::new();
    let mut threats_of = Vec::new();
    let mut present = BTreeMap::new();
    for exhibit in exhibits_in(folder)? {
        let name = exhibit.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let added =
            log.entries_of(&EntryType::EXHIBIT_ADDED).any(|entry| entry.how_text("folder") == Some(&name));
        if !added && names_in(&exhibit.folder, "")?.is_empty() {
            findings.note(format!("{name} is empty and was never recorded: adding it was interrupted, or it was granted to a host"));
            continue;
        }
        let tells_of_it = |entry: &Entry| tells_of_content(entry, &exhibit.id);
        if added && !log.landmarks.iter().any(tells_of_it) && holds_nothing(&exhibit.folder)? {
            // An acquisition that was killed between its first writes must not look like tampering.
            findings.note(format!(
                "{name} was added, and nothing was ever written to it: its acquisition was cut short"
            ));
            exhibits.push(nothing_in(&exhibit.id, &name));
            present.insert(name, exhibit.id);
            continue;
        }
        let mut bundle = bundle::verify(&exhibit.folder, options)?;
        as_closed(&exhibit.id, &log, &mut bundle);
        bound_by_case(&exhibit.id, &name, &log, options, &mut bundle);
        belongs_here(&exhibit.id, of.as_ref(), &mut bundle);
        counts.add(&bundle.counts);
        findings.fault_count += bundle.fault_count;
        let prefix = format!("{}/{name}", case_layout::EXHIBITS);
        for mut fault in bundle.faults {
            fault.place.file = format!("{prefix}/{}", fault.place.file);
            findings.faults.push(fault);
        }
        findings.notes.extend(bundle.notes.into_iter().map(|note| format!("{}: {note}", exhibit.id)));
        threats_of.push((exhibit.id.clone(), bundle.threats));
        exhibits.push(ExhibitVerdict {
            id: exhibit.id.clone(),
            folder: prefix,
            verdict: bundle.verdict,
            fault_count: bundle.fault_count,
            unsigned_tail: bundle.unsigned_tail,
            ciphertext_only: bundle.ciphertext_only,
            data_not_read: bundle.data_not_read,
            log: bundle.log,
        });
        present.insert(name, exhibit.id);
    }
    exhibits_and_log(&log, &present, &mut findings);
    bases::check(folder, &present, &exhibits, options, &mut findings)?;
    aftercare::check(folder, &log, &present, options, &mut findings)?;
    // An anchor of a case must cover every exhibit that it got.
    // And what excuses that one is not there, or the presenter alone would vouch for it.
    let gone = log.entries_of(&EntryType::ITEM_DISPOSED).filter(|entry| disposes_of_bundle(entry));
    let last =
        log.entries_of(&EntryType::EXHIBIT_ADDED).chain(gone).map(|entry| entry.seq).max().unwrap_or(0);
    let mut verdict = verdict_of(&log, options, &findings, Some(last), false);
    for exhibit in &exhibits {
        if exhibit.verdict.level < verdict.level && exhibit.verdict.level > Level::Broken {
            // A case is complete by its own close, when all its exhibits are anchored.
            let enough = verdict.level == Level::Complete && exhibit.verdict.level == Level::Anchored;
            if !enough {
                verdict = exhibit.verdict;
            }
        } else if exhibit.verdict.level >= Level::Anchored {
            verdict.anchors = verdict.anchors.min(exhibit.verdict.anchors);
        }
    }
    if !options.trust.is_empty() && !log.trusted {
        findings.note("no trusted key signed the case's log");
    }
    let mut done = Verification::new(Kind::Case, folder, verdict, findings, counts, &log);
    done.unsigned_tail |= exhibits.iter().any(|exhibit| exhibit.unsigned_tail);
    if exhibits.iter().any(|exhibit| exhibit.ciphertext_only) {
        done.set_ciphertext_only();
    }
    if exhibits.iter().any(|exhibit| exhibit.data_not_read) {
        done.set_data_not_read();
    }
    done.exhibits = exhibits;
    done.threats = threats::of_case(threats::decide(&done, &log, options), threats_of);
    Ok(done)
}

/// `case.json` must be the file that the first entry names.
fn case_file(folder: &Path, log: &LogCheck, findings: &mut Findings) -> Result<Option<CaseFile>> {
    let place = || Place::file(case_layout::CASE);
    let bytes = match read_small(&case_layout::case_file(folder), MOST_CASE_FILE) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            findings.fault(place(), FaultKind::Missing, "the case's own file is not there");
            return Ok(None);
        }
        Err(error) => {
            findings.fault(place(), FaultKind::Unreadable, error.to_string());
            return Ok(None);
        }
    };
    let genesis = log.entries_of(&EntryType::LOG_GENESIS).next();
    let named =
        genesis.and_then(|entry| entry.about.subject.iter().find(|subject| subject.id == case_layout::CASE));
    match named.and_then(|subject| subject.sha256) {
        Some(sealed) if sealed != sha256(&bytes) => {
            findings.fault(
                place(),
                FaultKind::Changed,
                "it is not the file that the log's first entry names",
            );
        }
        Some(_) => match parse_case_file(&bytes) {
            Ok(file) => return Ok(Some(file)),
            Err(error) => findings.fault(place(), FaultKind::Changed, error.to_string()),
        },
        None => findings.fault(Place::entry(0), FaultKind::Entry, "the first entry does not name case.json"),
    }
    Ok(None)
}

/// Nothing but a case's own files may lie in its folder; `timeline/` and `reports/` are not looked into.
fn only_known_files(folder: &Path, findings: &mut Findings) -> Result<()> {
    let known = [
        case_layout::CASE,
        case_layout::LOG,
        case_layout::FRONTIER,
        case_layout::CHECKPOINT,
        case_layout::CHECKPOINTS,
        case_layout::ANCHORS,
        "keys",
        case_layout::EXHIBITS,
        case_layout::TIMELINE,
        case_layout::REPORTS,
        case_layout::DISPOSED,
    ];
    for name in names_in(folder, "")? {
        if std::fs::symlink_metadata(folder.join(&name)).is_ok_and(|kind| kind.is_symlink()) {
            findings.fault(Place::file(name), FaultKind::Unlisted, "it is a link, which may lead anywhere");
        } else if case_layout::LEFTOVERS.contains(&name.as_str()) {
            findings.note(format!("{name} was left over when a writer was interrupted; it is no evidence"));
        } else if name == case_layout::TAKING {
            findings.note(format!(
                "{name} holds what was being taken in from another machine when that was interrupted, or is just now; it is no evidence"
            ));
        } else if !known.contains(&name.as_str()) && !name.starts_with(case_layout::TORN_PREFIX) {
            findings.fault(Place::file(name), FaultKind::Unlisted, "it is no file of a case");
        }
    }
    for name in names_in(folder, "keys")?.iter().filter(|name| *name != "log.vkey") {
        let file = format!("keys/{name}");
        findings.fault(Place::file(file), FaultKind::Unlisted, "it is no file of a case");
    }
    let exhibits = exhibits_in(folder)?;
    let known: BTreeSet<_> = exhibits
        .iter()
        .map(|exhibit| exhibit.folder.file_name().unwrap_or_default().to_string_lossy())
        .collect();
    for name in names_in(folder, case_layout::EXHIBITS)?.iter().filter(|name| !known.contains(name.as_str()))
    {
        let file = format!("{}/{name}", case_layout::EXHIBITS);
        findings.fault(Place::file(file), FaultKind::Unlisted, "it is no exhibit");
    }
    Ok(())
}

/// Whether a folder is empty, or has no more than what a bundle's log is begun with before its first checkpoint.
fn holds_nothing(folder: &Path) -> Result<bool> {
    for name in names_in(folder, "")? {
        let is_of_a_beginning = match name.as_str() {
            case_layout::CHECKPOINTS | case_layout::ANCHORS => names_in(folder, &name)?.is_empty(),
            "keys" => {
                names_in(folder, &name)?.iter().all(|key| format!("keys/{key}") == case_layout::LOG_VKEY)
            }
            case_layout::LOG => is_not_past_its_first_entry(&folder.join(&name))?,
            case_layout::FRONTIER => true,
            leftover => case_layout::LEFTOVERS.contains(&leftover),
        };
        if !is_of_a_beginning {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a log is empty, or holds its first entry or a part of it and nothing else.
fn is_not_past_its_first_entry(log: &Path) -> Result<bool> {
    if !std::fs::symlink_metadata(log).is_ok_and(|log| log.is_file() && log.len() <= MAX_ENTRY as u64) {
        return Ok(false);
    }
    let bytes = read_small(log, MAX_ENTRY as u64)?.unwrap_or_default();
    let (line, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => bytes.split_at(end),
        // Torn: there is nothing after it in any case.
        None => return Ok(true),
    };
    Ok(rest.len() == 1 && Entry::parse(line).is_ok_and(|entry| entry.kind == EntryType::LOG_GENESIS))
}

/// Whether an entry of the case says that an exhibit held something.
fn tells_of_content(entry: &Entry, id: &str) -> bool {
    entry.about.exhibit.as_deref() == Some(id) && entry.kind != EntryType::EXHIBIT_ADDED
}

/// What is known of an exhibit that nothing was written to: no more than that it was added.
fn nothing_in(id: &str, name: &str) -> ExhibitVerdict {
    ExhibitVerdict {
        id: id.to_owned(),
        folder: format!("{}/{name}", case_layout::EXHIBITS),
        verdict: Verdict { level: Level::Open, anchors: 0 },
        fault_count: 0,
        unsigned_tail: false,
        ciphertext_only: false,
        data_not_read: false,
        log: LogSummary::default(),
    }
}

/// Every exhibit that was added must be there unless disposed of, and no other.
fn exhibits_and_log(log: &LogCheck, present: &BTreeMap<String, String>, findings: &mut Findings) {
    let mut added = BTreeSet::new();
    let gone = log.entries_of(&EntryType::ITEM_DISPOSED).filter(|entry| disposes_of_bundle(entry));
    // The last of each exhibit.
    let gone: BTreeMap<_, u64> = gone.map(|entry| (&entry.about.exhibit, entry.seq)).collect();
    for entry in log.entries_of(&EntryType::EXHIBIT_ADDED) {
        let Some(folder) = entry.how_text("folder") else { continue };
        added.insert(folder);
        let disposed = gone.get(&entry.about.exhibit).is_some_and(|seq| *seq > entry.seq);
        if !present.contains_key(folder) && !disposed {
            let file = format!("{}/{folder}", case_layout::EXHIBITS);
            let words = format!("entry {} added this exhibit and it is not there", entry.seq);
            findings.fault(Place::file(file), FaultKind::Missing, words);
        }
    }
    for folder in present.keys().filter(|folder| !added.contains(folder.as_str())) {
        let file = format!("{}/{folder}", case_layout::EXHIBITS);
        findings.fault(Place::file(file), FaultKind::Unlisted, "no exhibit.added entry of the case names it");
    }
}

/// An exhibit's log is at least as long as it was when the case was closed, and the same where it is as long.
fn as_closed(id: &str, log: &LogCheck, bundle: &mut Verification) {
    for entry in log.entries_of(&EntryType::CASE_CLOSED) {
        let states = entry.about.result.get("exhibits").and_then(Value::as_array).into_iter().flatten();
        for state in states.filter(|state| state.get("id").and_then(Value::as_str) == Some(id)) {
            let size = state.get("size").and_then(Value::as_u64).unwrap_or(0);
            let root = state.get("root").and_then(Value::as_str);
            let (entries, now) = (bundle.log.size, bundle.log.root.map(|root| root.to_string()));
            let place = Place::entry(entries);
            if entries < size {
                let words = format!(
                    "TRUNCATED: the log has {entries} entries, and had {size} when entry {} closed the case",
                    entry.seq
                );
                bundle.add_fault(place, FaultKind::Truncated, words);
            } else if entries == size && root.is_some() && root != now.as_deref() {
                let words =
                    format!("FORK: it has another root than when entry {} closed the case", entry.seq);
                bundle.add_fault(place, FaultKind::Fork, words);
            }
        }
    }
}

/// A bundle must lie under the number that its manifest gives it, in the case that it names, by id or by name.
fn belongs_here(id: &str, of: Option<&CaseFile>, bundle: &mut Verification) {
    let Some((exhibit, case)) = bundle.belongs.take() else { return };
    if exhibit != id {
        let words = format!("it is of exhibit {exhibit}, and lies where {id} should");
        bundle.add_fault(Place::file("manifest.json"), FaultKind::Manifest, words);
    }
    if let (Some(case), Some(of)) = (case, of)
        && case != of.id
        && case != of.name
    {
        let words = format!("it is of the case {case:?}, not of this one");
        bundle.add_fault(Place::file("manifest.json"), FaultKind::Manifest, words);
    }
}

/// Compares a bundle with what the case's log says of it; an anchored word of the case anchors the bundle too.
fn bound_by_case(id: &str, folder: &str, log: &LogCheck, options: &Options, bundle: &mut Verification) {
    let Some(manifest) = bundle.manifest_sha256 else {
        let names = |entry: &&Entry| {
            entry.about.exhibit.as_deref() == Some(id)
                && entry.about.subject.iter().any(|subject| subject.id == "manifest.json")
        };
        if let Some(entry) = log.landmarks.iter().find(names)
            && bundle.is_intact()
        {
            let words = format!(
                "TRUNCATED: entry {} of the case tells of a seal, and this log holds none",
                entry.seq
            );
            bundle.add_fault(Place::entry(bundle.log.size), FaultKind::Truncated, words);
        }
        return;
    };
    for entry in log.landmarks.iter().filter(|entry| entry.about.exhibit.as_deref() == Some(id)) {
        for subject in entry.about.subject.iter().filter(|subject| subject.id == "manifest.json") {
            if subject.sha256 != Some(manifest) {
                let words = format!("entry {} of the case names another manifest of {folder}", entry.seq);
                bundle.add_fault(Place::file("manifest.json"), FaultKind::Replaced, words);
            } else if bundle.verdict.level >= Level::Consistent {
                let anchors = covering_anchors(log, options, entry.seq);
                bundle.verdict.anchors = bundle.verdict.anchors.max(anchors);
                if anchors > 0 {
                    bundle.verdict.level = bundle.verdict.level.max(Level::Anchored);
                    threats::anchored_by_case(&mut bundle.threats, entry.seq, anchors);
                }
            }
        }
    }
}
