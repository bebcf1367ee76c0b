//! Everything that lies beside a log, read in one moment while nobody appends.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::Path;

use super::findings::{FaultKind, Findings, Place};
use crate::anchors::TimeStamp;
use crate::case_layout;
use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::custody_log::{MOST_ANCHOR, lock_shared};
use crate::digest::{Digest, sha256};
use crate::durable_file::{is_plain_file, read_small};
use crate::error::{Error, Result};
use crate::log_walk::{LogWalk, walk};
use crate::merkle::Frontier;
use crate::strict_json;

/// A log and what lies beside it.
#[derive(Debug)]
pub(super) struct LogFiles {
    pub(super) checkpoint: Option<SignedCheckpoint>,
    /// By file name.
    pub(super) kept: BTreeMap<String, SignedCheckpoint>,
    pub(super) anchors: BTreeMap<String, Anchor>,
    pub(super) torn: BTreeMap<String, (u64, Digest)>,
    pub(super) frontier: Option<Frontier>,
    pub(super) vkey: Option<Vec<u8>>,
    pub(super) walk: LogWalk,
}

#[derive(Debug)]
pub(super) struct Anchor {
    pub(super) size: u64,
    pub(super) sha256: Digest,
    pub(super) note: Option<SignedCheckpoint>,
    pub(super) stamp: Option<TimeStamp>,
    /// Certificates kept beside a token.
    pub(super) pem: Option<String>,
}

/// Reads a log under its shared lock; what is missing or damaged is a fault.
///
/// `more` holds sizes at which somebody outside knows the root.
pub(super) fn read(folder: &Path, more: &BTreeSet<u64>, findings: &mut Findings) -> Result<Option<LogFiles>> {
    let path = case_layout::log(folder);
    let place = || Place::file(case_layout::LOG);
    match is_plain_file(&path) {
        Ok(true) => {}
        Ok(false) => {
            findings.fault(place(), FaultKind::Missing, "there is no custody log");
            return Ok(None);
        }
        Err(_) => {
            findings.fault(place(), FaultKind::Unreadable, "it is no plain file");
            return Ok(None);
        }
    }
    let log = lock_shared(&path)?;
    let checkpoint = note(folder, case_layout::CHECKPOINT, findings)?;
    let mut kept = BTreeMap::new();
    for name in names_in(folder, case_layout::CHECKPOINTS)? {
        let path = format!("{}/{name}", case_layout::CHECKPOINTS);
        let Some(signed) = note(folder, &path, findings)? else { continue };
        if case_layout::kept_checkpoint_name(signed.checkpoint.size) == name {
            kept.insert(name, signed);
        } else {
            let words =
                format!("it is a checkpoint of size {}, kept under another name", signed.checkpoint.size);
            findings.fault(Place::file(path), FaultKind::Changed, words);
        }
    }
    let mut anchors = BTreeMap::new();
    for name in names_in(folder, case_layout::ANCHORS)? {
        let path = format!("{}/{name}", case_layout::ANCHORS);
        let Some(bytes) = small(folder, &path, MOST_ANCHOR, findings)? else {
            unreachable_name(&path, findings);
            continue;
        };
        let note = (bytes.len() <= MAX_NOTE).then(|| SignedCheckpoint::parse(&bytes).ok()).flatten();
        let stamp = if note.is_none() { TimeStamp::parse(&bytes).ok() } else { None };
        let pem =
            String::from_utf8(bytes.clone()).ok().filter(|text| text.starts_with("-----BEGIN CERTIFICATE"));
        anchors.insert(path, Anchor { size: bytes.len() as u64, sha256: sha256(&bytes), note, stamp, pem });
    }
    let mut torn = BTreeMap::new();
    for name in names_in(folder, "")?.into_iter().filter(|name| name.starts_with(case_layout::TORN_PREFIX)) {
        let Some(bytes) = small(folder, &name, 64 << 20, findings)? else {
            unreachable_name(&name, findings);
            continue;
        };
        torn.insert(name, (bytes.len() as u64, sha256(&bytes)));
    }
    let frontier = frontier(folder, findings)?;
    let vkey = small(folder, case_layout::LOG_VKEY, MAX_NOTE as u64, findings)?;
    if vkey.is_none() && !findings.names(case_layout::LOG_VKEY) {
        findings.fault(
            Place::file(case_layout::LOG_VKEY),
            FaultKind::Missing,
            "the log's first key is not there",
        );
    }
    let noted =
        kept.values().chain(&checkpoint).chain(anchors.values().filter_map(|anchor| anchor.note.as_ref()));
    let mut wanted: BTreeSet<u64> = noted.map(|signed| signed.checkpoint.size).collect();
    wanted.extend(more);
    wanted.extend(frontier.iter().map(Frontier::size));
    let walk = walk(BufReader::with_capacity(1 << 20, &log), &wanted)
        .map_err(|source| Error::Read { path, source })?;
    Ok(Some(LogFiles { checkpoint, kept, anchors, torn, frontier, vkey, walk }))
}

