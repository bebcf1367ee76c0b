//! The check of a bundle whose data lies in a store elsewhere: what the store holds against the folder and its log.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use super::findings::{FaultKind, Findings, Place};
use super::{Options, bundle::SUMS};
use crate::bundle::{RemoteFile, RemotePlace, RemoteStore, STORE, read_remote};
use crate::case_layout;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::custody_log::lock_shared;
use crate::durable_file::read_small;
use crate::entry::MAX_ENTRY;
use crate::error::{Error, Result};
use crate::merkle::Frontier;
use crate::strict_json;

/// Where the data of a bundle lies.
#[derive(Debug)]
pub(super) enum DataPlace {
    /// In the bundle's folder.
    Here,
    /// Elsewhere, in these words, and nobody opened it.
    NotRead(String),
    /// Elsewhere, and open.
    There(Arc<dyn RemoteStore>),
}

/// Finds out where the data lies, and opens it if that was asked for.
///
/// A store that does not answer is an error: nothing is known of the evidence then.
pub(super) fn data_place(folder: &Path, options: &Options, findings: &mut Findings) -> Result<DataPlace> {
    let place = match RemotePlace::read(folder) {
        Ok(None) => return Ok(DataPlace::Here),
        Ok(Some(place)) => place,
        Err(error) => {
            findings.fault(Place::file(STORE), FaultKind::Changed, error.to_string());
            return Ok(DataPlace::NotRead("a place that cannot be read".to_owned()));
        }
    };
    let Some(remote) = &options.remote else { return Ok(DataPlace::NotRead(place.to_string())) };
    match remote.open(&place) {
        Ok(store) => Ok(DataPlace::There(store)),
        Err(source) => Err(Error::Read { path: place.to_string().into(), source }),
    }
}

/// Compares what a store holds beside the data with the folder; `files` are those of the folder.
pub(super) fn check(
    store: &dyn RemoteStore,
    folder: &Path,
    files: &BTreeSet<String>,
    findings: &mut Findings,
) -> Result<()> {
    let listing = store.listing();
    for fault in &listing.faults {
        findings.fault(Place::file(shown(&fault.path)), FaultKind::Version, &*fault.words);
    }
    if !listing.is_complete {
        findings.note(format!(
            "{} could not be listed: files that are there too many do not show",
            store.place()
        ));
        return Ok(());
    }
    let (mut entries, mut checkpoints) = (BTreeSet::new(), BTreeMap::new());
    let mut small = Vec::new();
    for path in listing.files.keys() {
        match RemoteFile::of(path) {
            RemoteFile::Data => {}
            RemoteFile::Entry(seq) => drop(entries.insert(seq)),
            RemoteFile::Checkpoint(size) => drop(checkpoints.insert(size, path.clone())),
            RemoteFile::Small => small.push(path.clone()),
            RemoteFile::Foreign => {
                let words = "an object of this name lies in the store, and no bundle in a store has one";
                findings.fault(Place::file(shown(path)), FaultKind::Unlisted, words);
            }
        }
    }
    for paths in small.chunks(256) {
        store.will_read(paths);
        for path in paths {
            small_file(store, folder, path, findings)?;
        }
    }
    let there: BTreeSet<&String> = small.iter().collect();
    for path in files.iter().filter(|path| !path.starts_with("data/") && !there.contains(path)) {
        findings.note(format!("{path} is here, and not in {}", store.place()));
    }
    log(store, folder, &entries, &checkpoints, findings)
}

/// A small file of the store must be the one of the folder.
fn small_file(store: &dyn RemoteStore, folder: &Path, path: &str, findings: &mut Findings) -> Result<()> {
    let most = if path == SUMS { 1 << 30 } else { 64 << 20 };
    if store.listing().files.get(path).is_none_or(|size| *size > most) {
        let words = "an object of this name lies in the store, larger than any such file of a bundle";
        findings.fault(Place::file(path), FaultKind::Unlisted, words);
        return Ok(());
    }
    let here = match read_small(&folder.join(path), most) {
        Ok(Some(here)) => here,
        Ok(None) if path.starts_with("anchors/") => {
            findings.note(format!("{} holds {path}, and this folder does not", store.place()));
            return Ok(());
        }
        Ok(None) => {
            let words = "an object of this name lies in the store, and nothing lists it";
            findings.fault(Place::file(path), FaultKind::Unlisted, words);
            return Ok(());
        }
        // What is wrong with the folder's own file is told where that is checked.
        Err(_) => return Ok(()),
    };
    if read_remote(store, path)? != here {
        let words = "the store holds other bytes under this name than the folder";
        findings.fault(Place::file(path), FaultKind::Changed, words);
    }
    Ok(())
}