/// A file that is listed and cannot be opened by that name, because its true name had to be escaped.
fn unreachable_name(path: &str, findings: &mut Findings) {
    if !findings.names(path) {
        findings.fault(Place::file(path), FaultKind::Unlisted, "no file of a log is called so");
    }
}

fn frontier(folder: &Path, findings: &mut Findings) -> Result<Option<Frontier>> {
    let name = case_layout::FRONTIER;
    let Some(bytes) = small(folder, name, MAX_NOTE as u64, findings)? else {
        if !findings.names(name) {
            findings.fault(
                Place::file(name),
                FaultKind::Missing,
                "the cached edge of the log's tree is not there",
            );
        }
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    match Frontier::from_text(&text) {
        Ok(frontier) => Ok(Some(frontier)),
        Err(error) => {
            findings.fault(Place::file(name), FaultKind::Frontier, error.to_string());
            Ok(None)
        }
    }
}

/// A signed checkpoint; a fault when it is not there or none.
fn note(folder: &Path, path: &str, findings: &mut Findings) -> Result<Option<SignedCheckpoint>> {
    let Some(bytes) = small(folder, path, MAX_NOTE as u64, findings)? else {
        if !findings.names(path) {
            findings.fault(Place::file(path), FaultKind::Missing, "the signed checkpoint is not there");
        }
        return Ok(None);
    };
    match SignedCheckpoint::parse(&bytes) {
        Ok(signed) => Ok(Some(signed)),
        Err(error) => {
            findings.fault(Place::file(path), FaultKind::Changed, error.to_string());
            Ok(None)
        }
    }
}

/// A small plain file; `None` when it is not there, or with a fault when it is a link, a folder or too large.
fn small(folder: &Path, path: &str, most: u64, findings: &mut Findings) -> Result<Option<Vec<u8>>> {
    let full = folder.join(path);
    let about = match std::fs::symlink_metadata(&full) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: full, source }),
    };
    if !about.is_file() || about.len() > most {
        let words =
            if about.is_file() { format!("larger than {most} bytes") } else { "not a plain file".to_owned() };
        findings.fault(Place::file(path), FaultKind::Unreadable, words);
        return Ok(None);
    }
    read_small(&full, most)
}

/// The names in a folder of the log, sorted; names that are not UTF-8 are escaped, and so never found.
pub(super) fn names_in(folder: &Path, sub: &str) -> Result<BTreeSet<String>> {
    let path = folder.join(sub);
    let fault = |source| Error::Read { path: path.clone(), source };
    match std::fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(source) => Err(fault(source)),
        Ok(listing) => listing
            .map(|item| Ok(strict_json::escape_text(item.map_err(fault)?.file_name().as_encoded_bytes())))
            .collect(),
    }
}