/// Entries and checkpoints of the store must be those of the folder's log, without a gap.
fn log(
    store: &dyn RemoteStore,
    folder: &Path,
    entries: &BTreeSet<u64>,
    checkpoints: &BTreeMap<u64, String>,
    findings: &mut Findings,
) -> Result<()> {
    if let Some((_, gap)) = entries.iter().zip(0u64..).find(|(seq, at)| *seq != at) {
        let words = "this entry is not in the store, and later ones are";
        findings.fault(Place::file(RemoteFile::entry_path(gap)), FaultKind::Missing, words);
    }
    let all: Vec<String> = entries.iter().map(|seq| RemoteFile::entry_path(*seq)).collect();
    let mut ahead = all.chunks(256);
    let path = case_layout::log(folder);
    let Ok(log) = lock_shared(&path) else { return Ok(()) };
    let mut log = BufReader::new(log);
    let mut frontier = Frontier::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let fault = |source| Error::Read { path: path.clone(), source };
        (&mut log).take(MAX_ENTRY as u64 + 1).read_until(b'\n', &mut line).map_err(fault)?;
        // A torn tail is told where the log itself is checked.
        if line.pop() != Some(b'\n') {
            break;
        }
        let seq = frontier.size();
        frontier.push(&line);
        if entries.contains(&seq) {
            if seq.is_multiple_of(256) {
                store.will_read(ahead.next().unwrap_or_default());
            }
            let object = RemoteFile::entry_path(seq);
            let long = store.listing().files.get(&object).is_none_or(|size| *size > MAX_ENTRY as u64);
            if long || read_remote(store, &object)? != line {
                let words = format!("the store holds another entry {seq} than the log here");
                findings.fault(Place::file(object), FaultKind::Fork, words);
            }
        }
        if let Some(object) = checkpoints.get(&frontier.size()) {
            checkpoint(store, object, &frontier, findings)?;
        }
    }
    let (here, there) = (frontier.size(), entries.last().map_or(0, |last| last.saturating_add(1)));
    if there > here {
        let words = format!(
            "TRUNCATED: the store holds entries up to {}, and the log here ends before entry {here}",
            there - 1
        );
        findings.fault(Place::entry(here), FaultKind::Truncated, words);
    } else if there < here {
        let words = format!(
            "entries {there} to {} are not in {}: the next append puts them there",
            here - 1,
            store.place()
        );
        findings.note(words);
    }
    if let Some((size, object)) = checkpoints.last_key_value().filter(|(size, _)| **size > here) {
        let words = format!("TRUNCATED: a log of {size} entries was signed, and the log here has {here}");
        findings.fault(Place::file(object), FaultKind::Truncated, words);
    }
    Ok(())
}

/// A checkpoint of the store must be of the log as it is here.
fn checkpoint(store: &dyn RemoteStore, object: &str, log: &Frontier, findings: &mut Findings) -> Result<()> {
    let long = store.listing().files.get(object).is_none_or(|size| *size > MAX_NOTE as u64);
    let signed = if long { None } else { SignedCheckpoint::parse(&read_remote(store, object)?).ok() };
    match signed {
        None => {
            findings.fault(
                Place::file(object),
                FaultKind::Changed,
                "the object in the store is no checkpoint",
            );
        }
        Some(signed) if signed.checkpoint.size != log.size() || signed.checkpoint.root != log.root() => {
            let words = "FORK: the checkpoint in the store was signed for other entries than those here";
            findings.fault(Place::file(object), FaultKind::Fork, words);
        }
        Some(_) => {}
    }
    Ok(())
}

/// The path of an object, whatever a server says it is.
fn shown(path: &str) -> String {
    let cut: String = path.chars().take(300).collect();
    strict_json::escape_text(cut.as_bytes())
}
